"""The evaluation stage: every row answers the test split as it will be deployed, and is scored on that.

Bundles answer through the serving runtime, the first model also in PyTorch as people run it today, and the floors say
what any encoder has to clear. Where the data has text from outside its domain, rows are scored on telling it apart too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifact.config import Config
from artifact.dataset import Example, read_info, read_split
from artifact.manifest import write_json
from artifact.stage import Stage, Work
from pipeline.answers import Answers, answer_rows
from pipeline.auroc import auroc
from pipeline.metrics import score_rows
from pipeline.recipe import Recipe
from pipeline.results import Evaluation, QualityRow
from pipeline.rows import measured_inputs, opener

VERSION = 2


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
    config = EvaluateConfig(rows=tuple(recipe.row_names()), reference=f"{first}/float32")
    inputs = measured_inputs(recipe, root)
    stage = Stage(
        name="evaluate", version=VERSION, kind="evaluation", out=root / "evaluation", config=config, inputs=inputs
    )
    return stage, lambda out: run_evaluation(config, root, out)


def run_evaluation(config: EvaluateConfig, root: Path, out: Path) -> Mapping[str, Any]:
    """Write `evaluation.json` to `out`; returns accuracy and seconds of each row, and the number of examples."""
    from serve.threads import available_cores

    threads = available_cores()
    labels = read_info(root / "data").labels
    test, outside = read_split(root / "data", "test"), read_split(root / "data", "out_of_domain")
    openers = {row: opener(row, root, threads) for row in config.rows}
    texts, strange = ([example.text for example in split] for split in (test, outside))
    answers, absent = answer_rows(openers, labels, texts, strange)
    evaluation = evaluate(answers, test, labels, reference=config.reference, seed=config.seed, absent=absent)
    write_json(out / "evaluation.json", evaluation.model_dump(mode="json"))
    accuracy = {name: row.accuracy.model_dump() for name, row in evaluation.rows.items()}
    seconds = {name: answer.seconds for name, answer in answers.items()}
    facts = {"examples": len(test), "accuracy": accuracy, "seconds": seconds, "threads": threads}
    return facts | {"out_of_domain_examples": len(outside)}


def evaluate(
    answers: Mapping[str, Answers],
    test: Sequence[Example],
    labels: Sequence[str],
    *,
    reference: str,
    seed: int,
    absent: Mapping[str, str] | None = None,
) -> Evaluation:
    """The scores of `answers`, by row, on the test examples."""
    truths = tuple(example.label for example in test)
    predictions = {name: answer.predictions for name, answer in answers.items()}
    rows = score_rows(predictions, reference, truths, seed=seed)
    scored = {name: _add_domain(row, answers[name]) for name, row in rows.items()}
    return Evaluation(reference=reference, labels=tuple(labels), truths=truths, rows=scored, absent=dict(absent or {}))


def _add_domain(row: QualityRow, answers: Answers) -> QualityRow:
    if not len(answers.strangeness_outside):
        return row
    area = auroc(answers.strangeness, answers.strangeness_outside)
    return row.model_copy(update={"out_of_domain_auroc": area, "out_of_domain_score": answers.score})
