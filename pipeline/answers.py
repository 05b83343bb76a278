"""What the rows of a report answer to the texts they are scored on, one engine open at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from artifact.errors import BenchError, DataError
from artifact.progress import Advance, progress, say
from pipeline.rows import Row
from pipeline.rows_config import is_optional
from serve.trust.confidence import confidence_of

CHUNK = 256
"""Texts between two steps of the progress bar; the engines sort and batch inside one."""

Opener = Callable[[], Row]
ScoreKind = Literal["distance", "probability"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of one row, to the test split and to text from outside its domain."""

    predictions: list[int]
    """Label index of each test text."""
    seconds: float
    """That answering the test split took."""
    strangeness: NDArray[np.float64]
    """Of each test text: higher for one that looks less like those the model knows."""
    strangeness_outside: NDArray[np.float64]
    """Of each text from outside."""
    score: ScoreKind
    """What it is: the graph's own distance, or one less the largest probability."""


def answer_rows(
    openers: Mapping[str, Opener], labels: Sequence[str], texts: Sequence[str], outside: Sequence[str] = ()
) -> tuple[dict[str, Answers], dict[str, str]]:
    """The answers of every row, and why the optional ones that do not open here are absent.

    Raises `DataError` when an engine has other labels than the data, `BenchError` when an answer is not finite or a row
    that has to be there does not open.
    """
    answers, absent = {}, {}
    each = len(texts) + len(outside)
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
            answers[row] = _answer_row(row, engine, labels, texts=texts, outside=outside, advance=advance)
    return answers, absent


def _answer_row(
    row: str, engine: Row, labels: Sequence[str], *, texts: Sequence[str], outside: Sequence[str], advance: Advance
) -> Answers:
    if tuple(engine.labels) != tuple(labels):
        raise DataError(f"{row} answers with other labels than the data set has", "distil and export it again")
    begun = time.perf_counter()
    predictions, strangeness, score = _answer(row, engine, texts, advance)
    seconds = time.perf_counter() - begun
    return Answers(
        predictions=predictions,
        seconds=seconds,
        strangeness=strangeness,
        strangeness_outside=_answer(row, engine, outside, advance)[1],
        score=score,
    )


def _answer(
    row: str, engine: Row, texts: Sequence[str], advance: Advance
) -> tuple[list[int], NDArray[np.float64], ScoreKind]:
    """Label and strangeness of each text, and what that is."""
    answers: list[int] = []
    strangeness: list[NDArray[np.float64]] = [np.empty(0)]
    score: ScoreKind = "probability"
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        outputs = engine.run(chunk)
        if not np.isfinite(outputs.logits).all():
            raise BenchError(f"{row} gives logits that are not finite, first below test example {start + len(chunk)}")
        answers += outputs.logits.argmax(axis=1).tolist()
        if outputs.domain is not None:
            score = "distance"
        distance = 1 - confidence_of(outputs.logits) if outputs.domain is None else outputs.domain.reshape(len(chunk))
        strangeness.append(distance.astype(np.float64))
        advance(len(chunk), row)
    return answers, np.concatenate(strangeness), score
