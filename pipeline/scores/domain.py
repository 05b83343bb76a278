"""Metrics of telling in-domain text from other text by a score: AUROC, AUPR of either side, FPR95, DTACC.

The score grows with distance: what is far is out of the domain. Of a detector's output, none of these needs a
threshold, and none may choose one: what is deployed has a threshold from in-domain text alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artifact.errors import BenchError
from pipeline.auroc import auroc, placements
from pipeline.scores.tally import Numbers, Tally, divide


def domain_scores(inside: Sequence[float], outside: Sequence[float]) -> Mapping[str, float]:
    """All five by their names; raises `BenchError` when a side is empty or a score is no number."""
    near, far = _check("in-domain", inside), _check("out-of-domain", outside)
    return {
        "auroc": auroc(near, far).value,
        "aupr_in": aupr(-far, -near),
        "aupr_out": aupr(near, far),
        "fpr95": false_positive_rate(near, far, 0.95),
        "dtacc": detection_accuracy(near, far),
    }


def area(truths: Sequence[int], distances: Sequence[float]) -> Tally:
    """AUROC as what each text adds to it; 1 in `truths` marks one from outside.

    A draw adds up each text's share of right comparisons with all texts of the other side, not only with those drawn:
    the first-order part of the area (Hoeffding), on which DeLong's variance rests too, and so a sum. Raises
    `BenchError` when a side is empty or a distance is no number.
    """
    true, numbers = np.asarray(truths) == 1, np.asarray(distances, dtype=float)
    if len(true) != len(numbers):
        raise BenchError(f"{len(true)} truths and {len(numbers)} distances cannot be compared")
    shares = np.empty(len(true))
    inside, outside = _check("in-domain", numbers[~true]), _check("out-of-domain", numbers[true])
    shares[~true], shares[true] = placements(inside, outside)
    columns = np.stack([shares * ~true, ~true, shares * true, true], axis=1).astype(float)
    value = float(shares[true].mean())

    def score(sums: Numbers) -> Numbers:
        within, beyond = (divide(sums[..., column], sums[..., column + 1]) for column in (0, 2))
        return np.clip(within + beyond - value, 0, 1)

    return Tally(metric="auroc", columns=columns, score=score)


def aupr(negatives: NDArray[np.float64], positives: NDArray[np.float64]) -> float:
    """Average precision: the mean, over positives, of precision at their score. Not interpolated."""
    true, said = _counts(negatives, positives)
    precision = true / said
    recall_gained = np.diff(np.concatenate([[0.0], true])) / len(positives)
    return float((precision * recall_gained).sum())


def false_positive_rate(inside: NDArray[np.float64], outside: NDArray[np.float64], passed: float) -> float:
    """Share of the other texts taken for in-domain, at the tightest threshold that lets `passed` of the latter pass."""
    threshold = np.sort(inside)[int(np.ceil(passed * len(inside))) - 1]
    return float((outside <= threshold).mean())


def detection_accuracy(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Best mean of the two sides' accuracies over all thresholds: DTACC of Lee et al., 2018 (arXiv 1807.03888)."""
    true, said = _counts(inside, outside)
    flagged_inside, flagged_outside = (said - true) / len(inside), true / len(outside)
    return float(max(0.5, ((1 - flagged_inside + flagged_outside) / 2).max()))


def _counts(
    negatives: NDArray[np.float64], positives: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positives, and all, with scores at least each distinct score, from the highest down."""
    scores = np.concatenate([positives, negatives])
    order = np.argsort(-scores, kind="stable")
    descending, true = scores[order], np.cumsum(order < len(positives))
    last = np.flatnonzero(np.append(descending[1:] < descending[:-1], True))
    return true[last].astype(np.float64), (last + 1).astype(np.float64)


def _check(side: str, scores: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(scores, dtype=float)
    if not numbers.size or not np.isfinite(numbers).all():
        raise BenchError(f"the {side} scores are empty, or some are no numbers")
    return numbers
