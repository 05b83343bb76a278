"""Which teacher layer teaches which student layer."""

from dataclasses import dataclass

from artifact.errors import ModelError
from distill.config_objectives import Attention, Hidden, Relations
from distill.objectives.relations import default_teacher_layer

LayerPair = tuple[int, int]
"""A teacher's layer and a student's, 1-based; for hidden states, 0 is what the first layer reads."""


@dataclass(frozen=True)
class Models:
    """What the objectives must know of the two models."""

    teacher_depth: int
    student_depth: int
    teacher_width: int
    student_width: int
    teacher_kind: str = "bert"
    """Hugging Face's `model_type`, which the papers' choice of layer depends on."""


def layer_pairs(objective: Relations | Attention | Hidden, models: Models) -> tuple[LayerPair, ...]:
    """The layers that `objective` matches.

    `last`: the student's last with one teacher layer. `top`: with the teacher's topmost ones in order
    (XtremeDistilTransformers). `uniform`: evenly spaced (MiniLM's ablation, table 7). Hidden states add the embeddings
    to the maps of several layers. Raises `ModelError` where the student is deeper than the teacher.
    """
    theirs, ours = models.teacher_depth, models.student_depth
    if objective.layers in (None, "last"):
        default = theirs if isinstance(objective, Hidden) else default_teacher_layer(theirs, models.teacher_kind)
        return ((_existing(objective, theirs) or default, ours),)
    if ours > theirs:
        raise ModelError(f"layer map {objective.layers!r}: the student has {ours} layers, the teacher only {theirs}")
    first = 0 if isinstance(objective, Hidden) else 1
    if objective.layers == "top":
        return tuple((theirs - ours + layer, layer) for layer in range(first, ours + 1))
    return tuple(((layer * theirs * 2 + ours) // (2 * ours), layer) for layer in range(first, ours + 1))


def _existing(objective: Relations | Attention | Hidden, depth: int) -> int | None:
    layer = objective.teacher_layer
    if layer is not None and layer > depth:
        raise ModelError(f"{objective.kind}.teacher_layer is {layer}, the teacher has layers 1 to {depth}")
    return layer
