"""Metrics of one label a text, and of one quantity a text: accuracy, F1, Matthews, Pearson, Spearman."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artifact.errors import BenchError
from pipeline.scores.tally import Numbers, Tally, divide, mean_tally

Indices = NDArray[np.intp]


def accuracy(truths: Sequence[int], predictions: Sequence[int]) -> Tally:
    """Share of the texts that got their label."""
    truth, said = _pair(truths, predictions)
    return mean_tally("accuracy", truth == said)


def f1(truths: Sequence[int], predictions: Sequence[int], *, positive: int = 1) -> Tally:
    """Harmonic mean of precision and recall of one label, as GLUE scores MRPC."""
    truth, said = (labels == positive for labels in _pair(truths, predictions))
    columns = np.stack([truth & said, said, truth], axis=1).astype(float)
    return Tally(metric="f1", columns=columns, score=lambda sums: divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2]))


def macro_f1(truths: Sequence[int], predictions: Sequence[int], *, labels: int) -> Tally:
    """Mean over `labels` labels of each one's F1; a label that is neither true nor predicted counts as 0."""
    truth, said = (np.eye(labels)[found] for found in _pair(truths, predictions))

    def score(sums: Numbers) -> Numbers:
        right, predicted, true = np.split(sums, 3, axis=-1)
        return np.asarray(divide(2 * right, predicted + true).mean(axis=-1))

    return Tally(metric="macro_f1", columns=np.concatenate([truth * said, said, truth], axis=1), score=score)


def matthews_correlation(truths: Sequence[int], predictions: Sequence[int]) -> Tally:
    """Correlation of two labels, 0 and 1, with the truth, as GLUE scores CoLA (B. W. Matthews, 1975)."""
    truth, said = (labels.astype(bool) for labels in _pair(truths, predictions))
    columns = np.stack([truth & said, ~truth & ~said, ~truth & said, truth & ~said], axis=1).astype(float)

    def score(sums: Numbers) -> Numbers:
        hits, rejections, alarms, misses = (sums[..., column] for column in range(4))
        product = (hits + alarms) * (hits + misses) * (rejections + alarms) * (rejections + misses)
        return divide(hits * rejections - alarms * misses, np.sqrt(product))

    return Tally(metric="matthews_correlation", columns=columns, score=score)


def pearson(truths: ArrayLike, predictions: ArrayLike) -> Tally:
    """Linear correlation of two quantities, as GLUE scores STS-B beside Spearman's."""
    return _correlation("pearson", *_quantities(truths, predictions))


def spearman(truths: ArrayLike, predictions: ArrayLike) -> Tally:
    """Correlation of ranks, ties sharing the mean of theirs.

    A draw correlates the ranks among all examples, not new ranks among those drawn: for hundreds of examples the two
    hardly differ, and so it is a sum.
    """
    from scipy.stats import rankdata

    return _correlation("spearman", *(rankdata(each) for each in _quantities(truths, predictions)))


def _correlation(metric: str, x: Numbers, y: Numbers) -> Tally:
    # Centred beforehand: sums of squares of large numbers would lose the digits that are left.
    x, y = (each - each.mean() for each in (x, y))
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

    def score(sums: Numbers) -> Numbers:
        count, sum_x, sum_y, xx, yy, xy = (sums[..., column] for column in range(6))
        spread = np.sqrt(np.maximum(xx - sum_x**2 / count, 0) * np.maximum(yy - sum_y**2 / count, 0))
        return divide(xy - sum_x * sum_y / count, spread)

    return Tally(metric=metric, columns=columns, score=score)


def _pair(truths: Sequence[int], predictions: Sequence[int]) -> tuple[Indices, Indices]:
    _check(len(truths), len(predictions))
    return np.asarray(truths, dtype=np.intp), np.asarray(predictions, dtype=np.intp)


def _quantities(truths: ArrayLike, predictions: ArrayLike) -> tuple[Numbers, Numbers]:
    x, y = np.asarray(truths, dtype=float), np.asarray(predictions, dtype=float)
    _check(len(x), len(y))
    return x, y


def _check(truths: int, predictions: int) -> None:
    if truths != predictions:
        raise BenchError(f"there are {predictions} answers to {truths} examples")
