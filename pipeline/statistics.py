"""Intervals and tests, all at 95 %: pure functions of counts and samples, seeded, in numpy alone.

Three kinds of evidence, three methods. Right-or-wrong answers to the same examples are paired: the bootstrap draws the
2 x 2 table of who was right. Latencies drift with the machine, and the contestants of one round share that drift: the
bootstrap draws whole rounds (and where two contestants are judged, `pipeline.paired_rounds` compares them call by
call). A single row's percentile is bounded by its neighbours in the sorted sample.
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
    return Interval(value=share, low=max(min(center - half, share), 0.0), high=min(max(center + half, share), 1.0))


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
    both, only_candidate, only_reference = _draw_tables(candidate, reference, seed, resamples, pseudo_count)
    defined = both + only_reference > 0
    ratios = ((both + only_candidate)[defined]) / ((both + only_reference)[defined])
    return interval_of(float(candidate.sum() / reference.sum()), ratios, TAIL)


def accuracy_difference(
    candidate_right: ArrayLike,
    reference_right: ArrayLike,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    pseudo_count: float = _PSEUDO_COUNT,
) -> Interval:
    """Candidate's accuracy minus the reference's on the same examples, in shares of 1; drawn as `accuracy_ratio` is."""
    candidate, reference = np.asarray(candidate_right, bool), np.asarray(reference_right, bool)
    _, only_candidate, only_reference = _draw_tables(candidate, reference, seed, resamples, pseudo_count)
    value = (int(candidate.sum()) - int(reference.sum())) / len(candidate)
    return interval_of(value, (only_candidate - only_reference) / len(candidate), TAIL)


def difference(one: Interval, other: Interval) -> Interval:
    """One value minus the other, from their intervals alone, as if they were independent.

    The variance of each side is recovered from its own end point (MOVER; Zou and Donner, 2008), so skewed intervals
    stay skewed. Where the two are positively correlated, as measures on the same examples are, it is too wide.
    """
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    value = one.value - other.value
    return Interval(value=value, low=value - below, high=value + above)


def ratio(one: Interval, other: Interval) -> Interval:
    """One value over the other, from their intervals alone: `difference` of the logarithms.

    Raises `BenchError` when either interval reaches zero.
    """
    if min(one.low, other.low) <= 0:
        hint = "give the gate a threshold, or max_degradation as a number"
        raise BenchError("a ratio of what may be zero says nothing", hint)
    logs = (Interval(value=math.log(x.value), low=math.log(x.low), high=math.log(x.high)) for x in (one, other))
    found, value = difference(*logs), one.value / other.value
    low, high = (value * math.exp(end - found.value) for end in (found.low, found.high))
    return Interval(value=value, low=low, high=high)


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
    Drift between rounds makes it too narrow, so rows are compared round by round, never by these.
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
    samples = as_rounds(rounds)
    picks = _pick_rounds(len(samples), seed, resamples)
    return interval_of(float(np.median(samples)), _medians(samples, picks), _expanded_tail(len(samples)))


def ratio_of_medians(
    numerator: ArrayLike, denominator: ArrayLike, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Median over median of two contestants that took turns in the same rounds, both shaped `[rounds, samples]`.

    Each draw takes the same rounds for both, so what slowed a whole round down cancels. Percentile intervals of few
    blocks are too narrow; their tails are widened as Hesterberg (2015) does, to match Student's t.
    Raises `BenchError` when the two differ in rounds.
    """
    above, below = as_rounds(numerator), as_rounds(denominator)
    if len(above) != len(below):
        raise BenchError(f"{len(above)} rounds cannot be paired with {len(below)}: measure both in one run")
    picks = _pick_rounds(len(above), seed, resamples)
    ratios = _medians(above, picks) / _medians(below, picks)
    return interval_of(float(np.median(above) / np.median(below)), ratios, _expanded_tail(len(above)))


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
    return interval_of(statistic(np.arange(rounds)), np.array(draws), _expanded_tail(rounds))


def as_rounds(rounds: ArrayLike) -> NDArray[np.float64]:
    """Samples as `[rounds, samples]`, also those of one a round; `BenchError` unless there are any, all positive."""
    samples = np.asarray(rounds, float)
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.size == 0 or not (samples > 0).all():
        raise BenchError("a measurement holds no samples, or some that are not positive", "run the benchmark again")
    return samples


def _draw_tables(
    candidate: NDArray[np.bool_], reference: NDArray[np.bool_], seed: int, resamples: int, pseudo_count: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draws of how many examples both rows, only the candidate, and only the reference have right."""
    cells = np.array([np.sum((candidate == c) & (reference == r)) for c in (True, False) for r in (True, False)])
    smoothed = cells + pseudo_count
    draws = np.random.default_rng(seed).multinomial(cells.sum(), smoothed / smoothed.sum(), size=resamples)
    return draws[:, 0], draws[:, 1], draws[:, 2]


def _pick_rounds(rounds: int, seed: int, resamples: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).integers(rounds, size=(resamples, rounds))


def _medians(samples: NDArray[np.float64], picks: NDArray[np.intp]) -> NDArray[np.float64]:
    """Median of the samples of each draw's rounds."""
    chunks = (picks[start : start + _CHUNK] for start in range(0, len(picks), _CHUNK))
    return np.concatenate([np.median(samples[chunk].reshape(len(chunk), -1), axis=1) for chunk in chunks])


def interval_of(value: float, draws: NDArray[np.float64], tail: float = TAIL) -> Interval:
    """`value` with the quantiles of its `draws` that leave out `tail` on each side."""
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
