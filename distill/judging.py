"""What a head says, and what is known, as rows of columns: so that a loss need not ask what they are rows of.

Of texts, a row each. Of tagged words, a row for each word's first token; where nobody tagged them, as in a corpus, a
row for each token. Of answers in a context, two rows for each window: its tokens as rivals for the beginning, and for
the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.batch import Batch
from distill.capture import Seen
from distill.heads import Head


@dataclass(frozen=True)
class Judged:
    """Teacher, student and what is known, row by row."""

    teacher: Seen
    student: Seen
    labels: Tensor
    weights: Float[Tensor, "rows"] | None = None
    """How much each row counts, 1 in sum, where rows are tokens and a loss is the mean over texts; None: all alike."""


def judged(head: Head, teacher: Seen, student: Seen, batch: Batch) -> Judged:
    """The logits of both as rows, with the labels of the rows."""
    if head.task == "question-answering":
        theirs, ours = (_rows_of(seen, _spans_as_rows, batch.mask) for seen in (teacher, student))
        return Judged(theirs, ours, batch.labels.flatten())
    if head.task != "token-classification":
        return Judged(teacher, student, batch.labels)
    places = batch.mask if batch.targets is None else batch.targets >= 0
    theirs, ours = (_rows_of(seen, _chosen, places) for seen in (teacher, student))
    if batch.targets is not None:
        return Judged(theirs, ours, batch.targets[places])
    tokens = batch.mask.sum(1, keepdim=True).clamp(min=1)
    weights = (batch.mask / tokens / len(batch.mask))[batch.mask]
    return Judged(theirs, ours, torch.full_like(weights, -1, dtype=torch.long), weights)


def _rows_of(seen: Seen, rows: Callable[[Tensor, Tensor], Tensor], where: Bool[Tensor, "batch seq"]) -> Seen:
    return seen if seen.logits is None else replace(seen, logits=rows(seen.logits, where))


def _chosen(
    logits: Float[Tensor, "batch seq labels"], where: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "rows labels"]:
    return logits[where]


def _spans_as_rows(logits: Float[Tensor, "batch seq 2"], mask: Bool[Tensor, "batch seq"]) -> Float[Tensor, "rows seq"]:
    # A finite floor: what no token stands for has no chance, and 0 times infinity would be no number.
    floor = torch.finfo(torch.float32).min / 2
    return logits.float().masked_fill(~mask.unsqueeze(-1), floor).transpose(1, 2).flatten(0, 1)
