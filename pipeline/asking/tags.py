"""Labels of words: what `/tag` makes of a text's tokens, read at the words that the data set has.

A word has the label of its first token. Texts that are longer than the model reads are read in windows, as there.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from artifact.dataset import Example
from pipeline.asking.asked import Asking, Found, Step, TokenReader, check_finite, chunks
from pipeline.results import Answer
from serve.engine import Floats
from serve.passages.passage import Passage
from serve.passages.reading import Reading, join
from serve.passages.spans import OUTSIDE


def ask_tags(asking: Asking, examples: Sequence[Example], step: Step) -> Found:
    """The label of each word of each text."""
    engine = cast("TokenReader", asking.engine)
    labels = asking.info.labels
    silent = labels.index(OUTSIDE) if OUTSIDE in labels else 0
    answers: list[Answer] = []
    for chunk in chunks(examples):
        reading = Reading(engine=engine, texts=[each.text for each in chunk], overlap=engine.max_tokens // 4)
        pieces = engine.infer(reading.tokenize()).pieces["token_logits"]
        check_finite(asking.row, *pieces)
        for example, passage, windows, arrays in zip(
            chunk, reading.passages, reading.windows, reading.deal(pieces), strict=True
        ):
            answers.append(label_words(passage, join(windows, arrays), example.words or (), silent))
        step(len(chunk))
    return Found(answers=answers, strangeness=np.empty(0))


def label_words(passage: Passage, logits: Floats, words: Sequence[tuple[int, int]], silent: int) -> tuple[int, ...]:
    """Index of each word's label; `silent` for a word of which the tokenizer has no token, such as a lone control."""
    firsts = first_tokens(passage, words)
    best = logits.argmax(axis=-1) if len(logits) else np.empty(0, np.intp)
    return tuple(silent if first is None else int(best[first]) for first in firsts)


def first_tokens(passage: Passage, words: Sequence[tuple[int, int]]) -> list[int | None]:
    """The first token of the body that has a character of each word, if any has."""
    tokens = [
        (start, stop, token)
        for token, (start, stop) in enumerate(zip(passage.starts, passage.stops, strict=True))
        if start < stop
    ]
    found: list[int | None] = []
    place = 0
    for begin, end in words:
        while place < len(tokens) and tokens[place][1] <= begin:
            place += 1
        inside = place < len(tokens) and tokens[place][0] < end
        found.append(tokens[place][2] if inside else None)
    return found
