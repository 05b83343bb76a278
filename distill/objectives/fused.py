r"""The relation loss without its `seq x seq` matrices: exact, in memory that grows with the length, not its square.

The gradient of a row's divergence `KL(p_T || p_S)` by the student's scores is `p_S - p_T`, so that it can be had
together with the loss. A slice of heads (or of query rows, where one head is too large) is taken at a time, small
enough to stay in a core's cache, and nothing is kept of it but its share of the loss and of the gradient, which is as
large as the vectors themselves. Exponentials are unshifted where Cauchy-Schwarz says that no score is large. With `z`
the sums of a row's exponentials,

    KL(p_T || p_S) = sum_k p_T (s_T - s_S) - log z_T + log z_S

Padded keys have zero vectors: they score 0 in both models, which drops them from the sum, and `z` leaves them out.
"""

import itertools
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
                rows = _Rows.of(mask[texts, :length], weights[texts, :length], heads)
                for some in _apart(pairs):
                    named = {index for left, right, _ in some for index in (left, right)}
                    theirs, ours = ({i: model[i][texts, :length] for i in named} for model in (teacher, student))
                    group = _Group.of(rows, theirs, ours, heads, wanted=wanted)
                    loss += torch.stack([group.add(pair) for pair in some]).sum()
                    for index, gradient in group.gradients.items():
                        by_head = gradients[index].view(*mask.shape, heads, -1)
                        by_head[texts, :length] = group.merged(gradient, heads)
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
class _Rows:
    """What is said of each token of texts of like length, once for each head: `matrices seq 1`."""

    weights: Tensor
    keys: Tensor
    """1 at real tokens, 0 at padding."""
    padded: bool

    @classmethod
    def of(cls, mask: Tensor, weights: Tensor, heads: int) -> "_Rows":
        """From what is said of each text's tokens, `texts seq`."""
        keys, row_weights = (x.float().repeat_interleave(heads, 0)[..., None] for x in (mask, weights))
        return cls(row_weights, keys, not bool(mask.all()))


@dataclass(frozen=True)
class _Group:
    """Vectors of texts of like length, by index, split: `matrices size seq`, with a matrix for each text and head.

    Vectors are divided by the fourth root of their size, so that their products are the scores. They are columns: a
    product whose result is as wide as a text is long takes a third of the time of one as narrow as a vector.
    """

    rows: _Rows
    teacher: dict[int, Tensor]
    student: dict[int, Tensor]
    longest: dict[int, tuple[Tensor, Tensor]]
    """Length of the longest of each teacher's and student's vectors."""
    gradients: dict[int, Tensor]
    """By the divided vectors."""

    @classmethod
    def of(
        cls, rows: _Rows, teacher: dict[int, Tensor], student: dict[int, Tensor], heads: int, *, wanted: bool
    ) -> "_Group":
        """From vectors `texts seq hidden`."""
        theirs, ours = ({i: _split(x, heads) for i, x in model.items()} for model in (teacher, student))
        if rows.padded:  # also where padding is not finite
            hide = rows.keys.mT == 0
            theirs, ours = ({i: x.masked_fill(hide, 0.0) for i, x in model.items()} for model in (theirs, ours))
        longest = {i: (_longest(theirs[i]), _longest(ours[i])) for i in ours}
        gradients = {i: torch.zeros_like(x) for i, x in ours.items()} if wanted else {}
        return cls(rows, theirs, ours, longest, gradients)

    def add(self, pair: Pair) -> Tensor:
        """The loss of one pair; its gradient is added to `gradients`."""
        left, right, factor = pair
        shifted, weights = not self._bounded(left, right), factor * self.rows.weights
        (query_t, key_t), (query_s, key_s) = ((x[left], x[right]) for x in (self.teacher, self.student))
        products, sums_t, sums_s = list[Tensor](), list[Tensor](), list[Tensor]()
        for part, rows, room in _slices(query_s):
            keys, weight, queries = self.rows.keys[part], weights[part, rows], query_s[part, :, rows]
            scores_t, scores_s, p_t = room.unbind()
            torch.bmm(query_t[part, :, rows].mT, key_t[part], out=scores_t)
            torch.bmm(queries.mT, key_s[part], out=scores_s)
            if shifted:  # by anything that is the same for all keys: it cancels
                for scores in (scores_t, scores_s):
                    scores.add_((1 - keys.mT) * PADDING_SCORE)
                    scores.sub_(scores.amax(2, keepdim=True))
            torch.exp(scores_t, out=p_t)
            difference, p_s = scores_t.sub_(scores_s), scores_s.exp_()
            z_t, z_s = (torch.bmm(x, keys) if self.rows.padded else x.sum(2, keepdim=True) for x in (p_t, p_s))
            if self.rows.padded:  # a text without a real token has no sum; its weight is 0
                z_t, z_s = (z.clamp_min_(torch.finfo(z.dtype).tiny) for z in (z_t, z_s))
            sums_t.append(z_t.view(-1))
            sums_s.append(z_s.view(-1))
            p_t.mul_(weight / z_t)
            products.append(torch.dot(p_t.view(-1), difference.view(-1)))
            if self.gradients:
                gradient = p_s.mul_(weight / z_s).sub_(p_t)
                self.gradients[left][part, :, rows].baddbmm_(key_s[part], gradient.mT)
                self.gradients[right][part].baddbmm_(queries, gradient)
        logs = torch.cat(sums_s).log_() - torch.cat(sums_t).log_()  # the rows of all slices, in their order
        return torch.stack(products).sum() + torch.dot(weights.view(-1), logs)

    def _bounded(self, left: int, right: int) -> bool:
        """Whether no score of a real key can exceed the bound: |q| |k| does not (Cauchy-Schwarz)."""
        products = (query * key for query, key in zip(self.longest[left], self.longest[right], strict=True))
        return all(bool(product < UNSHIFTED_BOUND) for product in products)

    def merged(self, gradient: Tensor, heads: int) -> Tensor:
        """A gradient by the vectors as they were given, `texts seq heads size`; nothing at padding."""
        if self.rows.padded:
            gradient.mul_(self.rows.keys.mT)
        scaled = gradient.mul_(_scale(gradient))
        return scaled.view(-1, heads, *scaled.shape[1:]).permute(0, 3, 1, 2)


def _apart(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs in sets that share no vectors: split a set at a time, few vectors are in memory at once."""
    sets: list[list[Pair]] = []
    for pair in pairs:
        shared = [some for some in sets if any({*pair[:2]} & {*other[:2]} for other in some)]
        sets = [some for some in sets if some not in shared]
        sets.append([*itertools.chain.from_iterable(shared), pair])
    return sets


def _longest(vectors: Tensor) -> Tensor:
    """A sum of squares, as `vector_norm` over a middle dimension takes 50 times as long."""
    squares: Tensor = vectors.square().sum(1)
    return squares.amax().sqrt()


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
    matrices, _, length = query.shape
    rows = min(length, max(1, SLICE_ELEMENTS[query.device.type] // length))
    step = min(matrices, max(1, SLICE_ELEMENTS[query.device.type] // (rows * length)))
    room = query.new_empty(3, step * rows * length)
    for first in range(0, matrices, step):
        part = slice(first, min(first + step, matrices))
        for row in range(0, length, rows):
            shape = (part.stop - first, min(row + rows, length) - row, length)
            yield part, slice(row, row + shape[1]), room[:, : math.prod(shape)].view(3, *shape)


def _split(vectors: Tensor, heads: int) -> Tensor:
    """`batch seq hidden` as `batch*heads size seq`, in float32, divided by the fourth root of the size."""
    batch, seq, hidden = vectors.shape
    split = vectors.detach().view(batch, seq, heads, hidden // heads).permute(0, 2, 3, 1).to(torch.float32)
    room = split.new_empty(batch * heads, hidden // heads, seq)
    torch.mul(split, _scale(split), out=room.view(split.shape))
    return room


def _scale(vectors: Tensor) -> float:
    return float(vectors.shape[-2] ** -0.25)
