"""The relation losses, dense and fused, against the papers' equations, written longhand."""

import math

import pytest
import torch

from artifact.errors import ModelError
from distill.capture import Projections
from distill.objectives.relations import relations_loss


def projections(width: int, heads: int, seed: int, batch: int = 3, seq: int = 6) -> Projections:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, seq, width, generator=generator) for _ in range(3))
    return Projections(Q=q, K=k, V=v, heads=heads)


def mask_of(*lengths: int, seq: int = 6) -> torch.Tensor:
    return torch.arange(seq)[None, :] < torch.tensor(lengths)[:, None]


def longhand(teacher, student, lengths, pairs, heads):
    """MiniLMv2 eqs 5-8 (MiniLM eqs 6-9 at native heads), one scalar at a time, over real tokens only."""
    total = 0.0
    for pair, weight in pairs.items():
        for b, n in enumerate(lengths):
            summed = 0.0
            for a in range(heads):
                rows = []
                for model in (teacher, student):
                    left, right = (getattr(model, name)[b] for name in pair)
                    size = left.shape[-1] // heads
                    part = slice(a * size, (a + 1) * size)
                    scores = [
                        [float(left[t, part] @ right[s, part]) / math.sqrt(size) for s in range(n)] for t in range(n)
                    ]
                    rows.append([[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in scores])
                summed += sum(
                    p * math.log(p / q) for pt, ps in zip(*rows, strict=True) for p, q in zip(pt, ps, strict=True)
                )
            total += weight * summed / (heads * n) / len(lengths)
    return total


@pytest.mark.parametrize(
    ("pairs", "relation_heads"),
    [
        ({"QK": 1.0, "VV": 1.0}, None),
        ({"QQ": 1.0, "KK": 1.0, "VV": 1.0}, 8),
        ({"QQ": 0.5, "KV": 2.0}, 2),
        ({"QV": 1.0, "KQ": 1.0, "VQ": 1.0, "VK": 1.0}, 1),
    ],
)
@pytest.mark.parametrize("form", ["dense", "fused"])
def test_the_loss_is_the_papers_sum(pairs, relation_heads, form):
    """Oracle: the equations in scalar loops; each model is scaled by its own head size."""
    teacher, student = projections(24, 4, seed=1), projections(16, 4, seed=2)
    loss = relations_loss(teacher, student, mask_of(6, 3, 1), pairs, relation_heads, form=form)
    assert float(loss) == pytest.approx(longhand(teacher, student, (6, 3, 1), pairs, relation_heads or 4), abs=1e-6)


@pytest.mark.parametrize("form", ["dense", "fused"])
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(form):
    """Oracle: KL(p || p) = 0."""
    same = projections(24, 4, seed=1)
    found = relations_loss(same, same, mask_of(6, 3, 1), {"QQ": 1.0, "VV": 1.0}, 8, form=form)
    assert float(found) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("form", ["dense", "fused"])
def test_padding_neither_counts_nor_learns(form):
    """Oracle: identity; the same batch without its padded tail, and no gradient where the padding was."""
    teacher, student = projections(24, 4, seed=1), projections(16, 4, seed=2)
    student.Q.requires_grad_(True)
    pairs, mask = {"QQ": 1.0, "KK": 1.0, "VV": 1.0}, mask_of(4, 3, 2)
    loss = relations_loss(teacher, student, mask, pairs, 8, form=form)
    loss.backward()
    short_teacher, short_student = (Projections(m.Q[:, :4], m.K[:, :4], m.V[:, :4], 4) for m in (teacher, student))
    short = relations_loss(short_teacher, short_student, mask[:, :4], pairs, 8, form=form)
    assert loss.item() == pytest.approx(short.item(), abs=1e-7)
    assert student.Q.grad is not None
    assert student.Q.grad[~mask].abs().max() == 0
    assert student.Q.grad[mask].abs().max() > 0


@pytest.mark.parametrize("form", ["dense", "fused"])
def test_a_batch_is_the_mean_of_its_texts(form):
    """Oracle: identity; texts one by one, in any order."""
    teacher, student = projections(24, 4, seed=1), projections(16, 4, seed=2)
    lengths, pairs = (6, 3, 1), {"QQ": 1.0, "VV": 1.0}
    singles = [
        relations_loss(
            *(Projections(m.Q[[i]], m.K[[i]], m.V[[i]], 4) for m in (teacher, student)), mask_of(n), pairs, 8, form=form
        )
        for i, n in enumerate(lengths)
    ]
    whole = relations_loss(teacher, student, mask_of(*lengths), pairs, 8, form=form)
    assert float(whole) == pytest.approx(float(torch.stack(singles).mean()), abs=1e-6)


@pytest.mark.parametrize("form", ["dense", "fused"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(dtype, form):
    """Oracle: float32 on the same values; a bias of -inf would give NaN here."""
    teacher, student = (
        Projections(*((x * 8).to(dtype) for x in (m.Q, m.K, m.V)), 4)
        for m in (projections(24, 4, seed=1), projections(24, 4, seed=2))
    )
    exact = relations_loss(*(Projections(m.Q.float(), m.K.float(), m.V.float(), 4) for m in (teacher, student)),
                           mask_of(6, 3, 1), {"QQ": 1.0}, 8, form=form)  # fmt: skip
    half = relations_loss(teacher, student, mask_of(6, 3, 1), {"QQ": 1.0}, 8, form=form)
    assert torch.isfinite(half)
    assert float(half) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("form", ["dense", "fused"])
def test_wrong_heads_name_the_numbers(form):
    """Oracle: the message a user reads."""
    with pytest.raises(ModelError, match="relation_heads 5 does not divide the teacher's hidden size 24"):
        relations_loss(projections(24, 4, 1), projections(16, 4, 2), mask_of(6, 6, 6), {"QQ": 1.0}, 5, form=form)
    with pytest.raises(ModelError, match="teacher has 4 heads and the student 2"):
        relations_loss(projections(24, 4, 1), projections(16, 2, 2), mask_of(6, 6, 6), {"QK": 1.0}, None, form=form)
