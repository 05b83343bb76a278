"""The teacher's opinion of every class, softened by a temperature (Hinton et al., arXiv 1503.02531, section 2)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def logits_loss(
    teacher: Float[Tensor, "batch labels"], student: Float[Tensor, "batch labels"], temperature: float
) -> Float[Tensor, ""]:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))`, mean over the batch.

    The factor T^2 keeps the gradient's size when the temperature changes.
    """
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")


def logits_error(teacher: Float[Tensor, "batch labels"], student: Float[Tensor, "batch labels"]) -> Float[Tensor, ""]:
    """Half the squared error summed over labels, mean over the batch (XtremeDistil, arXiv 2004.05686, eq. 4)."""
    return 0.5 * (teacher.float() - student.float()).square().sum(-1).mean()
