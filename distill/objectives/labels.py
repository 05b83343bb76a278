"""What people said: labels, quantities, or which of two utterances is right."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def labels_loss(
    student: Float[Tensor, "batch labels"], labels: Int[Tensor, "batch"], smoothing: float
) -> Float[Tensor, ""]:
    """Cross-entropy, mean over the batch; `smoothing` of the target mass is spread over all classes."""
    return functional.cross_entropy(student.float(), labels, label_smoothing=smoothing)


def quantity_loss(student: Float[Tensor, "batch 1"], values: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Squared error, mean over the batch."""
    return functional.mse_loss(student.float().squeeze(-1), values.float())


def chance_loss(
    student: Float[Tensor, "batch 1"], right: Float[Tensor, "batch"], smoothing: float
) -> Float[Tensor, ""]:
    """Cross-entropy of yes or no, the column being log-odds; `smoothing` draws what is right towards a half."""
    wanted = right.float() * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(student.float().squeeze(-1), wanted)
