"""Metrics of choosing the next utterance among candidates, where none may be right: NOESIS II (DSTC8, track 2).

Recall at k and mean reciprocal rank are of the queries that have a right candidate, as the organisers' scripts count
them, and NONE is no candidate there. Whether a query has none is a yes or no of its own, from a threshold on the best
probability that was chosen on validation. The track ranked systems by the mean of MRR and recall at 10.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from artifact.errors import BenchError
from pipeline.scores.tally import Numbers, Tally, divide

NONE = -1
"""Label of a query without a right candidate."""


def ranks_of(scores: Sequence[Sequence[float]], labels: Sequence[int]) -> NDArray[np.float64]:
    """Rank of each query's right candidate, from 1, ties sharing the mean of theirs; infinite where there is none.

    Raises `BenchError` for a label that is no candidate, or a score that is no number.
    """
    if len(scores) != len(labels):
        raise BenchError(f"there are scores of {len(scores)} queries, expected {len(labels)}")
    ranks = np.full(len(labels), np.inf)
    for query, (found, label) in enumerate(zip(scores, labels, strict=True)):
        numbers = np.asarray(found, dtype=float)
        if not np.isfinite(numbers).all() or not NONE <= label < len(numbers):
            raise BenchError(f"query {query} has the label {label} and {len(numbers)} scores, some of them no numbers")
        if label != NONE:
            # A model that scores all alike has chosen nothing: its right candidate is not first but in the middle.
            ranks[query] = 1 + np.sum(numbers > numbers[label]) + (np.sum(numbers == numbers[label]) - 1) / 2
    return ranks


def recall_at(ranks: NDArray[np.float64], k: int) -> Tally:
    """Share of the queries with a right candidate that have it among their first `k`."""
    return _of_answerable(f"recall_at_{k}", ranks, (ranks <= k).astype(float))


def mean_reciprocal_rank(ranks: NDArray[np.float64]) -> Tally:
    """Mean of 1 / rank of the right candidate, over the queries that have one."""
    return _of_answerable("mean_reciprocal_rank", ranks, 1 / ranks)


def track_score(ranks: NDArray[np.float64]) -> Tally:
    """Mean of MRR and recall at 10, by which NOESIS II ranked."""
    return _of_answerable("mean_of_mrr_and_recall_at_10", ranks, (1 / ranks + (ranks <= 10)) / 2)


def none_f1(none_scores: Sequence[float], labels: Sequence[int], *, threshold: float) -> Tally:
    """F1 of saying that no candidate is right, which is said where the score for it is above `threshold`."""
    said, true = np.asarray(none_scores, dtype=float) > threshold, np.asarray(labels) == NONE
    columns = np.stack([said & true, said, true], axis=1).astype(float)

    def score(sums: Numbers) -> Numbers:
        return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])

    return Tally(metric="none_f1", columns=columns, score=score)


def choose_none_threshold(none_scores: Sequence[float], labels: Sequence[int]) -> float:
    """The threshold with the best F1, halfway between two scores; the caller takes care that they are of validation."""
    scores = np.asarray(none_scores, dtype=float)
    true = np.asarray(labels) == NONE
    order = np.argsort(scores, kind="stable")[::-1]
    descending, hits = scores[order], np.cumsum(true[order])
    cuts = np.flatnonzero(np.append(descending[1:] < descending[:-1], True)) if len(scores) else np.array([], np.intp)
    f1 = divide(2.0 * hits[cuts], cuts + 1.0 + true.sum())
    if not len(cuts) or not f1.max():
        return float("inf")
    last = int(cuts[int(f1.argmax())])
    below = descending[last + 1] if last + 1 < len(descending) else descending[last] - 2.0
    return float((descending[last] + below) / 2)


def _of_answerable(metric: str, ranks: NDArray[np.float64], values: NDArray[np.float64]) -> Tally:
    answerable = np.isfinite(ranks)
    columns = np.stack([np.where(answerable, values, 0.0), answerable.astype(float)], axis=1)
    return Tally(metric=metric, columns=columns, score=lambda sums: divide(sums[..., 0], sums[..., 1]))
