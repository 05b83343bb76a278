"""What rounds taken in turns say of two contestants: exact, free of any distribution, blind to a shared drift.

    ratio_of_rounds(slow.single_ms, fast.single_ms, confidence=confidence_of_looks(benchmark.looks))

In a round both answer the same texts in the same order. Each call is compared with the other's on the same text, which
gives a logarithm of a ratio for each. Turns are in random order, so of two equal contestants whatever else the machine
did in a round falls on either with the same chance: the round's logarithms are symmetric around zero, all of them
together; around the logarithm of the true ratio when one is slower. That is all that is asked. How the calls of a round
hang together is not, and intervals are exact for any number of rounds.

Of many calls a round, the signs count (`flipped_signs`), so that a round which something spoilt has no more than its
share. Of one sample a round, the ranks do (`signed_rank`).
"""

import bisect
import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artifact.errors import BenchError
from pipeline.results import Interval
from pipeline.statistics import as_rounds

CONFIDENCE = 0.95
"""Of every interval, over all looks."""


def confidence_of_looks(looks: int, confidence: float = CONFIDENCE) -> float:
    """Confidence of each interval when a growing sample is looked at `looks` times: all hold together at `confidence`.

    Bonferroni's inequality, which asks nothing of how the looks depend on each other. Pocock's bounds (1977) use how
    they do in normal samples; with 4 looks his intervals would be a twentieth narrower.
    """
    return 1 - (1 - confidence) / looks


def minimum_rounds(confidence: float) -> int:
    """Fewest rounds whose signed ranks can carry `confidence`: all k fall on one side by chance in 2 of 2^k runs."""
    return math.ceil(math.log2(2 / (1 - confidence)) - 1e-9)


def ratio_of_rounds(numerator: ArrayLike, denominator: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval:
    """Median ratio of two contestants' samples, both `[rounds, samples]` or `[rounds]`, paired sample by sample.

    Turned over, it is exactly the ratio of the other to the one. From fewer than `minimum_rounds` the interval spans
    all rounds, and carries less than `confidence`. Raises `BenchError` when the two differ in shape, or when a sample
    is not positive.
    """
    above, below = _pair(numerator, denominator)
    found = _center(np.log(above / below), confidence)
    return Interval(value=math.exp(found.value), low=math.exp(found.low), high=math.exp(found.high))


def difference_of_rounds(minuend: ArrayLike, subtrahend: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval:
    """Median difference in the samples' unit, else as `ratio_of_rounds`; a drift that multiplies both stays in it."""
    first, second = _pair(minuend, subtrahend)
    return _center(first - second, confidence)


def flipped_signs(differences: ArrayLike, confidence: float) -> Interval:
    """Median of all `differences`, `[rounds, samples]`, and between which values rounds that are symmetric have it.

    A value is outside where so many of the differences are on one side of it that rounds whose sides were dealt by
    chance, each as a whole, would seldom have as many. Of a random subset of the rounds the surplus on that side is
    then seldom nothing, which is the same chance (Hartigan, 1969), monotone in the value, and counted exactly here.
    """
    sample = np.asarray(differences, float)
    places, tail = np.unique(sample), (1 - confidence) / 2 + 1e-12

    def is_low(place: int) -> bool:
        """Whether what is just below that place is too low."""
        return _chance_of_no_surplus(2 * (sample >= places[place]).sum(1) - sample.shape[1]) <= tail

    def is_high(place: int) -> bool:
        return _chance_of_no_surplus(2 * (sample <= places[place]).sum(1) - sample.shape[1]) <= tail

    value, indices = float(np.median(sample)), range(len(places))
    low = bisect.bisect_left(indices, True, key=lambda place: not is_low(place)) - 1
    high = bisect.bisect_left(indices, True, key=is_high)
    return Interval(
        value=value,
        low=min(float(places[max(low, 0)]), value),
        high=max(float(places[min(high, len(places) - 1)]), value),
    )


def signed_rank(values: ArrayLike, confidence: float) -> Interval:
    """Centre of a symmetric distribution: the median of all means of two values, and the Walsh averages that bound it.

    With fewer values than `minimum_rounds(confidence)` the interval is from the least to the greatest.
    """
    sample = np.asarray(values, float)
    first, second = np.triu_indices(len(sample))
    averages = np.sort((sample[first] + sample[second]) / 2)
    rank = max(_critical_rank(len(sample), (1 - confidence) / 2), 1)
    return Interval(value=float(np.median(averages)), low=float(averages[rank - 1]), high=float(averages[-rank]))


def median_of_one(rounds: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval:
    """Median of one contestant's samples, with the order statistics of its rounds' medians as its interval.

    Free of any distribution, also of a skewed one. It takes rounds as independent, which those of a machine that gets
    slower are not: milliseconds of one moment are no property of a build.
    """
    samples = as_rounds(rounds)
    medians = np.sort(np.median(samples, axis=1))
    below = np.cumsum([math.comb(len(medians), k) / 2 ** len(medians) for k in range(len(medians))])
    rank = max(int(np.searchsorted(below, (1 - confidence) / 2 + 1e-12, side="right")), 1)
    value = float(np.median(samples))
    return Interval(value=value, low=min(float(medians[rank - 1]), value), high=max(float(medians[-rank]), value))


def _center(differences: NDArray[np.float64], confidence: float) -> Interval:
    if differences.shape[1] == 1:
        return signed_rank(differences[:, 0], confidence)
    return flipped_signs(differences, confidence)


def _chance_of_no_surplus(surpluses: NDArray[np.int64]) -> float:
    """P(sum <= 0) of a subset of the `surpluses`, each of them in it with chance a half."""
    least = int(-surpluses[surpluses < 0].sum())
    chances = np.zeros(least + int(surpluses[surpluses > 0].sum()) + 1)
    chances[least] = 1.0  # of the sum 0, before any is drawn
    for surplus in surpluses:
        chances = (chances + np.roll(chances, surplus)) / 2  # no sum is beyond either end, so none comes round
    return float(chances[: least + 1].sum())


@functools.cache
def _critical_rank(count: int, tail: float) -> int:
    """The greatest c with P(W < c) <= `tail`, W the sum of the positive ranks of values around zero; 0 if none."""
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, count + 1):  # each rank is positive or not, with chance a half
        ways[rank:] = ways[rank:] + ways[:-rank]
        ways /= 2
    return int(np.searchsorted(np.cumsum(ways), tail + 1e-12, side="right"))


def _pair(one: ArrayLike, other: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = as_rounds(one), as_rounds(other)
    if first.shape != second.shape:
        what = "rounds" if len(first) != len(second) else "samples a round"
        sides = (len(first), len(second)) if what == "rounds" else (first.shape[1], second.shape[1])
        raise BenchError(f"{sides[0]} {what} cannot be paired with {sides[1]}: measure both in one run")
    return first, second
