"""The teacher's opinion of every class, softened by a temperature (Hinton et al., arXiv 1503.02531, section 2)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Weights = Float[Tensor, "rows"] | None
"""How much each row counts, 1 in sum; None for a mean."""


def logits_loss(
    teacher: Float[Tensor, "rows labels"],
    student: Float[Tensor, "rows labels"],
    temperature: float,
    weights: Weights = None,
) -> Float[Tensor, ""]:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))`, mean over the batch.

    The factor T^2 keeps the gradient's size when the temperature changes.
    """
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    if weights is None:
        return temperature**2 * functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
    rows = functional.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(-1)
    return temperature**2 * (weights * rows).sum()


def logits_error(
    teacher: Float[Tensor, "rows labels"], student: Float[Tensor, "rows labels"], weights: Weights = None
) -> Float[Tensor, ""]:
    """Half the squared error summed over labels, mean over the batch (XtremeDistil, arXiv 2004.05686, eq. 4)."""
    rows = 0.5 * (teacher.float() - student.float()).square().sum(-1)
    return rows.mean() if weights is None else (weights * rows).sum()


def chance_divergence(
    teacher: Float[Tensor, "batch 1"], student: Float[Tensor, "batch 1"], temperature: float
) -> Float[Tensor, ""]:
    """`logits_loss` where the one column is the log-odds of yes against no, mean over the batch."""
    theirs, ours = (functional.pad(logits.float(), (1, 0)) for logits in (teacher, student))
    return logits_loss(theirs, ours, temperature)
