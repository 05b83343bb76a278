"""What people said: cross-entropy with the labels of the data set."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def labels_loss(
    student: Float[Tensor, "batch labels"], labels: Int[Tensor, "batch"], smoothing: float
) -> Float[Tensor, ""]:
    """Cross-entropy, mean over the batch; `smoothing` of the target mass is spread over all classes."""
    return functional.cross_entropy(student.float(), labels, label_smoothing=smoothing)
