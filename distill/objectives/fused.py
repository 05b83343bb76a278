r"""The relation loss without its `seq x seq` matrices: exact, in memory that grows with the length, not its square.

The gradient of a row's divergence `KL(p_T || p_S)` by the student's scores is `p_S - p_T`, so that it can be had
together with the loss. A slice of heads (or of query rows, where one head is too large) is taken at a time, small
enough to stay in a core's cache, and nothing is kept of it but its share of the loss and of the gradient, which is as
large as the vectors themselves. Exponentials are unshifted where Cauchy-Schwarz says that no score is large. With `z`
the sums of a row's exponentials,

    KL(p_T || p_S) = sum_k p_T (s_T - s_S) - log z_T + log z_S

Padded keys have zero vectors: they score 0 in both models, which drops them from the sum, and `z` leaves them out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SLICE_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
"""Scores computed at a time: 1 MiB on a CPU, which its caches hold; on a GPU enough to fill it."""
UNSHIFTED_BOUND = 75.0
"""Scores whose size is surely below this need no maximum subtracted: float32 holds the sum of 100 000 times exp(75)."""
PADDING_SCORE = -1e30
"""Added to the score of a padded key before a row's maximum is taken."""
GROUP_FILL = 0.85
"""Texts are computed together while the shortest is at least this share of the longest."""

Pair = tuple[int, int, float]
"""Index of the left and of the right vectors, and the weight of their relation."""


def fused_divergence(
    teacher: Sequence[Float[Tensor, "batch seq theirs"]],
    student: Sequence[Float[Tensor, "batch seq ours"]],
    mask: Bool[Tensor, "batch seq"],
    pairs: Sequence[Pair],
    heads: int,
) -> Float[Tensor, ""]:
    """Weighted sum of the relation losses of `pairs`, equal to the dense form; differentiable once, in `student`.

    `teacher` and `student` list the vectors that `pairs` index, such as `[Q, V]`. Computed in float32.
    """
    loss: Tensor = _Fused.apply(  # type: ignore[no-untyped-call]  # untyped upstream
        mask, tuple(pairs), heads, len(teacher), *teacher, *student
    )
    return loss


class _Fused(torch.autograd.Function):
    """Loss and gradient in one pass; the gradient waits for the backward pass to scale it."""

    @staticmethod
    def forward(ctx: Any, mask: Tensor, pairs: tuple[Pair, ...], heads: int, vectors: int, *tensors: Tensor) -> Tensor:
        """The loss; and the gradient too, when a student's tensor asks for one."""
        teacher, student = tensors[:vectors], tensors[vectors:]
        wanted = any(ctx.needs_input_grad[4 + vectors :])
        gradients = [torch.zeros_like(x, dtype=torch.float32) for x in student] if wanted else []
        loss = torch.zeros((), device=mask.device)
        # Each text counts alike: a row's weight is 1 / (A_r n batch), and 0 where it is padding.
        weights = mask / (mask.sum(1, keepdim=True).clamp(min=1) * heads * len(mask))
        with torch.autocast(mask.device.type, enabled=False):
            for texts, length in _groups(mask, heads):
                group = _Group.of(
                    texts, length, mask, weights=weights, teacher=teacher, student=student, heads=heads, wanted=wanted
                )
                for pair in pairs:
                    loss += group.add(pair)
                for whole, part in zip(gradients, group.gradients, strict=True):
                    if group.padded:
                        part.mul_(group.keys)
                    whole[texts, :length] = _merge(part.mul_(_scale(part)), heads)
        ctx.save_for_backward(*gradients)
        ctx.vectors, ctx.dtypes = vectors, [x.dtype for x in student]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """What the forward pass found, times what comes from above; only then as narrow as the vectors.

        In float16 most gradients of a mean are 0 before a scaler's factor, and the factor itself is infinite.
        """
        nothing = (None,) * (4 + ctx.vectors)
        scaled = [gradient * upstream[0] for gradient in ctx.saved_tensors]
        return (*nothing, *(gradient.to(dtype) for gradient, dtype in zip(scaled, ctx.dtypes, strict=True)))


@dataclass(frozen=True)
class _Group:
    """Texts of like length, their vectors split: all tensors are `matrices seq size`, with a matrix for each head.

    Vectors are divided by the fourth root of their size, so that their products are the scores.
    """

    teacher: list[Tensor]
    student: list[Tensor]
    weights: Tensor
    keys: Tensor
    """1 at real tokens, 0 at padding."""
    padded: bool
    longest: list[tuple[Tensor, Tensor]]
    """Length of the longest of each teacher's and student's vectors."""
    gradients: list[Tensor]
    """By the divided vectors."""

    @classmethod
    def of(
        cls, texts: Tensor | slice, length: int, mask: Tensor, *, weights: Tensor, teacher: Sequence[Tensor],
        student: Sequence[Tensor], heads: int, wanted: bool,
    ) -> "_Group":  # fmt: skip
        """The texts at the indices `texts`, of which the longest has `length` tokens."""
        keys, row_weights = (x[texts, :length].float().repeat_interleave(heads, 0)[..., None] for x in (mask, weights))
        padded = not bool(keys.all())
        theirs, ours = ([_split(x[texts, :length], heads) for x in model] for model in (teacher, student))
        if padded:  # also where padding is not finite
            theirs, ours = ([x.masked_fill(keys == 0, 0.0) for x in model] for model in (theirs, ours))
        longest = [(_longest(x), _longest(y)) for x, y in zip(theirs, ours, strict=True)]
        gradients = [torch.zeros_like(x) for x in ours] if wanted else []
        return cls(theirs, ours, row_weights, keys, padded, longest, gradients)

    def add(self, pair: Pair) -> Tensor:
        """The loss of one pair; its gradient is added to `gradients`."""
        left, right, factor = pair
        shifted, weights = not self._bounded(left, right), factor * self.weights
        (query_t, key_t), (query_s, key_s) = ((x[left], x[right].mT) for x in (self.teacher, self.student))
        products, sums_t, sums_s = list[Tensor](), list[Tensor](), list[Tensor]()
        for part, rows, room in _slices(query_s):
            here = part if room.shape[2] == room.shape[3] else (part, rows)
            keys, weight, queries = self.keys[part], weights[here], query_s[here]
            scores_t, scores_s, p_t = room.unbind()
            torch.bmm(query_t[here], key_t[part], out=scores_t)
            torch.bmm(queries, key_s[part], out=scores_s)
            if shifted:  # by anything that is the same for all keys: it cancels
                for scores in (scores_t, scores_s):
                    scores.add_((1 - keys.mT) * PADDING_SCORE)
                    scores.sub_(scores.amax(2, keepdim=True))
            torch.exp(scores_t, out=p_t)
            difference, p_s = scores_t.sub_(scores_s), scores_s.exp_()
            z_t, z_s = (torch.bmm(x, keys) if self.padded else x.sum(2, keepdim=True) for x in (p_t, p_s))
            if self.padded:  # a text without a real token has no sum; its weight is 0
                z_t, z_s = (z.clamp_min_(torch.finfo(z.dtype).tiny) for z in (z_t, z_s))
            sums_t.append(z_t.view(-1))
            sums_s.append(z_s.view(-1))
            p_t.mul_(weight / z_t)
            products.append(torch.dot(p_t.view(-1), difference.view(-1)))
            if self.gradients:
                gradient = p_s.mul_(weight / z_s).sub_(p_t)
                self.gradients[left][here].baddbmm_(gradient, self.student[right][part])
                self.gradients[right][part].baddbmm_(gradient.mT, queries)
        logs = torch.cat(sums_s).log_() - torch.cat(sums_t).log_()  # the rows of all slices, in their order
        return torch.stack(products).sum() + torch.dot(weights.view(-1), logs)

    def _bounded(self, left: int, right: int) -> bool:
        """Whether no score of a real key can exceed the bound: |q| |k| does not (Cauchy-Schwarz)."""
        products = (query * key for query, key in zip(self.longest[left], self.longest[right], strict=True))
        return all(bool(product < UNSHIFTED_BOUND) for product in products)


def _longest(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=2)
    return lengths.amax()


def _groups(mask: Tensor, heads: int) -> Iterator[tuple[Tensor | slice, int]]:
    """Texts of like length (or so few and short that one slice holds them), and the length of the longest."""
    ends = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)
    order = ends.argsort()
    lengths = [max(int(length), 1) for length in ends[order].tolist()]
    start = 0
    for stop in range(1, len(lengths) + 1):
        if stop < len(lengths):
            alike = lengths[start] >= GROUP_FILL * lengths[stop]
            if alike or (stop + 1 - start) * heads * lengths[stop] ** 2 <= SLICE_ELEMENTS[mask.device.type]:
                continue
        # A slice is a view, where indices would copy.
        yield slice(None) if stop - start == len(lengths) else order[start:stop], lengths[stop - 1]
        start = stop


def _slices(query: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Matrices and query rows taken at a time, with room for three slices of scores."""
    matrices, length, _ = query.shape
    rows = min(length, max(1, SLICE_ELEMENTS[query.device.type] // length))
    step = min(matrices, max(1, SLICE_ELEMENTS[query.device.type] // (rows * length)))
    room = query.new_empty(3, step * rows * length)
    for first in range(0, matrices, step):
        part = slice(first, min(first + step, matrices))
        for row in range(0, length, rows):
            shape = (part.stop - first, min(row + rows, length) - row, length)
            yield part, slice(row, row + shape[1]), room[:, : math.prod(shape)].view(3, *shape)


def _split(vectors: Tensor, heads: int) -> Tensor:
    """`batch seq hidden` as `batch*heads seq size`, in float32, divided by the fourth root of the size."""
    batch, seq, hidden = vectors.shape
    split = vectors.detach().view(batch, seq, heads, hidden // heads).transpose(1, 2).to(torch.float32)
    room = split.new_empty(batch * heads, seq, hidden // heads)
    torch.mul(split, _scale(split), out=room.view(split.shape))
    return room


def _scale(vectors: Tensor) -> float:
    return float(vectors.shape[-1] ** -0.25)


def _merge(vectors: Tensor, heads: int) -> Tensor:
    """`_split` undone, but for the division."""
    matrices, seq, size = vectors.shape
    return vectors.view(matrices // heads, heads, seq, size).transpose(1, 2).reshape(-1, seq, heads * size)
