"""What a head says, and what is known, as rows of columns: so that a loss need not ask what they are rows of.

Of texts, a row each; of candidates that are learnt among one another, a row for each query. Of tagged words, a row for
each word's first token; where nobody tagged them, as in a corpus, a row for each token. Of answers in a context, two
rows for each window: its tokens as rivals for the beginning, and for the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.batch import Batch
from distill.capture import Seen
from distill.heads import Answers, Head

FLOOR = torch.finfo(torch.float32).min / 2
"""Of what nothing stands for, and has no chance; finite, since 0 times infinity would be no number."""


@dataclass(frozen=True)
class Judged:
    """Teacher, student and what is known, row by row."""

    teacher: Seen
    student: Seen
    labels: Tensor
    weights: Float[Tensor, "rows"] | None = None
    """How much each row counts, 1 in sum, where rows are tokens and a loss is the mean over texts; None: all alike."""
    answers: Answers = "rivals"
    """What the columns of a row are."""


def judged(head: Head, teacher: Seen, student: Seen, batch: Batch) -> Judged:
    """The logits of both as rows, with the labels of the rows."""
    if batch.candidates is not None:
        theirs, ours = (_rows_of(seen, _candidates_as_rows, batch.candidates) for seen in (teacher, student))
        last = torch.full_like(batch.candidates[:, 0], batch.candidates.shape[1] - 1)
        return Judged(theirs, ours, last)
    if head.task == "question-answering":
        theirs, ours = (_rows_of(seen, _spans_as_rows, batch.mask) for seen in (teacher, student))
        return Judged(theirs, ours, batch.labels.flatten())
    if head.task != "token-classification":
        return Judged(teacher, student, batch.labels, answers=head.answers)
    places = batch.mask if batch.targets is None else batch.targets >= 0
    theirs, ours = (_rows_of(seen, _chosen, places) for seen in (teacher, student))
    if batch.targets is not None:
        return Judged(theirs, ours, batch.targets[places])
    tokens = batch.mask.sum(1, keepdim=True).clamp(min=1)
    weights = (batch.mask / tokens / len(batch.mask))[batch.mask]
    return Judged(theirs, ours, torch.full_like(weights, -1, dtype=torch.long), weights)


def _rows_of(seen: Seen, rows: Callable[[Tensor, Tensor], Tensor], where: Tensor) -> Seen:
    return seen if seen.logits is None else replace(seen, logits=rows(seen.logits, where))


def _chosen(
    logits: Float[Tensor, "batch seq labels"], where: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "rows labels"]:
    return logits[where]


def _spans_as_rows(logits: Float[Tensor, "batch seq 2"], mask: Bool[Tensor, "batch seq"]) -> Float[Tensor, "rows seq"]:
    return logits.float().masked_fill(~mask.unsqueeze(-1), FLOOR).transpose(1, 2).flatten(0, 1)


def _candidates_as_rows(
    logits: Float[Tensor, "batch 1"], candidates: Int[Tensor, "queries candidates"]
) -> Float[Tensor, "queries candidates"]:
    return logits.float().squeeze(-1)[candidates.clamp(min=0)].masked_fill(candidates < 0, FLOOR)
