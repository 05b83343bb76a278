"""What a count of successes says of the share behind it: exact for a promise, Wilson's interval for a gauge.

Kept apart from `pipeline.statistics`, which the service does not carry.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CERTAINTY = 0.95
HALVINGS = 60
"""Of an interval of length one: beyond what a double tells apart."""


def lower_bound(successes: int, total: int, certainty: float = CERTAINTY) -> float:
    """The share below which `successes` or more of `total` would come up with a chance of at most 1 - `certainty`.

    One-sided, exact for the binomial distribution: C. J. Clopper and E. S. Pearson, 1934.
    """
    if not successes:
        return 0.0
    low, high = 0.0, 1.0
    coefficients = _log_coefficients(successes, total)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(coefficients, total, middle) <= 1 - certainty else (low, middle)
    return low


def allowed_failures(total: int, level: float, certainty: float = CERTAINTY) -> int | None:
    """Most failures among `total` at which the lower bound is still `level`; None when even none is too many."""

    def too_few(successes: int) -> bool:
        return _tail(_log_coefficients(successes, total), total, level) > 1 - certainty

    if too_few(total):
        return None
    low, high = 0, total  # so many are enough, and all but so many are not: the bound of no success is 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if too_few(total - middle) else (middle, high)
    return low


def fewest(level: float, certainty: float = CERTAINTY) -> int:
    """How many texts it takes for the lower bound to reach `level` when none of them fails."""
    return math.ceil(math.log(1 - certainty) / math.log(level))


def wilson(successes: int, total: int, certainty: float = CERTAINTY) -> tuple[float, float]:
    """Both ends of the score interval of a share, `total` being at least one (E. B. Wilson, 1927)."""
    z = NormalDist().inv_cdf(0.5 + certainty / 2)
    share, spread = successes / total, z**2 / total
    center = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, min(center - half, share)), min(1.0, max(center + half, share))


def _log_coefficients(successes: int, total: int) -> NDArray[np.float64]:
    """Logarithm of `total` over k, for k from `successes` to `total`."""
    whole = math.lgamma(total + 1)
    return np.array(
        [whole - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(successes, total + 1)], dtype=np.float64
    )


def _tail(coefficients: NDArray[np.float64], total: int, share: float) -> float:
    """Chance of so many successes or more when each has the chance `share`, which lies between 0 and 1."""
    if share >= 1:
        return 1.0
    successes = np.arange(total - len(coefficients) + 1, total + 1)
    logs = coefficients + successes * math.log(share) + (total - successes) * math.log1p(-share)
    return float(np.exp(logs).sum())
