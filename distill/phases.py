"""What the recipe's phases become once the student is known: gradual unfreezing is one phase for each group."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from artifact.errors import ModelError
from distill.config import Phase
from distill.evaluation import learns_classes, reads_head
from distill.schedule import parts_of


def written_out(phases: Sequence[Phase], student: PreTrainedModel) -> tuple[Phase, ...]:
    """`phases`, each that unfreezes gradually as a phase for each group, which learns with the groups before it.

    XtremeDistil (arXiv 2004.05686, algorithm 1) goes from the top to the bottom: what is new and small learns first.
    Raises `ModelError` when two of them come to share a name.
    """
    parts = tuple(part for phase in phases for part in _parts(phase, student))
    names = [part.name for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(f"two phases are called {', '.join(twice)}, gradual unfreezing written out", "rename one")
    return parts


def _parts(phase: Phase, student: PreTrainedModel) -> list[Phase]:
    if phase.unfreeze_gradually is None:
        return [phase]
    groups = _top_down(phase, student) if phase.unfreeze_gradually == "top-down" else phase.unfreeze_gradually
    return [
        phase.model_copy(update={
            "name": f"{phase.name}-{'-'.join(group).replace('.', '')}",
            "unfreeze": tuple(part for earlier in groups[: index + 1] for part in earlier),
            "unfreeze_gradually": None,
        })
        for index, group in enumerate(groups)
    ]  # fmt: skip


def _top_down(phase: Phase, student: PreTrainedModel) -> list[tuple[str, ...]]:
    """Head and pooler are left out where nothing reads them: they would learn nothing."""
    parts = [name for name, parameters in parts_of(student).items() if parameters]
    unread = {"head": not reads_head(phase.objectives), "pooler": not learns_classes(phase.objectives)}
    parts = [name for name in parts if not unread.get(name)]
    return [(name,) for name in reversed(parts)]
