"""What a student is asked to match: one file an objective, its maths a pure function; here they are wired.

A new objective is a config in `distill/config.py`, a file here, and one line in `wanted_of` and `loss_of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.capture import Seen, Wanted
from distill.config_objectives import Labels, Logits, Objective, Relations
from distill.objectives.labels import labels_loss
from distill.objectives.logits import logits_loss
from distill.objectives.relations import default_teacher_layer, relations_loss


@dataclass(frozen=True)
class Depths:
    """Number of layers of the two models, which say where relations are taken by default."""

    teacher: int
    student: int


def wanted_of(objectives: Sequence[Objective], depths: Depths) -> tuple[Wanted, Wanted]:
    """What these objectives need to see of the teacher and of the student."""
    relations = [o for o in objectives if isinstance(o, Relations)]
    layers = tuple(sorted({_teacher_layer(o, depths) for o in relations}))
    teacher = Wanted(layers=layers, logits=any(isinstance(o, Logits) for o in objectives))
    classes = any(isinstance(o, Logits | Labels) for o in objectives)
    return teacher, Wanted(layers=(depths.student,) if relations else (), logits=classes)


def loss_of(
    objective: Objective,
    teacher: Seen,
    student: Seen,
    *,
    mask: Bool[Tensor, "batch seq"],
    labels: Int[Tensor, "batch"],
    depths: Depths,
) -> Float[Tensor, ""]:
    """The unweighted loss of one objective on one batch."""
    match objective:
        case Relations(pairs=pairs, relation_heads=heads):
            taught = teacher.projections[_teacher_layer(objective, depths)]
            return relations_loss(taught, student.projections[depths.student], mask, pairs, heads)
        case Logits(temperature=temperature):
            return logits_loss(_logits(teacher), _logits(student), temperature)
        case Labels(smoothing=smoothing):
            return labels_loss(_logits(student), labels, smoothing)


def _teacher_layer(objective: Relations, depths: Depths) -> int:
    return objective.teacher_layer or default_teacher_layer(depths.teacher)


def _logits(seen: Seen) -> Tensor:
    if seen.logits is None:
        raise RuntimeError("logits were not asked for; `wanted_of` and `loss_of` disagree")
    return seen.logits
