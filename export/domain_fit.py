"""Fitting an out-of-domain gate: shrunk covariances, layer by layer, and a one-class machine that weighs the layers.

Xu et al. choose the machine's looseness and the sign of its score by the test set's own out-of-domain texts. Here both
are fixed: no text from outside is ever seen, and farther is always larger.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from export.config import Weighting
from export.domain import Gate

LOOSENESS = 0.1
"""The machine's nu: the share of texts that it may leave on the wrong side."""

Means = Float[np.ndarray, "texts layers hidden"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A gate, and what is worth knowing of how it was fitted."""

    gate: Gate
    shrinkage: tuple[float, ...]
    """How far each layer's covariance was drawn to a sphere: 0 not at all, 1 wholly."""


def fit_gate(means: Means, weighting: Weighting = "equal") -> Fit:
    """The gate of texts with these means of hidden states.

    Each layer's covariance is Ledoit's and Wolf's, which has an inverse however few the texts are.
    """
    from sklearn.covariance import LedoitWolf

    fitted = [LedoitWolf(store_precision=False).fit(means[:, layer]) for layer in range(means.shape[1])]
    unweighed = Gate(
        centres=np.stack([each.location_ for each in fitted]),
        whitenings=np.stack([whiten(each.covariance_) for each in fitted]),
        weights=np.full(means.shape[1], 1 / means.shape[1]),
    )
    weights = weigh(layer_distances(means, unweighed)) if weighting == "svm" else unweighed.weights
    gate = Gate(centres=unweighed.centres, whitenings=unweighed.whitenings, weights=weights)
    return Fit(gate=gate, shrinkage=tuple(float(each.shrinkage_) for each in fitted))


def whiten(covariance: Float[np.ndarray, "hidden hidden"]) -> Float[np.ndarray, "hidden hidden"]:
    """`W` with `W W^T` the inverse of `covariance`."""
    values, vectors = np.linalg.eigh(covariance)
    smallest = values.max() * np.finfo(np.float32).eps  # a channel that never varies says nothing, and not infinity
    return np.asarray(vectors / np.sqrt(np.maximum(values, max(smallest, np.finfo(np.float32).tiny))))


def weigh(distances: Float[np.ndarray, "texts layers"]) -> Float[np.ndarray, " layers"]:
    """The direction of a linear one-class machine on the layers' distances, as weights that add up to one.

    It is a mean, weighed by non-negative numbers, of the distances of the nearest tenth of the texts: no weight is
    negative, and more distance can only mean more. Should it collapse all the same, every layer weighs alike.
    """
    from sklearn.svm import OneClassSVM

    direction = OneClassSVM(kernel="linear", nu=LOOSENESS).fit(distances).coef_[0]
    if not np.isfinite(direction).all() or direction.min() < 0 or direction.sum() <= 0:
        return np.full(distances.shape[1], 1 / distances.shape[1])
    return np.asarray(direction / direction.sum())


def layer_distances(means: Means, gate: Gate) -> Float[np.ndarray, "texts layers"]:
    """Squared Mahalanobis distance of each text in each layer, divided by the hidden size."""
    layers = zip(gate.centres, gate.whitenings, strict=True)
    columns = [
        (((means[:, layer] - centre) @ whitening) ** 2).mean(axis=1) for layer, (centre, whitening) in enumerate(layers)
    ]
    return np.stack(columns, axis=1)


def distances_of(means: Means, gate: Gate) -> Float[np.ndarray, " texts"]:
    """What the guarded graph answers, in numpy."""
    return np.asarray(layer_distances(means, gate) @ gate.weights)
