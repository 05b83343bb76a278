"""Intervals of rounds taken in turns hold what they promise, and nothing is asked of the noise."""

import itertools

import numpy as np
import pytest
import scipy.stats

from artifact.errors import BenchError
from pipeline.paired_rounds import (
    _critical_rank,
    confidence_of_looks,
    difference_of_rounds,
    flipped_signs,
    median_of_one,
    minimum_rounds,
    ratio_of_rounds,
    signed_rank,
)


@pytest.mark.parametrize("count", [1, 5, 6, 9, 10])
@pytest.mark.parametrize("tail", [0.025, 0.00625, 0.005])
def test_critical_ranks_are_those_of_all_signs(count, tail):
    """Oracle: every pattern of signs, enumerated; W is the sum of the ranks that are positive."""
    sums = np.array([sum(pattern) for pattern in itertools.product(*((0, rank) for rank in range(1, count + 1)))])
    rank = _critical_rank(count, tail)
    assert rank == 0 or np.mean(sums < rank) <= tail
    assert np.mean(sums < rank + 1) > tail


@pytest.mark.parametrize("confidence", [0.95, 0.9875])
def test_signed_rank_is_wilcoxons_test_turned_over(confidence):
    """Oracle: scipy's exact signed rank test, which rejects what is just outside and nothing that is just inside."""
    values = np.random.default_rng(1).normal(size=14)
    found = signed_rank(values, confidence)
    for end, inward in ((found.low, 1), (found.high, -1)):
        outside = scipy.stats.wilcoxon(values - end + inward * 1e-9, method="exact").pvalue
        inside = scipy.stats.wilcoxon(values - end - inward * 1e-9, method="exact").pvalue
        assert outside <= 1 - confidence < inside
    assert found.low < found.value < found.high


def test_few_rounds_carry_no_confidence():
    """Oracle: all of k rounds are on one side by chance in 2 of 2^k runs."""
    assert [minimum_rounds(c) for c in (0.95, 0.9875, 0.99)] == [6, 8, 8]
    assert minimum_rounds(1 - 2 / 2**7) == 7


def test_looks_share_what_may_go_wrong():
    """Oracle: Bonferroni's sum."""
    assert confidence_of_looks(1) == 0.95
    assert 4 * (1 - confidence_of_looks(4)) == pytest.approx(0.05)


def test_a_ratio_turns_over_with_its_arguments():
    """Oracle: identity, to the last digits: b / a is 1 over a / b, end points swapped."""
    random = np.random.default_rng(2)
    slow, fast = random.lognormal(1, 0.3, size=(9, 7)), random.lognormal(0, 0.3, size=(9, 7))
    one, other = ratio_of_rounds(slow, fast), ratio_of_rounds(fast, slow)
    expected = (1 / other.value, 1 / other.high, 1 / other.low)
    assert (one.value, one.low, one.high) == pytest.approx(expected, rel=1e-12)


def test_a_drift_that_both_share_cancels():
    """Oracle: identity. Whatever multiplies a round of both leaves a ratio of constants as it is."""
    drift = np.array([[1.0], [9.0], [0.2], [4.0], [1.0], [3.0]])
    found = ratio_of_rounds(drift * np.full((6, 5), 6.0), drift * np.full((6, 5), 2.0))
    assert (found.low, found.value, found.high) == pytest.approx((3, 3, 3))


def test_calls_are_compared_text_by_text():
    """Oracle: texts of lengths as different as 1 to 100, of which each takes one contestant a tenth longer."""
    texts = np.random.default_rng(6).uniform(1, 100, size=(8, 15))
    found = ratio_of_rounds(1.1 * texts, texts)
    assert (found.low, found.value, found.high) == pytest.approx((1.1, 1.1, 1.1))


def test_a_neighbour_in_a_quarter_of_the_rounds_moves_nothing_far():
    """Oracle: Hodges and Lehmann's breakdown point, 29 %: the estimate stays among the rounds that are sound."""
    slow = np.full(20, 1.1) * np.random.default_rng(3).lognormal(0, 0.01, 20)
    spoilt = slow.copy()
    spoilt[:5] *= 1000
    found = ratio_of_rounds(spoilt, np.ones(20))
    assert slow.min() <= found.value <= slow.max()
    assert found.low > 1.05


@pytest.mark.parametrize("neighbour", [0.0, 0.3])
@pytest.mark.parametrize("rounds", [8, 20])
def test_intervals_of_equals_hold_one(rounds, neighbour):
    """Oracle: simulation. Equal contestants, of which a neighbour slows either in some rounds by up to half."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        turns = random.lognormal(0, 0.2, rounds) * random.lognormal(0, 0.03, (2, rounds))
        turns *= np.where(random.random((2, rounds)) < neighbour, random.uniform(1, 1.5, (2, rounds)), 1)
        found = ratio_of_rounds(turns[0], turns[1], confidence=0.95)
        held += found.low <= 1 <= found.high
    assert held >= 372


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_flipped_signs_are_those_of_all_ways_to_deal_the_rounds(confidence):
    """Oracle: every way to swap the contestants round by round, enumerated, around values beside each end."""
    values = np.random.default_rng(7).normal(size=(9, 5)) + np.random.default_rng(8).normal(size=(9, 1))
    found = flipped_signs(values, confidence)
    flips = np.array(list(itertools.product((1, -1), repeat=9)))

    def chance(value, side):
        surplus = side * np.sign(values - value).sum(1)
        return np.mean(flips @ surplus >= surplus.sum())

    for end, side in ((found.low, 1), (found.high, -1)):
        assert chance(end - side * 1e-9, side) <= (1 - confidence) / 2 < chance(end + side * 1e-9, side)
    assert found.low < found.value == np.median(values) < found.high


def test_few_rounds_of_many_calls_span_all_calls():
    """Oracle: the least and the greatest: 5 rounds fall on one side by chance in 2 of 32 runs, 6 in 2 of 64."""
    values = np.random.default_rng(9).normal(size=(6, 30))
    spans = [flipped_signs(values[:rounds], 0.95) for rounds in (5, 6)]
    assert (spans[0].low, spans[0].high) == (values[:5].min(), values[:5].max())
    assert values.min() < spans[1].low < spans[1].high < values.max()


@pytest.mark.parametrize("rounds", [8, 20])
def test_intervals_of_equals_hold_one_however_calls_hang_together(rounds):
    """Oracle: simulation. Whole rounds in which one of two equals is up to twice as slow, calls with long tails."""
    random = np.random.default_rng(10)
    held = 0
    for _ in range(400):
        turns = random.lognormal(0, 0.05, (2, rounds, 1)) * random.lognormal(0, 0.1, (2, rounds, 12))
        turns *= np.where(random.random((2, rounds, 1)) < 0.3, random.uniform(1, 2, (2, rounds, 1)), 1)
        turns *= 1 + (random.random(turns.shape) < 0.1) * random.exponential(4, turns.shape)
        found = ratio_of_rounds(turns[0], turns[1], confidence=0.95)
        held += found.low <= 1 <= found.high
    assert held >= 372


def test_spoilt_rounds_count_no_more_than_others():
    """Oracle: identity: how far the calls of a spoilt round are off, a tenth or a thousand times, changes nothing."""
    random = np.random.default_rng(11)
    slow, spoilt = random.lognormal(0.1, 0.02, (2, 20, 9))[0], np.ones((20, 1))
    spoilt[:3] = 2.0
    mild, wild = (ratio_of_rounds(slow * spoilt**power, np.ones((20, 9))) for power in (1, 10))
    assert mild == wild
    assert mild.low > 1.05


def test_a_difference_has_the_unit_of_its_samples():
    """Oracle: constants."""
    found = difference_of_rounds([[3.0, 3.0, 9.0]] * 6, [[1.0] * 3] * 6)
    assert (found.low, found.value, found.high) == (2, 2, 2)


def test_median_of_one_takes_the_order_statistics_of_rounds():
    """Oracle: scipy's binomial; for ten rounds at 95 % the second and the last but one."""
    found = median_of_one([[float(k)] for k in range(1, 11)])
    assert (found.low, found.value, found.high) == (2, 5.5, 9)
    assert scipy.stats.binom.cdf(1, 10, 0.5) <= 0.025 < scipy.stats.binom.cdf(2, 10, 0.5)


def test_rounds_that_do_not_pair_are_refused():
    """Oracle: the message a user reads."""
    with pytest.raises(BenchError, match="3 rounds cannot be paired with 2"):
        ratio_of_rounds([1.0] * 3, [1.0] * 2)
    with pytest.raises(BenchError, match="3 samples a round cannot be paired with 2"):
        ratio_of_rounds([[1.0] * 3] * 6, [[1.0] * 2] * 6)
    with pytest.raises(BenchError, match="not positive"):
        ratio_of_rounds([0.0], [1.0])
