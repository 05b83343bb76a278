"""Which gates apply, and what a change may cost against a baseline without anyone deciding so."""

from collections.abc import Mapping

from pipeline.gate_config import Gate
from pipeline.rows_config import BASELINE

QUALITY_MARGIN = 0.002
"""Accuracy, in shares of 1: small enough that the loss of a whole point is caught."""

COST_MARGIN = "5%"
"""Latency and bytes."""

BASELINE_GATES: dict[str, Gate] = {
    "baseline quality": Gate(metric="quality", reference=BASELINE, max_degradation=QUALITY_MARGIN),
    "baseline latency": Gate(metric="latency_p50", reference=BASELINE, max_degradation=COST_MARGIN),
    "baseline size": Gate(metric="size", reference=BASELINE, max_degradation=COST_MARGIN),
}
"""Of a recipe that names a baseline and no gate against it: what a change may cost without anyone deciding so."""


def gates_of(gates: Mapping[str, Gate], *, has_baseline: bool) -> dict[str, Gate]:
    """The gates that apply: those against the baseline only where there is one, and then ours unless any is named.

    So one recipe serves the first run of a repository, which has nothing to compare with, and all that follow.
    """
    if not has_baseline:
        return {name: gate for name, gate in gates.items() if gate.reference != BASELINE}
    if any(gate.reference == BASELINE for gate in gates.values()):
        return dict(gates)
    return {**gates, **BASELINE_GATES}
