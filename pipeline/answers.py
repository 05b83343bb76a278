"""What the rows of a report answer to the examples they are scored on, one engine open at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from artifact.dataset import DatasetInfo, Example
from artifact.errors import BenchError, DataError
from artifact.progress import Advance, progress, say
from pipeline.asking.asked import Asking, Step
from pipeline.asking.ranking import VALIDATION_QUERIES
from pipeline.results import Answer, NoneThreshold
from pipeline.rows import Row
from pipeline.rows_config import is_optional
from pipeline.tasks import TaskKind, kind_of_data
from serve.engine import KINDS_BY_TOKEN

Opener = Callable[[], Row]
ScoreKind = Literal["distance", "probability"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of one row, to the test split and to text from outside its domain."""

    predictions: list[Answer]
    """Of each test example; what they are, `pipeline.results.Answer` says by task."""
    seconds: float
    """That answering the test split took."""
    strangeness: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Of each test text: higher for one that looks less like those the model knows; empty where nothing is known."""
    strangeness_outside: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Of each text from outside."""
    score: ScoreKind = "probability"
    """What it is: the graph's own distance, or one less the largest probability."""
    none_threshold: NoneThreshold | None = None
    """Response selection: when it says that no candidate is right."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The examples that every row is asked."""

    info: DatasetInfo
    test: Sequence[Example]
    outside: Sequence[Example] = ()
    """Text from outside the domain."""
    validation: Sequence[Example] = ()
    """Where a task has to choose something of a row before it is scored."""


def answer_rows(openers: Mapping[str, Opener], asked: Questions) -> tuple[dict[str, Answers], dict[str, str]]:
    """The answers of every row, and why the optional ones that do not open here are absent.

    Raises `DataError` when an engine is of another task, or has other labels than the data, `BenchError` when an answer
    is not finite or a row that has to be there does not open.
    """
    answers, absent = {}, {}
    each = _count(kind_of_data(asked.info), asked)
    with progress("evaluate", total=len(openers) * each) as advance:
        for row, open_engine in openers.items():
            try:
                engine = open_engine()
            except BenchError as error:
                if not is_optional(row):
                    raise
                absent[row] = error.problem
                say(f"  {row} is left out: {error.problem}")
                advance(each, row)
                continue
            answers[row] = _answer_row(Asking(row=row, engine=engine, info=asked.info), asked, advance)
    return answers, absent


def _count(kind: TaskKind, asked: Questions) -> int:
    """Examples that each row is asked."""
    chosen_on = min(len(asked.validation), VALIDATION_QUERIES) if kind.choose else 0
    return len(asked.test) + chosen_on + (len(asked.outside) if kind.knows_outside else 0)


def _answer_row(asking: Asking, asked: Questions, advance: Advance) -> Answers:
    kind = kind_of_data(asked.info)
    _check(asking, kind)
    step: Step = partial(_tell, advance, asking.row)
    threshold = kind.choose(asking, asked.validation, step) if kind.choose else None
    begun = time.perf_counter()
    found = kind.ask(asking, asked.test, step)
    seconds = time.perf_counter() - begun
    outside = kind.ask(asking, asked.outside, step) if kind.knows_outside else None
    return Answers(
        predictions=found.answers,
        seconds=seconds,
        strangeness=found.strangeness,
        strangeness_outside=np.empty(0) if outside is None else outside.strangeness,
        score="distance" if found.by_distance else "probability",
        none_threshold=threshold,
    )


def _check(asking: Asking, kind: TaskKind) -> None:
    """`DataError` for a model of another task: by the columns it has, and by what its graph says of tokens."""
    problem = getattr(asking.engine, "problem", None)  # floors and cascades have columns and no graph
    graph = KINDS_BY_TOKEN.get(problem)
    if graph != kind.graph:
        raise DataError(
            f"{asking.row} is a {graph or 'model of whole texts'}, the data set is of {asking.info.task}",
            "name a model of that task",
        )
    if not asking.engine.labels and asking.info.labels and not kind.fits((), asking.info):
        raise DataError(
            f"{asking.row} embeds texts and says nothing of the task {asking.info.task}",
            "give it a head, set deploy: false, or make the task out-of-domain-detection",
        )
    if not kind.fits(asking.engine.labels, asking.info):
        raise DataError(f"{asking.row} answers with other labels than the data set has", "distil and export it again")


def _tell(advance: Advance, row: str, examples: int) -> None:
    advance(examples, row)
