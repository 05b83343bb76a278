"""Labels of tokens as spans of characters.

A word has the label of its first token, as token classifiers are trained. `B-PER` begins a span, `I-PER` goes on with
one (or begins it, where none of its name goes on), `O` is none. A label that is not of that form, such as a part of
speech, is a span of its own for each word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from serve.engine import Floats, softmax
from serve.passages.alignment import whole
from serve.passages.passage import Passage

OUTSIDE = "O"
"""The label of what belongs to no span."""


class Span(NamedTuple):
    """Some characters of a text, and what they are."""

    label: str
    score: float
    """Probability of the label; of several words, the mean."""
    start: int
    """First character."""
    stop: int
    """One past the last."""


@dataclass(frozen=True)
class _Tag:
    """One of the model's labels, taken apart."""

    name: str
    joins: bool
    """Whether it goes on with a span of its name."""


def find_spans(passage: Passage, logits: Floats, labels: Sequence[str]) -> list[Span]:
    """The spans that `logits` (`[tokens, labels]`, of the passage's body) mark, in the order of the text."""
    spans: list[Span] = []
    parts: list[float] = []
    last: _Tag | None = None
    for label, score, start, stop in _label_words(passage, logits, labels):
        tag = read_label(label)
        if tag is None:
            last = None
            continue
        if last is not None and tag.joins and tag.name == last.name:
            parts.append(score)
            spans[-1] = Span(tag.name, sum(parts) / len(parts), spans[-1].start, stop)
        else:
            parts = [score]
            spans.append(Span(tag.name, score, start, stop))
        last = tag
    return spans


def list_tokens(passage: Passage, logits: Floats, labels: Sequence[str]) -> list[Span]:
    """Every token of the body with its own label, as the model names it, `O` included."""
    scores = softmax(logits)
    columns = scores.argmax(axis=-1)
    sure = np.take_along_axis(scores, columns[:, None], axis=-1)[:, 0].tolist()
    rows = zip(columns.tolist(), sure, passage.starts, passage.stops, strict=True)
    return [Span(labels[column], score, start, stop) for column, score, start, stop in rows]


def read_label(label: str) -> _Tag | None:
    """`B-PER`, `I-PER` or a bare label; None for `O`."""
    if label == OUTSIDE:
        return None
    prefix, dash, name = label.partition("-")
    if dash and name and prefix in ("B", "I"):
        return _Tag(name, joins=prefix == "I")
    return _Tag(label, joins=False)


def _label_words(passage: Passage, logits: Floats, labels: Sequence[str]) -> Iterator[Span]:
    """Each word with the label of its first token; a word without any character is none."""
    if not passage.words:
        return
    firsts = np.flatnonzero(np.diff(passage.words, prepend=-1))
    scores = softmax(logits[firsts])
    columns = scores.argmax(axis=-1)
    sure = np.take_along_axis(scores, columns[:, None], axis=-1)[:, 0]
    bounds = pairwise([*firsts.tolist(), len(passage.words)])
    for (first, end), column, score in zip(bounds, columns.tolist(), sure.tolist(), strict=True):
        place = passage.characters(first, end)
        if place is not None:
            yield Span(labels[column], score, *whole(passage.text, *place))
