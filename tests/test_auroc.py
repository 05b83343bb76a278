"""The area under the ROC curve: its value, and how often its interval holds the truth."""

from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from artifact.errors import BenchError
from pipeline.auroc import auroc


def draw(seed, inside, outside, shift, decimals=None):
    random = np.random.default_rng(seed)
    scores = random.normal(size=inside), random.normal(shift, size=outside)
    return scores if decimals is None else tuple(np.round(each, decimals) for each in scores)


@pytest.mark.parametrize("decimals", [None, 0, 1])
def test_the_area_is_scikit_learns(decimals):
    """Oracle: scikit-learn's, also where many scores are equal."""
    for seed in range(20):
        inside, outside = draw(seed, 37, 23, 0.8, decimals)
        truths = [0] * len(inside) + [1] * len(outside)
        found = auroc(inside, outside)
        assert found.value == pytest.approx(roc_auc_score(truths, np.concatenate([inside, outside])), abs=1e-12)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_variance_is_delongs():
    """Oracle: his formula longhand over all pairs, for an interval on the logit scale."""
    inside, outside = draw(3, 30, 20, 1.0, 1)
    wins = (outside[None, :] > inside[:, None]) + 0.5 * (outside[None, :] == inside[:, None])
    area = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / len(inside) + wins.mean(axis=0).var(ddof=1) / len(outside)
    half = 1.959963985 * np.sqrt(variance) / (area * (1 - area))
    expected = 1 / (1 + np.exp(-(np.log(area / (1 - area)) + np.array([-half, half]))))
    found = auroc(inside, outside)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize("area", [0.75, 0.95])
def test_the_interval_holds_the_truth(area):
    """Oracle: two normal distributions whose area is known; of 1,000 intervals 950 should hold it, give or take 14."""
    shift = float(np.sqrt(2) * NormalDist().inv_cdf(area))
    found = [auroc(*draw(seed, 200, 80, shift)) for seed in range(1000)]
    assert 930 <= sum(each.low <= area <= each.high for each in found) <= 975


def test_scores_that_are_never_wrong():
    """Oracle: Clopper and Pearson's bound for as many pairs as the smaller group has texts; symmetric."""
    found = auroc(range(50), range(100, 120))
    assert (found.value, found.low, found.high) == (1, pytest.approx(0.025 ** (1 / 20)), 1)
    mirrored = auroc(range(100, 120), range(50))
    assert (mirrored.value, mirrored.low, mirrored.high) == (0, 0, pytest.approx(1 - found.low))


def test_scores_that_say_nothing():
    """Oracle: the definition; ties count half."""
    found = auroc([1, 1, 1], [1, 1])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    with pytest.raises(BenchError, match="needs texts of both groups"):
        auroc([], [1])
