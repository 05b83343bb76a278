"""Hidden states, token by token: the oldest thing to match, and the only one here that needs a common width.

Where the widths differ the student's state goes through a linear map that learns with it and is dropped afterwards: the
student's head sits on the student's own states, so that nothing of the map is deployed. As a squared error this is the
representation loss of XtremeDistilTransformers (arXiv 2106.04563); as a divergence on a GELU projection, that of
XtremeDistil (arXiv 2004.05686, eqs. 5-6), where both sides are made distributions by a softmax over the width.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def hidden_loss(
    teacher: Float[Tensor, "batch seq width"],
    student: Float[Tensor, "batch seq width"],
    mask: Bool[Tensor, "batch seq"],
    *,
    measure: Literal["mse", "kld"],
    tokens: Literal["all", "first"],
) -> Float[Tensor, ""]:
    """Mean over the real tokens of a text (or its first alone), then over the batch.

    `mse` is the mean over the width; `kld` is KL(softmax(teacher) || softmax(GELU(student))), teacher first.
    """
    wide_teacher, wide_student = teacher.float(), student.float()
    if tokens == "first":
        wide_teacher, wide_student, mask = wide_teacher[:, :1], wide_student[:, :1], mask[:, :1]
    # Padding may hold anything, also what is not finite: it is made equal before it is dropped.
    wide_teacher, wide_student = (x.masked_fill(~mask.unsqueeze(2), 0.0) for x in (wide_teacher, wide_student))
    if measure == "mse":
        losses = (wide_teacher - wide_student).square().mean(-1)
    else:
        log_teacher = functional.log_softmax(wide_teacher, -1)
        log_student = functional.log_softmax(functional.gelu(wide_student), -1)
        losses = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    return ((losses * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()
