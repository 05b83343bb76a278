"""Gates drawn: an interval beside its bound, with the good side of the bound tinted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results import GateResult

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_LEFT, _SPAN = 100 / 8, 300 / 4
"""Where the scale begins and how much it takes, in per cent of the width: an eighth is left free on either side."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Positions in per cent of the drawing's width."""

    low: float
    high: float
    bound: float
    more_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """A gate and its drawing."""

    gate: GateResult
    scale: Scale | None
    """None where there is no number in the bound."""


def draw_gauges(gates: Sequence[GateResult]) -> list[Gauge]:
    """One for each gate, those that failed first, then those that could not be decided."""
    order = ("fail", "inconclusive", "pass")
    return [Gauge(gate=gate, scale=_scale(gate)) for gate in sorted(gates, key=lambda gate: order.index(gate.verdict))]


def bound_of(gate: GateResult) -> float | None:
    """The last number in its bound; None where there is none."""
    numbers = _NUMBER.findall(gate.bound)
    return float(numbers[-1].replace(",", "")) if numbers else None


def _scale(gate: GateResult) -> Scale | None:
    bound, interval = bound_of(gate), gate.ratio
    if bound is None:
        return None
    left, right = min(interval.low, bound), max(interval.high, bound)
    span = (right - left) or max(abs(right), 1.0) / 10

    def place(value: float) -> float:
        return round(_LEFT + _SPAN * (value - left) / span, 2)

    return Scale(
        low=place(interval.low), high=place(interval.high), bound=place(bound), more_is_better="<" not in gate.bound
    )
