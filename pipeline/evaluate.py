"""The evaluation stage: every row answers the test split as it will be deployed, and is scored on that.

Bundles answer through the serving runtime, the first model also in PyTorch as people run it today, and the floors say
what any encoder has to clear. Where the data has text from outside its domain, rows are scored on telling it apart too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifact.config import Config
from artifact.dataset import DatasetInfo, Example, Split, read_info, read_split
from artifact.manifest import write_json
from artifact.stage import Stage, Work
from pipeline.answers import Answers, Questions, answer_rows
from pipeline.auroc import auroc
from pipeline.metrics import Asked, score_all
from pipeline.recipe import Recipe
from pipeline.results import Evaluation, QualityRow
from pipeline.rows import measured_inputs, opener
from pipeline.tasks import kind_of_data

VERSION = 4

_SPLITS: tuple[Split, ...] = ("test", "out_of_domain", "validation")


class EvaluateConfig(Config):
    """What is evaluated, and against what."""

    rows: tuple[str, ...]
    """Rows of the report, in order."""
    reference: str
    """Row that the ratios are to."""
    seed: int = 1
    """Of the bootstrap."""


def evaluate_stage(recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that measures quality for `recipe` below its output folder `root`, and its work."""
    first = next(iter(recipe.deployed()))
    config = EvaluateConfig(rows=tuple(recipe.answering_rows()), reference=f"{first}/float32")
    inputs = measured_inputs(recipe, root)
    stage = Stage(
        name="evaluate", version=VERSION, kind="evaluation", out=root / "evaluation", config=config, inputs=inputs
    )
    return stage, lambda out: run_evaluation(config, root, out)


def run_evaluation(config: EvaluateConfig, root: Path, out: Path) -> Mapping[str, Any]:
    """Write `evaluation.json` to `out`; returns metric, quality and seconds of each row, and the number of examples.

    Of response selection also each row's threshold for NONE, which is chosen on the validation split.
    """
    from serve.threads import available_cores

    threads = available_cores()
    info = read_info(root / "data")
    splits = {name: read_split(root / "data", name) for name in _SPLITS}
    asked = Questions(info=info, test=splits["test"], outside=splits["out_of_domain"], validation=splits["validation"])
    answers, absent = answer_rows({row: opener(row, root, threads) for row in config.rows}, asked)
    evaluation = evaluate(answers, asked.test, info, reference=config.reference, seed=config.seed, absent=absent)
    write_json(out / "evaluation.json", evaluation.model_dump(mode="json"))
    quality = {name: row.quality.model_dump() for name, row in evaluation.rows.items()}
    chosen = {name: row.none_threshold.model_dump() for name, row in evaluation.rows.items() if row.none_threshold}
    return {
        "examples": len(asked.test),
        "metric": evaluation.metric,
        "quality": quality,
        "seconds": {name: answer.seconds for name, answer in answers.items()},
        "threads": threads,
        "out_of_domain_examples": len(asked.outside),
        **({"none_thresholds": chosen} if chosen else {}),
    }


def evaluate(
    answers: Mapping[str, Answers],
    test: Sequence[Example],
    info: DatasetInfo,
    *,
    reference: str,
    seed: int,
    absent: Mapping[str, str] | None = None,
) -> Evaluation:
    """The scores of `answers`, by row, on the test examples; `DataError` for a data set with nothing to score."""
    kind = kind_of_data(info)
    truths = tuple(kind.truth(example) for example in test)
    groups = [example.group for example in test] if info.groups else []
    asked = Asked(truths=truths, task=info.task, metric=info.quality, labels=info.labels, groups=groups)
    predictions = {name: answer.predictions for name, answer in answers.items()}
    thresholds = {name: each.none_threshold for name, each in answers.items() if each.none_threshold is not None}
    rows = score_all(asked, predictions, reference, seed=seed, thresholds=thresholds)
    scored = {name: _add_domain(row, answers[name]) for name, row in rows.items()}
    return Evaluation(
        task=info.task,
        metric=info.quality,
        reference=reference,
        labels=info.labels,
        truths=truths,
        rows=scored,
        absent=dict(absent or {}),
    )


def _add_domain(row: QualityRow, answers: Answers) -> QualityRow:
    if not len(answers.strangeness_outside):
        return row
    area = auroc(answers.strangeness, answers.strangeness_outside)
    scores = {
        "strangeness": tuple(answers.strangeness.tolist()),
        "strangeness_outside": tuple(answers.strangeness_outside.tolist()),
    }
    return row.model_copy(update={"out_of_domain_auroc": area, "out_of_domain_score": answers.score, **scores})
