"""Which form of a graph stands for a row: the one that export would ship, chosen as export chooses it.

The rows' own latencies are taken afterwards, of the chosen forms alone, so that none looks faster for having won.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from artifact.progress import progress
from export.config import InstructionSet
from export.fuse import Depth
from export.variants import choose_fastest, is_host
from pipeline.plan_config import PlannedPrecision
from pipeline.plan_engine import Opening

Form: TypeAlias = Depth | Literal["raw"]
"""How much of a graph is fused (`export.fuse`), or `raw`: as it was traced. The names are those of a bundle's facts."""

DEPTHS: tuple[Depth, ...] = ("whole", "light")
FORMS: Mapping[PlannedPrecision, tuple[Form, ...]] = {"float32": (*DEPTHS, "raw"), "int8": DEPTHS}
"""What `export.precisions` chooses from; the first where no other is surely faster."""

SECONDS_A_GRAPH = 0.25
"""Export takes 2; a default grid has 150 graphs. The largest take longer all the same, for export's fewest rounds."""


def forms_of(precision: PlannedPrecision, target: InstructionSet) -> tuple[Form, ...]:
    """The forms worth building: the first alone where this machine's clock says nothing of `target`."""
    return FORMS[precision] if is_host(target) else FORMS[precision][:1]


def choose_forms(
    contestants: Mapping[str, Mapping[Form, Opening]], target: InstructionSet
) -> dict[str, dict[str, Any]]:
    """By row, the form that counts under `chosen`, and why; one row at a time, with nothing else at work."""
    facts = {}
    with progress("choose forms", total=len(contestants)) as advance:
        for row, forms in contestants.items():
            facts[row] = _choose(forms, target)
            advance(1, row)
    return facts


def _choose(forms: Mapping[Form, Opening], target: InstructionSet) -> dict[str, Any]:
    info = next(iter(forms.values())).info
    graphs: dict[str, Path] = {form: opening.graph for form, opening in forms.items()}
    return choose_fastest(
        graphs, pad_id=info.padding.id, target=target, max_tokens=info.max_tokens, seconds=SECONDS_A_GRAPH
    )
