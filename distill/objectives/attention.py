"""Attention maps: which tokens a text's tokens look at, head by head.

As a divergence this is MiniLM's first loss (arXiv 2002.10957, eq. 6), the relation QK at the models' own heads; as a
squared error of the probabilities, what XtremeDistilTransformers minimises (arXiv 2106.04563).
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from distill.capture import Projections
from distill.objectives.relations import common_heads, key_bias, relation_scores, relations_loss, without_padding


def attention_loss(
    teacher: Projections, student: Projections, mask: Bool[Tensor, "batch seq"], measure: Literal["kl", "mse"]
) -> Float[Tensor, ""]:
    """`kl` as in eq. 6; `mse` is the mean over heads, real queries and real keys of a text, then over the batch.

    Raises `ModelError` when the numbers of heads differ.
    """
    if measure == "kl":
        return relations_loss(teacher, student, mask, {"QK": 1.0}, None)
    heads = common_heads(
        (teacher.Q.shape[-1], teacher.heads), (student.Q.shape[-1], student.heads), relation_heads=None
    )
    real = [without_padding(model, mask) for model in (teacher, student)]
    maps = [(relation_scores(m.Q, m.K, heads) + key_bias(mask)).softmax(-1) for m in real]
    squares = (maps[0] - maps[1]).square().mean(1) * mask.unsqueeze(2)
    return (squares.sum((1, 2)) / mask.sum(1).clamp(min=1).square()).mean()
