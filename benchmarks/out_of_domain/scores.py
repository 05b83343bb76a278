"""How well one number a text, larger where it is stranger, tells texts out of domain from those in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.scores.domain import domain_scores

Distances = NDArray[np.float64]

NAMES = ("auroc", "aupr_in", "aupr_out", "fpr95", "dtacc")
RESAMPLES = 200
PAIRED_RESAMPLES = 1000

_Measured = TypeVar("_Measured")


@dataclass(frozen=True, eq=False)
class Sides:
    """One score of the texts from inside and of those from outside."""

    inside: Distances
    outside: Distances


def measure_scores(inside: Distances, outside: Distances) -> Mapping[str, float]:
    """The measures of Xu et al. and of the field, of `pipeline.scores.domain`."""
    return domain_scores(inside.tolist(), outside.tolist())


def with_intervals(inside: Distances, outside: Distances) -> Mapping[str, tuple[float, float, float]]:
    """Each measure with its 95 % interval by bootstrap over the texts of either side: value, low, high."""
    random = np.random.default_rng(0)
    draws = [
        measure_scores(random.choice(inside, len(inside)), random.choice(outside, len(outside)))
        for _ in range(RESAMPLES)
    ]
    value = measure_scores(inside, outside)
    bounds = {name: np.quantile([draw[name] for draw in draws], (0.025, 0.975)).tolist() for name in NAMES}
    return {name: (value[name], *bounds[name]) for name in NAMES}


def area(sides: Sides) -> float:
    """AUROC: the share of pairs in which the text from outside is farther, ties counting half."""
    ordered = np.sort(sides.inside)
    below, upto = (np.searchsorted(ordered, sides.outside, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(ordered)))


def area_difference(one: Sides, other: Sides) -> tuple[float, float, float]:
    """AUROC of `one` less that of `other` on the same texts, with a 95 % interval by bootstrap, paired by text."""
    value = area(one) - area(other)
    draws = _resampled(one, other, lambda a, b: area(a) - area(b))
    low, high = np.quantile(draws, (0.025, 0.975))
    return value, float(low), float(high)


def _resampled(one: Sides, other: Sides, measure: Callable[[Sides, Sides], _Measured]) -> list[_Measured]:
    random, (inside, outside) = np.random.default_rng(0), (len(one.inside), len(one.outside))
    found = []
    for _ in range(PAIRED_RESAMPLES):
        rows, others = random.integers(inside, size=inside), random.integers(outside, size=outside)
        found.append(
            measure(Sides(one.inside[rows], one.outside[others]), Sides(other.inside[rows], other.outside[others]))
        )
    return found
