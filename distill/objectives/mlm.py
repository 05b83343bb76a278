"""Words that were masked, to be filled in (BERT, arXiv 1810.04805, section 3.1)."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def masked_loss(logits: Float[Tensor, "targets vocab"], targets: Int[Tensor, "targets"]) -> Float[Tensor, ""]:
    """Cross-entropy, the mean over the targets; 0 where there are none. Unlike other losses not a mean over texts."""
    return functional.cross_entropy(logits.float(), targets, reduction="sum") / max(len(targets), 1)
