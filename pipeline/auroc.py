"""How well a score tells two groups of texts apart, with its interval: a pure function of the scores.

The area under the ROC curve is the chance that a text from outside scores higher than one from inside, ties counting
half: 0.5 for a score that knows nothing, 1 for one that is never wrong, whatever threshold is chosen later.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artifact.errors import BenchError
from pipeline.results import Interval

TAIL = 0.025
"""Chance left out on each side."""


def auroc(inside: ArrayLike, outside: ArrayLike) -> Interval:
    """The area for scores that should be higher outside, with its 95 % interval.

    The variance is DeLong's (E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, 1988). The interval is taken on the
    logit scale, which keeps it within 0 and 1 and is nearer to its level for areas near 1 (M. S. Pepe, 2003, section
    5.2.4). Scores that are never wrong have no variance; then the bound is that of as many independent pairs as there
    are texts in the smaller group, all of them right (Clopper and Pearson). Raises `BenchError` for an empty group.
    """
    within, beyond = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    if not (len(within) and len(beyond)):
        raise BenchError("an area under the ROC curve needs texts of both groups")
    shares_within, shares_beyond = placements(within, beyond)
    value = float(shares_beyond.mean())
    if value in (0.0, 1.0):
        margin = 1 - TAIL ** (1 / min(len(within), len(beyond)))
        return Interval(value=value, low=max(0.0, value - margin), high=min(1.0, value + margin))
    variance = _variance_of_mean(shares_beyond) + _variance_of_mean(shares_within)
    center = math.log(value / (1 - value))
    half = NormalDist().inv_cdf(1 - TAIL) * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(center + side * half))) for side in (-1, 1))
    return Interval(value=value, low=min(low, value), high=max(high, value))


def placements(
    inside: NDArray[np.float64], outside: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each inner score the share of the outer ones above it, for each outer one that of the inner ones below it.

    Ties count half. The mean of either is the area; DeLong calls them structural components.
    """
    return 1 - _shares_below(outside, inside), _shares_below(inside, outside)


def _shares_below(others: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each of `scores`, the share of `others` that lie below it; those equal count half."""
    ordered = np.sort(others)
    below, upto = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray((below + upto) / (2 * len(others)), dtype=np.float64)


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
