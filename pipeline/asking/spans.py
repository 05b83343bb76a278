"""Answers in contexts: what `/answer` says to each question, over all windows of its context."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from artifact.dataset import Example
from pipeline.asking.asked import Asking, Found, Step, TokenReader, check_finite, chunks
from pipeline.results import Answer
from serve.engine import Text
from serve.passages.answers import find_answers
from serve.passages.reading import Reading
from serve.problem import Problem

CHUNK = 32
"""Questions between two steps: a context is many windows."""

MOST_TOKENS = 30
"""Longest answer, as `/answer` has it where nobody says."""


def ask_answers(asking: Asking, examples: Sequence[Example], step: Step) -> Found:
    """The text of the likeliest answer; empty where it is likeliest that there is none, or that the service refuses."""
    engine = cast("TokenReader", asking.engine)
    answers: list[Answer] = []
    for chunk in chunks(examples, CHUNK):
        try:
            answers += _answer(asking.row, engine, [each.asked for each in chunk])
        except Problem:  # a question that leaves no room for its context, which the service answers with 413
            answers += [text for each in chunk for text in _answer_alone(asking.row, engine, each.asked)]
        step(len(chunk))
    return Found(answers=answers, strangeness=np.empty(0))


def _answer_alone(row: str, engine: TokenReader, asked: Text) -> list[str]:
    try:
        return _answer(row, engine, [asked])
    except Problem:
        return [""]


def _answer(row: str, engine: TokenReader, pairs: Sequence[Text]) -> list[str]:
    overlap = max(engine.max_tokens // 4, MOST_TOKENS - 1)
    reading = Reading(engine=engine, texts=pairs, overlap=overlap)
    pieces = engine.infer(reading.tokenize()).pieces
    begins, finishes = pieces["start_logits"], pieces["end_logits"]
    check_finite(row, *begins, *finishes)
    found = []
    for passage, windows, starts, ends in zip(
        reading.passages, reading.windows, reading.deal(begins), reading.deal(finishes), strict=True
    ):
        (best, *_), _ = find_answers(passage, windows, starts, ends, count=1, most_tokens=MOST_TOKENS)
        found.append(passage.text[best.start : best.stop])
    return found
