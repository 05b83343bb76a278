"""Metrics of labelled tokens: exact spans, as CoNLL-2003 scored names, and the share of right tags.

A span counts when its label and both its ends are right. Spans are read off the tags by seqeval, in its strict IOB2
reading for truths and predictions alike, so that a span that begins with `I-` is none.
"""

from collections.abc import Sequence

import numpy as np

from artifact.errors import BenchError
from pipeline.scores.tally import Numbers, Tally, divide

Tags = Sequence[str]
"""Of one sentence, in IOB2: `B-PER`, `I-PER`, `O`."""


def span_f1(truths: Sequence[Tags], predictions: Sequence[Tags], *, label: str | None = None) -> Tally:
    """Harmonic mean of precision and recall over all spans of all sentences, or over those of one `label`.

    Raises `BenchError` when a sentence got more or fewer tags than it has tokens.
    """
    columns = np.zeros((len(truths), 3))
    for row, (true, said) in enumerate(_sentences(truths, predictions)):
        expected, found = (_spans(tags, label) for tags in (true, said))
        columns[row] = len(expected & found), len(found), len(expected)
    return Tally(metric="span_f1", columns=columns, score=_f1)


def tag_accuracy(truths: Sequence[Tags], predictions: Sequence[Tags]) -> Tally:
    """Share of the tokens that got their tag, as parts of speech are scored; raises as `span_f1`."""
    counts = [
        (sum(a == b for a, b in zip(true, said, strict=True)), len(true))
        for true, said in _sentences(truths, predictions)
    ]
    columns = np.asarray(counts, dtype=float).reshape(-1, 2)
    return Tally(metric="tag_accuracy", columns=columns, score=lambda sums: divide(sums[..., 0], sums[..., 1]))


def _f1(sums: Numbers) -> Numbers:
    return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _spans(tags: Tags, label: str | None) -> set[tuple[str, int, int]]:
    """Label, first token and one past the last, of each span."""
    from seqeval.scheme import IOB2, Entities

    (found,) = Entities([list(tags)], IOB2).entities
    return {(span.tag, span.start, span.end) for span in found if label in (None, span.tag)}


def _sentences(truths: Sequence[Tags], predictions: Sequence[Tags]) -> list[tuple[Tags, Tags]]:
    if len(truths) != len(predictions):
        raise BenchError(f"there are tags of {len(predictions)} sentences, expected {len(truths)}")
    pairs = list(zip(truths, predictions, strict=True))
    for number, (true, said) in enumerate(pairs):
        if len(true) != len(said):
            raise BenchError(f"sentence {number} has {len(true)} tokens and got {len(said)} tags")
    return pairs
