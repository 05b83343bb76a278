"""Which of several texts fits best: the teacher's scores, not only its winner.

`scores[i, j]` says how well text j answers query i; text i is the right one, and the other texts of the batch are its
negatives. Both losses see the batch as a whole: split in two, they are other numbers.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def margin_mse_loss(teacher: Float[Tensor, "batch batch"], student: Float[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    """Squared error of the margins between the right text and each negative (Hofstaetter et al., arXiv 2010.02666).

    A constant added to all scores of a query changes nothing. 0 for a batch of one, which has no negative.
    """
    count = len(teacher)
    if count < 2:
        return student.sum() * 0
    margins = [scores.diagonal().unsqueeze(1) - scores for scores in (teacher.float(), student.float())]
    return (margins[0] - margins[1]).square().sum() / (count * (count - 1))


def in_batch_loss(
    teacher: Float[Tensor, "batch batch"], student: Float[Tensor, "batch batch"], temperature: float
) -> Float[Tensor, ""]:
    """KL(softmax(teacher / t) || softmax(student / t)) over the batch's texts, mean over queries; 0 for one alone."""
    if len(teacher) < 2:
        return student.sum() * 0
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    return functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")


def contrastive_loss(
    scores: Float[Tensor, "batch batch"], temperature: float, texts: Int[Tensor, "batch"] | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy of each query's own text over the batch's, mean over queries (Henderson et al., arXiv 1705.00652).

    `texts` numbers the batch's texts, those that read alike alike: another query's "thanks" answers this one as well as
    its own, and is no negative of it. A number below 0 is like no other. 0 for a query with nothing to be told from.
    """
    own = torch.arange(len(scores), device=scores.device)
    scores = scores.float() / temperature
    if texts is not None:
        alike = (texts[:, None] == texts) & (texts >= 0) & (own[:, None] != own)
        scores = scores.masked_fill(alike, -torch.inf)
    return functional.cross_entropy(scores, own) if len(scores) > 1 else scores.sum() * 0
