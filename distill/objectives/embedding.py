"""A sentence's one vector: what search and clustering use, matched itself or by its neighbours."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill.config_objectives import Pooling


def pool(
    states: Float[Tensor, "batch seq width"], mask: Bool[Tensor, "batch seq"], pooling: Pooling
) -> Float[Tensor, "batch width"]:
    """The mean of a text's real tokens, or its first token, in float32."""
    if pooling == "first":
        return states[:, 0].float()
    real = states.float().masked_fill(~mask.unsqueeze(2), 0.0)
    return real.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def embedding_loss(
    teacher: Float[Tensor, "batch width"],
    student: Float[Tensor, "batch width"],
    measure: Literal["cosine", "mse"],
) -> Float[Tensor, ""]:
    """`1 - cos(teacher, student)`, or the squared error averaged over the width; mean over the batch."""
    teacher, student = teacher.float(), student.float()
    if measure == "cosine":
        return (1 - functional.cosine_similarity(teacher, student, dim=-1)).mean()
    return (teacher - student).square().mean()


def similarity_loss(teacher: Float[Tensor, "batch theirs"], student: Float[Tensor, "batch ours"]) -> Float[Tensor, ""]:
    """Squared error of the cosines between each two texts of the batch, mean over the pairs; 0 for a single text.

    Needs no common width (similarity-preserving distillation, Tung and Mori, arXiv 1907.09682, with cosines). Unlike
    the other losses it sees the batch as a whole: split in two, it is another number.
    """
    count = len(teacher)
    if count < 2:
        return student.sum() * 0
    squares = (cosines(teacher, teacher) - cosines(student, student)).square()
    return (squares.sum() - squares.diagonal().sum()) / (count * (count - 1))


def cosines(left: Float[Tensor, "rows width"], right: Float[Tensor, "columns width"]) -> Float[Tensor, "rows columns"]:
    """Cosine of each row's vector and each column's; in float32 also under autocast, which would leave two digits."""
    with torch.autocast(left.device.type, enabled=False):
        return functional.normalize(left.float(), dim=-1) @ functional.normalize(right.float(), dim=-1).T
