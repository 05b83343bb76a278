"""Intervals and tests, all at 95 %: pure functions of counts and samples, seeded, in numpy alone.

Three kinds of evidence, three methods. Right-or-wrong answers to the same examples are paired: the bootstrap draws the
2 x 2 table of who was right. Latencies drift with the machine, and the contestants of one round share that drift: the
bootstrap draws whole rounds. A single row's percentile is bounded by its neighbours in the sorted sample.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artifact.errors import BenchError
from pipeline.results import Interval

RESAMPLES = 10_000
"""Bootstrap draws; the end points then move by about a hundredth of the interval's width from seed to seed."""

MINIMUM_ROUNDS = 6
"""Fewest rounds that can carry 95 %: all of k rounds lie on one side of the true median with chance 2 / 2^k."""

TAIL = 0.025
"""Chance left out on each side."""

_Z = NormalDist().inv_cdf(1 - TAIL)
_PSEUDO_COUNT = 0.5
_CHUNK = 500  # Draws held in memory at once: 500 x 4,800 samples are 19 MB.


def wilson(successes: int, total: int) -> Interval:
    """Share `successes / total` with Wilson's score interval, which stays inside 0..1 and is sound near the ends.

    E. B. Wilson, 1927. Raises `BenchError` when `total` is zero.
    """
    if total == 0:
        raise BenchError("a share of no examples has no value", "give the test split at least one example")
    share = successes / total
    spread = _Z**2 / total
    center = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return Interval(value=share, low=min(center - half, share), high=max(center + half, share))


def accuracy_ratio(
    candidate_right: ArrayLike,
    reference_right: ArrayLike,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    pseudo_count: float = _PSEUDO_COUNT,
) -> Interval:
    """Candidate's accuracy over the reference's on the same examples, by paired bootstrap.

    Drawing examples with replacement is drawing the four cells of the 2 x 2 table from a multinomial. Each cell first
    gets `pseudo_count` (Agresti and Min, 2005): two rows that agree on all of 20 examples are not known to agree on
    all that exist, and the bare bootstrap would say [1, 1]. Raises `BenchError` when the reference is never right.
    """
    candidate, reference = np.asarray(candidate_right, bool), np.asarray(reference_right, bool)
    if not reference.any():
        raise BenchError("the reference row answers no test example correctly, so no ratio to it exists")
    cells = np.array([np.sum((candidate == c) & (reference == r)) for c in (True, False) for r in (True, False)])
    smoothed = cells + pseudo_count
    draws = np.random.default_rng(seed).multinomial(cells.sum(), smoothed / smoothed.sum(), size=resamples)
    both, only_candidate, only_reference = draws[:, 0], draws[:, 1], draws[:, 2]
    defined = both + only_reference > 0
    ratios = ((both + only_candidate)[defined]) / ((both + only_reference)[defined])
    return _interval(float(candidate.sum() / reference.sum()), ratios, TAIL)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of two rows being equally often right, from the examples on which just one of them is.

    The conservative binomial test, not its mid-p variant. Without discordant examples p is 1.
    """
    smaller = np.arange(min(only_first, only_second) + 1)
    tail = float(np.exp(_log_binomial(only_first + only_second, 0.5)[smaller]).sum())
    return min(1.0, 2 * tail)


def percentile(samples: Sequence[float], share: float) -> Interval | None:
    """The `share` quantile (0.5 to below 1) with its interval by order statistics; free of any distribution.

    None unless n >= 10 / (1 - share): fewer samples put too few beyond the quantile. It takes samples as independent.
    Drift between rounds makes it too narrow, so rows are compared by `ratio_of_medians`, never by these.
    """
    n = len(samples)
    if round(n * (1 - share), 9) < 10:
        return None
    ordered = np.sort(np.asarray(samples, float))
    below = np.cumsum(np.exp(_log_binomial(n, share)))
    low = int(np.searchsorted(below, TAIL, side="right")) - 1
    high = int(np.searchsorted(below, 1 - TAIL, side="left"))
    return Interval(value=float(np.quantile(ordered, share)), low=float(ordered[low]), high=float(ordered[high]))


def median_of_rounds(rounds: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Median of all samples of `rounds`, shaped `[rounds, samples]`, with its interval by bootstrap over rounds."""
    samples = _as_rounds(rounds)
    picks = _pick_rounds(len(samples), seed, resamples)
    return _interval(float(np.median(samples)), _medians(samples, picks), _expanded_tail(len(samples)))


def ratio_of_medians(
    numerator: ArrayLike, denominator: ArrayLike, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Median over median of two contestants that took turns in the same rounds, both shaped `[rounds, samples]`.

    Each draw takes the same rounds for both, so what slowed a whole round down cancels. Percentile intervals of few
    blocks are too narrow; their tails are widened as Hesterberg (2015) does, to match Student's t.
    Raises `BenchError` when the two differ in rounds.
    """
    above, below = _as_rounds(numerator), _as_rounds(denominator)
    if len(above) != len(below):
        raise BenchError(f"{len(above)} rounds cannot be paired with {len(below)}: measure both in one run")
    picks = _pick_rounds(len(above), seed, resamples)
    ratios = _medians(above, picks) / _medians(below, picks)
    return _interval(float(np.median(above) / np.median(below)), ratios, _expanded_tail(len(above)))


def interval_over_rounds(
    rounds: int, statistic: Callable[[NDArray[np.intp]], float], *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Any number made of samples taken in rounds, with its interval by bootstrap over rounds.

    `statistic` is given numbers of rounds, with repetitions, and pools what all contestants did in those. Tails are
    widened as in `ratio_of_medians`. Raises `BenchError` when there are no rounds.
    """
    if rounds < 1:
        raise BenchError("a measurement holds no rounds", "run the benchmark again")
    draws = [statistic(pick) for pick in _pick_rounds(rounds, seed, resamples)]
    return _interval(statistic(np.arange(rounds)), np.array(draws), _expanded_tail(rounds))


def _as_rounds(rounds: ArrayLike) -> NDArray[np.float64]:
    samples = np.asarray(rounds, float)
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.size == 0 or not (samples > 0).all():
        raise BenchError("a measurement holds no samples, or some that are not positive", "run the benchmark again")
    return samples


def _pick_rounds(rounds: int, seed: int, resamples: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).integers(rounds, size=(resamples, rounds))


def _medians(samples: NDArray[np.float64], picks: NDArray[np.intp]) -> NDArray[np.float64]:
    """Median of the samples of each draw's rounds."""
    chunks = (picks[start : start + _CHUNK] for start in range(0, len(picks), _CHUNK))
    return np.concatenate([np.median(samples[chunk].reshape(len(chunk), -1), axis=1) for chunk in chunks])


def _interval(value: float, draws: NDArray[np.float64], tail: float) -> Interval:
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def _expanded_tail(blocks: int) -> float:
    if blocks < 2:
        return 0.0
    return NormalDist().cdf(-math.sqrt(blocks / (blocks - 1)) * _student_quantile(blocks - 1))


def _student_quantile(freedom: int) -> float:
    """Student's t at 1 - TAIL, by Abramowitz and Stegun's expansion 26.7.5.

    Within 0.01 of the truth from 4 degrees of freedom up.
    """
    z, v = _Z, freedom
    terms = (
        z,
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
    )
    return math.fsum(terms)


def _log_binomial(trials: int, share: float) -> NDArray[np.float64]:
    """Logarithm of the binomial probabilities of 0..`trials`."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    k = np.arange(trials + 1)
    choose = log_factorial[trials] - log_factorial - log_factorial[::-1]
    return np.asarray(choose + k * math.log(share) + (trials - k) * math.log1p(-share), dtype=np.float64)
