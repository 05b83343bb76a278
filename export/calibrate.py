"""Ranges of activations, for scales that are fixed before anybody asks: two passes over the texts, a histogram each.

The first pass finds each activation's least and greatest value, the second counts values between them. Every method
reads its range off the same histogram, so trying all of them costs two passes, and memory does not grow with the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx
from jaxtyping import Float, Int, UInt8

from artifact.errors import ExportError
from export.grid import Inputs
from export.surgery import watch

Method = Literal["minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)

BINS = 2048
"""Bins of a histogram: eight for each step of 8 bits, where nothing is clipped."""
TAIL_SHARE = 0.0001
"""Share of values that `percentile` clips, half of it at each end."""
_CANDIDATES = 64
"""Thresholds that `entropy` tries, evenly spaced up to the greatest magnitude."""
_STEPS = 255
_UNSEEN = 1e-6
"""Probability `entropy` gives to what the quantized values never show, so that the divergence stays finite."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often an activation had a value in each of `BINS` equal bins from `low` to `high`."""

    low: float
    high: float
    counts: Int[np.ndarray, " bins"]


def calibrate(model: onnx.ModelProto, names: Sequence[str], batches: Sequence[Inputs]) -> dict[str, Histogram]:
    """Histograms of the activations `names` of a float32 graph over the texts of `batches`, padding left out.

    Raises `ExportError` when there are no texts, or when an activation is not finite.
    """
    if not any(inputs["attention_mask"].any() for inputs in batches):
        raise ExportError("there is no text to calibrate with", "give at least one; some hundred are better")
    low, high = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for activations in watch(model, names, batches):
        for name, values in activations.items():
            if values.size:
                low[name], high[name] = min(low[name], float(values.min())), max(high[name], float(values.max()))
    faulty = [name for name in names if not np.isfinite((low[name], high[name])).all()]
    if faulty:
        raise ExportError(f"activation {faulty[0]} is not finite on the calibration texts", "check the model's weights")
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in names}
    for activations in watch(model, names, batches):
        for name, values in activations.items():
            counts[name] += np.histogram(values, bins=BINS, range=(low[name], high[name]))[0]
    return {name: Histogram(low=low[name], high=high[name], counts=counts[name]) for name in names}


def range_of(histogram: Histogram, method: Method) -> tuple[float, float]:
    """Least and greatest value to be told apart; what lies beyond is clipped."""
    if method == "minmax":
        return histogram.low, histogram.high
    return _percentile_range(histogram) if method == "percentile" else _entropy_range(histogram)


def scale_of(low: float, high: float) -> tuple[Float[np.ndarray, ""], UInt8[np.ndarray, ""]]:
    """Scale and zero point of uint8 for values from `low` to `high`; zero itself is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _STEPS or 1.0
    return np.array(scale, dtype=np.float32), np.array(round(-low / scale), dtype=np.uint8)


def _edges(histogram: Histogram) -> Float[np.ndarray, " edges"]:
    return np.linspace(histogram.low, histogram.high, BINS + 1)


def _percentile_range(histogram: Histogram) -> tuple[float, float]:
    """The bins that hold all but `TAIL_SHARE` of the values."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    first = int(np.searchsorted(share, TAIL_SHARE / 2, side="right"))
    last = int(np.searchsorted(share, 1 - TAIL_SHARE / 2))
    edges = _edges(histogram)
    return float(edges[first]), float(edges[min(last, BINS - 1) + 1])


def _entropy_range(histogram: Histogram) -> tuple[float, float]:
    """The threshold on magnitude whose quantized values diverge least from the values (Migacz, GTC 2017).

    Unlike there the range need not be symmetric: the threshold cuts each end only where values reach it.
    """
    greatest = max(abs(histogram.low), abs(histogram.high))
    thresholds = [greatest * (index + 1) / _CANDIDATES for index in range(_CANDIDATES)]
    ranges = [(max(histogram.low, -limit), min(histogram.high, limit)) for limit in thresholds]
    return min(reversed(ranges), key=lambda ends: _divergence(histogram, *ends))


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """Kullback-Leibler divergence of the values, clipped to `low`..`high`, from what 255 steps make of them."""
    edges = _edges(histogram)
    centres = (edges[:-1] + edges[1:]) / 2
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return np.inf
    first, last = int(inside.argmax()), BINS - int(inside[::-1].argmax())
    counts = histogram.counts[first:last].astype(np.float64)
    step = np.minimum(((centres[first:last] - low) / (high - low) * _STEPS).astype(np.int64), _STEPS - 1)
    seen = counts > 0
    totals, places = np.bincount(step, counts, _STEPS), np.bincount(step, seen, _STEPS)
    spread = np.where(seen, totals[step] / np.maximum(places[step], 1), 0.0)
    clipped = counts.copy()
    clipped[0] += histogram.counts[:first].sum()
    clipped[-1] += histogram.counts[last:].sum()
    return _kullback_leibler(clipped, spread)


def _kullback_leibler(actual: Float[np.ndarray, " bins"], modelled: Float[np.ndarray, " bins"]) -> float:
    if not modelled.sum():
        return np.inf
    actual = actual / actual.sum()
    modelled = np.maximum(modelled / modelled.sum(), _UNSEEN)
    there = actual > 0
    return float((actual[there] * np.log(actual[there] / modelled[there])).sum())
