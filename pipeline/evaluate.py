"""The evaluation stage: every row answers the test split as it will be deployed, and is scored on that.

Bundles answer through the serving runtime, the first model also in PyTorch as people run it today, and a bag of words
gives the floor that any encoder has to clear.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifact.config import Config
from artifact.dataset import Example, read_info, read_split
from artifact.errors import BenchError, DataError
from artifact.manifest import write_json
from artifact.progress import Advance, progress
from artifact.stage import Stage, Work
from pipeline.metrics import score_rows
from pipeline.recipe import Recipe
from pipeline.results import Evaluation
from pipeline.rows import opener
from serve.engine import Engine

VERSION = 1

FLOOR = "bag-of-words"
"""Row of the linear model on word counts."""

CHUNK = 256
"""Texts between two steps of the progress bar; the engines sort and batch inside one."""


class EvaluateConfig(Config):
    """What is evaluated, and against what."""

    rows: tuple[str, ...]
    """Rows of the report, in order; the floor is added."""
    reference: str
    """Row that the ratios are to."""
    seed: int = 1
    """Of the bootstrap and of the bag of words."""


Opener = Callable[[], Engine]


def evaluate_stage(recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that measures quality for `recipe` below its output folder `root`, and its work."""
    first = next(iter(recipe.classifiers()))
    config = EvaluateConfig(rows=tuple(recipe.row_names()), reference=f"{first}/float32")
    bundles = {f"bundle:{name}": root / "bundles" / name for name in recipe.classifiers()}
    inputs = {"data": root / "data", **bundles, f"model:{first}": root / "models" / first}
    stage = Stage(
        name="evaluate", version=VERSION, kind="evaluation", out=root / "evaluation", config=config, inputs=inputs
    )
    return stage, lambda out: run_evaluation(config, root, out)


def run_evaluation(config: EvaluateConfig, root: Path, out: Path) -> Mapping[str, Any]:
    """Write `evaluation.json` to `out`; returns accuracy and seconds of each row, and the number of examples."""
    from serve.threads import available_cores

    threads = available_cores()
    labels = read_info(root / "data").labels
    test, train = read_split(root / "data", "test"), read_split(root / "data", "train")
    openers = {row: opener(row, root, threads) for row in config.rows}
    predictions, seconds = answer_rows(openers, labels, [example.text for example in test])
    begun = time.perf_counter()
    predictions[FLOOR] = _bag_of_words(train, test, config.seed)
    seconds[FLOOR] = time.perf_counter() - begun
    evaluation = evaluate(predictions, test, labels, reference=config.reference, seed=config.seed)
    write_json(out / "evaluation.json", evaluation.model_dump(mode="json"))
    accuracy = {name: row.accuracy.model_dump() for name, row in evaluation.rows.items()}
    return {"examples": len(test), "accuracy": accuracy, "seconds": seconds, "threads": threads}


def answer_rows(
    openers: Mapping[str, Opener], labels: Sequence[str], texts: Sequence[str]
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Label index of each text by every row, and the seconds it took; one engine is open at a time.

    Raises `DataError` when an engine has other labels than the data, `BenchError` when an answer is not finite.
    """
    predictions, seconds = {}, {}
    with progress("evaluate", total=len(openers) * len(texts)) as advance:
        for row, open_engine in openers.items():
            engine = open_engine()
            if tuple(engine.labels) != tuple(labels):
                raise DataError(f"{row} answers with other labels than the data set has", "distil and export it again")
            begun = time.perf_counter()
            predictions[row] = _answer(row, engine, texts, advance)
            seconds[row] = time.perf_counter() - begun
    return predictions, seconds


def evaluate(
    predictions: Mapping[str, Sequence[int]],
    test: Sequence[Example],
    labels: Sequence[str],
    *,
    reference: str,
    seed: int,
) -> Evaluation:
    """The scores of `predictions`, by row, on the test examples."""
    truths = tuple(example.label for example in test)
    rows = score_rows(predictions, reference, truths, seed=seed)
    return Evaluation(reference=reference, labels=tuple(labels), truths=truths, rows=rows)


def _answer(row: str, engine: Engine, texts: Sequence[str], advance: Advance) -> list[int]:
    answers: list[int] = []
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        logits = engine.run(chunk).logits
        if not np.isfinite(logits).all():
            raise BenchError(f"{row} gives logits that are not finite, first below test example {start + len(chunk)}")
        answers += [int(answer) for answer in logits.argmax(axis=1)]
        advance(len(chunk), row)
    return answers


def _bag_of_words(train: Sequence[Example], test: Sequence[Example], seed: int) -> list[int]:
    from pipeline.baseline import bag_of_words

    texts, labels = [example.text for example in train], [example.label for example in train]
    return bag_of_words(texts, labels, [example.text for example in test], seed=seed)
