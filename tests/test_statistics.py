import numpy as np
import pytest
import scipy.stats

from artifact.errors import BenchError
from pipeline import statistics
from pipeline.statistics import accuracy_ratio, mcnemar, median_of_rounds, percentile, ratio_of_medians, wilson


@pytest.mark.parametrize(("successes", "total"), [(0, 1), (1, 1), (0, 40), (40, 40), (37, 40), (4812, 5000)])
def test_wilson_is_scipy(successes, total):
    """Oracle: scipy's Wilson interval."""
    expected = scipy.stats.binomtest(successes, total).proportion_ci(method="wilson")
    found = wilson(successes, total)
    assert (found.value, found.low, found.high) == pytest.approx((successes / total, *expected), abs=1e-12)


def test_wilson_of_nothing_is_an_error():
    """Oracle: a share of no examples is no number."""
    with pytest.raises(BenchError, match="at least one example"):
        wilson(0, 0)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 9), (9, 3), (20, 21), (150, 90)])
def test_mcnemar_is_the_binomial_test(first, second):
    """Oracle: scipy's exact binomial test of the discordant examples."""
    expected = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_accuracy_ratio_is_the_bootstrap_of_examples():
    """Oracle: the bootstrap longhand, drawing example indices; without pseudo-counts, to Monte Carlo error."""
    random = np.random.default_rng(3)
    reference = random.random(400) < 0.9
    candidate = np.where(random.random(400) < 0.85, reference, ~reference)
    picks = random.integers(400, size=(20_000, 400))
    ratios = candidate[picks].sum(1) / reference[picks].sum(1)
    found = accuracy_ratio(candidate, reference, seed=1, resamples=20_000, pseudo_count=0)
    assert found.value == candidate.sum() / reference.sum()
    assert (found.low, found.high) == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.002)


def test_accuracy_ratio_is_seeded():
    """Oracle: identity under the same seed."""
    right = np.arange(100) % 7 > 0
    assert accuracy_ratio(right, ~right, seed=4) == accuracy_ratio(right, ~right, seed=4)


def test_accuracy_ratio_of_perfect_agreement_is_not_certainty():
    """Oracle: the rule of three. 30 examples without a difference leave room for one in ten."""
    found = accuracy_ratio([True] * 30, [True] * 30, seed=1)
    assert found.low < 0.97
    assert found.high > 1.03
    assert found.value == 1
    many = accuracy_ratio([True] * 3000, [True] * 3000, seed=1)
    assert many.low > 0.998


def test_accuracy_ratio_to_a_reference_that_is_never_right_is_an_error():
    """Oracle: nothing can be divided by zero right answers."""
    with pytest.raises(BenchError, match="no ratio"):
        accuracy_ratio([True, False], [False, False], seed=1)


def test_accuracy_ratio_covers_the_truth():
    """Oracle: simulation. Of 600 test sets of 200 examples, 95 % of the intervals hold the true ratio."""
    random = np.random.default_rng(5)
    shares = np.array([0.86, 0.03, 0.06, 0.05])  # both right, only candidate, only reference, neither
    truth = (shares[0] + shares[1]) / (shares[0] + shares[2])
    held = 0
    for seed in range(600):
        cell = random.choice(4, size=200, p=shares)
        found = accuracy_ratio((cell == 0) | (cell == 1), (cell == 0) | (cell == 2), seed=seed, resamples=1000)
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 600 <= 0.98


@pytest.mark.parametrize(
    ("n", "share", "known"), [(19, 0.5, False), (20, 0.5, True), (99, 0.9, False), (100, 0.9, True)]
)
def test_percentile_is_given_only_where_the_sample_carries_it(n, share, known):
    """Oracle: the rule n >= 10 / (1 - share)."""
    assert (percentile(list(range(1, n + 1)), share) is not None) is known


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_percentile_takes_the_binomial_ranks(share):
    """Oracle: scipy's binomial quantiles; the samples are their own ranks."""
    found = percentile(list(range(500)), share)
    low, high = scipy.stats.binom.ppf([0.025, 0.975], 500, share)
    assert (found.low, found.high) == (low - 1, high)
    assert found.value == pytest.approx(np.percentile(np.arange(500), 100 * share))


def test_percentile_covers_the_truth():
    """Oracle: simulation with a long-tailed latency whose median is exp(1)."""
    samples = np.random.default_rng(6).lognormal(1, 0.5, size=(1000, 60))
    found = [percentile(list(row), 0.5) for row in samples]
    assert np.mean([f.low <= np.e <= f.high for f in found]) >= 0.94


def _take_turns(random, rounds, calls, ratio):
    """Two contestants whose rounds share a drift of the machine."""
    drift = random.lognormal(0, 0.3, size=(rounds, 1))
    slow, fast = (drift * random.lognormal(0, 0.1, size=(rounds, calls)) for _ in range(2))
    return slow * ratio, fast


@pytest.mark.parametrize("ratio", [1.0, 5.0])
def test_ratio_of_medians_covers_the_truth(ratio):
    """Oracle: simulation. With ratio 1 it is the A/A test: a gate at 1 must be wrong in few of a hundred runs."""
    random = np.random.default_rng(7)
    held = 0
    for seed in range(300):
        found = ratio_of_medians(*_take_turns(random, 12, 20, ratio), seed=seed, resamples=800)
        held += found.low <= ratio <= found.high
    assert held / 300 >= 0.93


def test_ratio_of_medians_is_blind_to_drift_that_both_share():
    """Oracle: identity. Multiplying a round of both by the same factor leaves a ratio of constants as it is."""
    drift = np.array([[1.0], [9.0], [0.2], [4.0], [1.0], [3.0]])
    found = ratio_of_medians(drift * np.full((6, 5), 6.0), drift * np.full((6, 5), 2.0), seed=1)
    assert (found.low, found.value, found.high) == pytest.approx((3, 3, 3))


def test_ratio_of_medians_turns_over_with_its_arguments():
    """Oracle: identity. b / a is 1 over a / b, end points swapped."""
    slow, fast = _take_turns(np.random.default_rng(8), 10, 9, 2.0)
    one, other = ratio_of_medians(slow, fast, seed=1), ratio_of_medians(fast, slow, seed=1)
    assert (one.value, one.low, one.high) == pytest.approx((1 / other.value, 1 / other.high, 1 / other.low), rel=1e-3)


def test_ratio_of_medians_refuses_what_is_not_paired():
    """Oracle: rounds of different number have no pairs."""
    with pytest.raises(BenchError, match="3 rounds cannot be paired with 2"):
        ratio_of_medians([[1.0]] * 3, [[1.0]] * 2, seed=1)
    with pytest.raises(BenchError, match="not positive"):
        ratio_of_medians([[0.0]], [[1.0]], seed=1)


def test_median_of_rounds_is_the_ratio_to_one():
    """Oracle: `ratio_of_medians` to a contestant that always takes 1."""
    slow, _ = _take_turns(np.random.default_rng(9), 8, 5, 2.0)
    found, expected = median_of_rounds(slow, seed=2), ratio_of_medians(slow, np.ones((8, 1)), seed=2)
    assert found == expected


@pytest.mark.parametrize("freedom", [4, 5, 11, 40])
def test_student_quantile_is_scipy(freedom):
    """Oracle: scipy's Student quantile."""
    assert statistics._student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), abs=0.01)
