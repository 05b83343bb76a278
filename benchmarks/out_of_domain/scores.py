"""How well one number a text, larger where it is stranger, tells texts out of domain from those in it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.float64]

NAMES = ("auroc", "aupr_in", "aupr_out", "fpr95", "dtacc")
RESAMPLES = 200


def measure_scores(inside: Distances, outside: Distances) -> dict[str, float]:
    """The measures of Xu et al. and of the field.

    `auroc`: the chance that a text from outside is farther than one from inside. `aupr_in`, `aupr_out`: average
    precision with texts from inside, or from outside, as those to be found. `fpr95`: the share of texts from outside
    that pass where 95 % of those from inside do. `dtacc`: the best mean of the two shares that are told rightly.
    """
    from sklearn.metrics import average_precision_score, roc_curve

    truths = np.repeat([0, 1], [len(inside), len(outside)])
    distances = np.concatenate([inside, outside])
    flagged_in, flagged_out, _ = roc_curve(truths, distances, drop_intermediate=False)
    return {
        "auroc": float(np.trapezoid(flagged_out, flagged_in)),
        "aupr_in": float(average_precision_score(1 - truths, -distances)),
        "aupr_out": float(average_precision_score(truths, distances)),
        "fpr95": float(1 - flagged_out[flagged_in <= 0.05 + 1e-12].max()),
        "dtacc": float(((flagged_out + 1 - flagged_in) / 2).max()),
    }


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
