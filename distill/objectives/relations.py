r"""Self-attention relations: how tokens relate to each other, which needs no common width.

For a pair such as QK, a model's relation of head a is `softmax(A B^T / sqrt(d))` over the keys, with A and B the two
named vectors of that head, and the loss is the mean Kullback-Leibler divergence, teacher first, over heads and real
query tokens (MiniLM, arXiv 2002.10957, eqs 6-9; MiniLMv2, arXiv 2012.15828, eqs 5-8):

    L = 1 / (A_r n) * sum_a sum_{t <= n} KL( R^T_{a,t} || R^S_{a,t} ),   averaged over the batch

MiniLM splits the vectors into the models' own attention heads and takes QK and VV; MiniLMv2 splits them into `A_r`
relation heads, whatever the models' own, and takes QQ, KK and VV. Each model is scaled by its own head size.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from artifact.errors import ModelError
from distill.capture import Projections
from distill.config_objectives import RelationName
from distill.objectives.fused import fused_divergence

DENSE_ELEMENTS = 2**15
"""Scores of one relation up to which the dense form is taken: so few that slices are not worth their Python."""

Shape = tuple[int, int]
"""Hidden size and attention heads of a model."""


def relations_loss(
    teacher: Projections,
    student: Projections,
    mask: Bool[Tensor, "batch seq"],
    pairs: Mapping[RelationName, float],
    relation_heads: int | None,
    *,
    form: Literal["dense", "fused"] | None = None,
) -> Float[Tensor, ""]:
    """Weighted sum over `pairs` (such as `{"QQ": 1.0}`) of the relation losses; `mask` is true at real tokens.

    `relation_heads` None takes the models' own heads, which must then be equal in number. Both forms give the same
    number; None takes the fused one (`distill/objectives/fused.py`) unless the batch is so small that the dense one is
    quicker. Raises `ModelError` when the heads do not divide a width or do not match.
    """
    shapes = [(model.Q.shape[-1], model.heads) for model in (teacher, student)]
    heads = common_heads(shapes[0], shapes[1], relation_heads)
    if form == "fused" or (form is None and mask.numel() * heads * mask.shape[1] > DENSE_ELEMENTS):
        names = sorted({name for pair in pairs for name in pair})
        indices = [(names.index(pair[0]), names.index(pair[1]), weight) for pair, weight in pairs.items()]
        theirs, ours = ([getattr(model, name) for name in names] for model in (teacher, student))
        return fused_divergence(theirs, ours, mask, indices, heads)
    teacher, student = without_padding(teacher, mask), without_padding(student, mask)
    terms = [
        weight * relation_divergence(
            relation_scores(getattr(teacher, pair[0]), getattr(teacher, pair[1]), heads),
            relation_scores(getattr(student, pair[0]), getattr(student, pair[1]), heads),
            mask,
        )
        for pair, weight in pairs.items()
    ]  # fmt: skip
    return torch.stack(terms).sum()


def relation_scores(
    left: Float[Tensor, "batch seq hidden"], right: Float[Tensor, "batch seq hidden"], heads: int
) -> Float[Tensor, "batch heads seq seq"]:
    """Scaled dot products `A B^T / sqrt(d)` of each relation head, before the softmax; always in float32."""
    size = left.shape[-1] // heads
    with torch.autocast(left.device.type, enabled=False):
        split_left, split_right = (_split(x.float(), heads) for x in (left, right))
        return split_left @ split_right.transpose(2, 3) / math.sqrt(size)


def relation_divergence(
    teacher: Float[Tensor, "batch heads seq seq"],
    student: Float[Tensor, "batch heads seq seq"],
    mask: Bool[Tensor, "batch seq"],
) -> Float[Tensor, ""]:
    """KL(teacher || student) over real keys, averaged over heads and real queries of a text, then over the batch.

    Each text counts alike, however long; in float32 whatever the models compute in.
    """
    log_teacher = functional.log_softmax(teacher.float() + key_bias(mask), dim=-1)
    log_student = functional.log_softmax(student.float() + key_bias(mask), dim=-1)
    rows = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)
    per_text = (rows.mean(dim=1) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return per_text.mean()


def key_bias(mask: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch 1 1 seq"]:
    """Added to scores, it takes padded keys out of the softmax; finite, since 0 * -inf in a divergence is NaN."""
    bias = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, torch.finfo(torch.float32).min / 2)
    return bias[:, None, None, :]


def without_padding(model: Projections, mask: Bool[Tensor, "batch seq"]) -> Projections:
    """Zeros where there is no token: what stands there may be NaN, which no bias takes out of a score."""
    hide = ~mask.unsqueeze(2)
    return replace(model, **{name: getattr(model, name).masked_fill(hide, 0.0) for name in "QKV"})


def default_teacher_layer(layers: int, model_type: str = "bert") -> int:
    """The papers' 1-based teacher layer: the last of up to 12, of 24 BERT's 21 and RoBERTa's 19, else two from the top.

    A deep teacher's last layers serve its own pre-training task (MiniLMv2, arXiv 2012.15828, section 4).
    """
    if layers <= 12:
        return layers
    if layers == 24:
        return 19 if model_type in ("roberta", "xlm-roberta") else 21
    return layers - 2


def _split(vectors: Float[Tensor, "batch seq hidden"], heads: int) -> Float[Tensor, "batch heads seq size"]:
    batch, seq, hidden = vectors.shape
    return vectors.view(batch, seq, heads, hidden // heads).transpose(1, 2)


def common_heads(teacher: Shape, student: Shape, relation_heads: int | None) -> int:
    """The number of heads both are split into; `ModelError` with the numbers when there is none.

    A shape is a width and the model's own number of heads.
    """
    if relation_heads is None:
        if teacher[1] != student[1]:
            raise ModelError(
                f"the teacher has {teacher[1]} heads and the student {student[1]}; MiniLM needs the same number",
                "set relation_heads, as MiniLMv2 does, or give the student the teacher's number of heads",
            )
        return teacher[1]
    for name, (width, _) in (("teacher", teacher), ("student", student)):
        if width % relation_heads:
            raise ModelError(f"relation_heads {relation_heads} does not divide the {name}'s hidden size {width}")
    return relation_heads
