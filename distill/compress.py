"""Narrower token embeddings by truncated SVD or PCA, as XtremeDistil makes them (arXiv 2004.05686, section 3.1).

With E = U S Vᵀ (vocab x wide), the narrow table is E V_d = U_d S_d: turned to the directions of most energy, cut after
`d`, and not scaled. It is the table of rank d whose dot products are nearest to the teacher's, and whose error is the
discarded singular values (Eckart and Young). XtremeDistil's paper says SVD; its code centres the tokens first, which is
PCA.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from artifact.errors import ModelError
from distill.architectures import embeddings_of

_ROWS = 16_384
"""Tokens taken into float64 at a time: a vocabulary of 250,000 in float64 would not go unnoticed in memory."""


def principal_directions(
    tokens: Float[Tensor, "vocab wide"], width: int, *, centred: bool
) -> tuple[Float[Tensor, "wide narrow"], Float[Tensor, "wide"]]:
    """The `width` orthonormal directions that hold most of `tokens`, largest first, and the point they start from.

    That point is zero, or with `centred` the mean token. Computed from the Gram matrix of the columns (wide x wide) in
    float64: a matter of a second for any vocabulary. Each direction's largest entry is positive, so that the answer
    does not depend on who solves it.
    """
    origin = tokens.double().mean(dim=0) if centred else tokens.new_zeros(tokens.shape[1], dtype=torch.float64)
    gram = origin.new_zeros(len(origin), len(origin))
    for first in range(0, len(tokens), _ROWS):
        moved = tokens[first : first + _ROWS].double() - origin
        gram += moved.T @ moved
    directions = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :width]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return (directions * largest.sign()).to(tokens.dtype), origin.to(tokens.dtype)


@torch.no_grad()
def compress_embeddings(teacher: PreTrainedModel, student: PreTrainedModel, *, centred: bool) -> None:
    """Set the student's token embeddings from the teacher's, in its narrower width; in place.

    Positions and types are turned and cut along the tokens' directions, so that the sum of the three is the teacher's
    sum, turned and cut, and their sizes stay in proportion. The normalisation that follows makes any common scale
    vanish, which is why there is none. It works unit by unit and cannot be turned: it starts as the identity. What lies
    outside the embedding module (DeBERTa's relative positions, ELECTRA's and ALBERT's projection) starts random.

    Factorised embeddings (ELECTRA, ALBERT) have the same width in teacher and student, and are turned only.
    Raises `ModelError` when the student is wider than the teacher's tokens.
    """
    source = teacher.get_input_embeddings().get_parameter("weight")
    target = student.get_input_embeddings().get_parameter("weight")
    if target.shape[1] > source.shape[1]:
        raise ModelError(
            f"start.embeddings makes tokens narrower: the student's have {target.shape[1]} units, the teacher's "
            f"{source.shape[1]}",
            "choose a smaller start.hidden_size, or leave start.embeddings out",
        )
    directions, origin = principal_directions(source, target.shape[1], centred=centred)
    tables = dict(embeddings_of(teacher).named_modules())
    for name, table in embeddings_of(student).named_modules():
        if isinstance(table, nn.Embedding):
            wide = tables[name].get_parameter("weight")
            table.weight.copy_((wide - origin if wide is source else wide) @ directions)
