"""The fused relation loss against the equations in float64, text by text without a mask, and what might break it."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.capture import Projections
from distill.objectives import fused, relations
from distill.objectives.fused import fused_divergence
from distill.objectives.relations import relations_loss

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NAMES = "QKV"
PAIRS = {
    "self": {"QQ": 1.0, "KK": 1.0, "VV": 1.0},
    "mixed": {"QK": 1.0, "KV": 0.5},
    "all nine": {left + right: 0.25 * (1 + i) for i, (left, right) in enumerate(itertools.product(NAMES, NAMES))},
}
MASKS = {
    "full": torch.ones(4, 7, dtype=torch.bool),
    "prefix": torch.arange(7) < torch.tensor([[7], [3], [1], [5]]),
    "left": torch.arange(7) >= torch.tensor([[0], [4], [6], [1]]),
    "holes": torch.tensor(
        [[1, 0, 1, 1, 0, 0, 1], [0, 1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0, 0]]
    ).bool(),
}


def projections(width: int, seed: int, batch: int, seq: int, *, scale: float = 1.0, dtype=torch.float32) -> Projections:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = ((torch.randn(batch, seq, width, generator=generator) * scale).to(dtype) for _ in range(3))
    return Projections(q, k, v, heads=1)


def like(model: Projections, change) -> Projections:
    return Projections(*(change(getattr(model, name)) for name in NAMES), heads=model.heads)


def learning(model: Projections) -> Projections:
    return like(model, lambda x: x.detach().clone().requires_grad_())


def gradients(model: Projections) -> list[torch.Tensor | None]:
    return [getattr(model, name).grad for name in NAMES]


def oracle(teacher: Projections, student: Projections, mask, pairs, heads) -> torch.Tensor:
    """MiniLMv2, eqs 5-8, in float64 over each text's real tokens alone; a text without any counts as 0."""
    total = torch.zeros((), dtype=torch.float64)
    for (left, right), weight in pairs.items():
        for text, real in enumerate(mask):
            if not real.any():
                continue
            logs = []
            for model in (teacher, student):
                a, b = (
                    getattr(model, name)[text][real].double().unflatten(1, (heads, -1)).transpose(0, 1)
                    for name in (left, right)
                )
                logs.append((a @ b.transpose(1, 2) / math.sqrt(a.shape[2])).log_softmax(-1))
            divergence = (logs[0].exp() * (logs[0] - logs[1])).sum()
            total = total + weight * divergence / (heads * int(real.sum()) * len(mask))
    return total


def assert_same(teacher, student, mask, pairs, heads, *, value=1e-5, gradient=1e-4, absolute=1e-6) -> None:
    """The fused loss and its gradient are the oracle's; padding has none."""
    ours, theirs = learning(student), learning(student)
    loss = relations_loss(teacher, ours, mask, pairs, heads, form="fused")
    expected = oracle(teacher, theirs, mask.cpu(), pairs, heads)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=value, abs=value)
    loss.backward()
    if expected.requires_grad:
        expected.backward()
    used = {name for pair in pairs for name in pair}
    for name, found, right in zip(NAMES, gradients(ours), gradients(theirs), strict=True):
        if name not in used:
            assert found is None
            continue
        reference = torch.zeros_like(getattr(student, name)) if right is None else right
        largest = float(reference.abs().max())
        assert torch.isfinite(found).all()
        assert float((found - reference).abs().max()) <= max(gradient * largest, absolute)
        assert (found[~mask] == 0).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 24])
@pytest.mark.parametrize("padding", MASKS)
def test_value_and_gradient_are_the_dense_ones(heads, padding, device):
    """Oracle: the equations in float64, and the dense form in float32, at every A_r that divides the widths."""
    teacher, student = projections(48, 1, 4, 7), projections(24, 2, 4, 7)
    teacher, student = (like(model, lambda x: x.to(device)) for model in (teacher, student))
    mask = MASKS[padding].to(device)
    for pairs in PAIRS.values():
        if device == "cpu":
            assert_same(teacher, student, mask, pairs, heads, absolute=1e-7)
        ours, dense = learning(student), learning(student)
        losses = [
            relations_loss(teacher, ours, mask, pairs, heads, form="fused"),
            relations_loss(teacher, dense, mask, pairs, heads, form="dense"),
        ]
        assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), abs=1e-5)
        torch.stack(losses).sum().backward()
        for found, reference in zip(gradients(ours), gradients(dense), strict=True):
            assert (found is None) == (reference is None)
            if found is not None:
                assert float((found - reference).abs().max()) <= 1e-4 * float(reference.abs().max())
                assert float((found - reference).abs().max()) <= 1e-6 * sum(pairs.values())


def test_the_gradient_is_the_slope():
    """Oracle: central differences of the equations, in float64; no derivative is written down or traced."""
    teacher, student = projections(4, 1, 2, 4), learning(projections(4, 2, 2, 4))
    mask, pairs, step = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0]]).bool(), {"QQ": 1.0, "QV": 0.7}, 1e-5
    relations_loss(teacher, student, mask, pairs, 2, form="fused").backward()
    for name in "QV":
        found = getattr(student, name).grad
        for place in itertools.product(range(2), range(4), range(4)):
            sides = []
            for sign in (1, -1):
                moved = like(student, lambda x: x.detach().double().clone())
                getattr(moved, name)[place] += sign * step
                sides.append(float(oracle(teacher, moved, mask, pairs, 2)))
            assert float(found[place]) == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 4.0, 12.0, 40.0, 200.0])
@pytest.mark.parametrize("padding", ["full", "holes"])
def test_scores_of_any_size(scale, padding):
    """Oracle: float64; from no score at all to some beyond 500 and 10 000, which need their maximum subtracted."""
    teacher, student = projections(24, 1, 4, 7, scale=scale), projections(12, 2, 4, 7, scale=scale)
    largest = float(relations.relation_scores(teacher.Q, teacher.Q, 3).abs().max())
    assert scale < 4 or largest > {4.0: 80, 12.0: 500, 40.0: 5000, 200.0: 100_000}[scale]
    for pairs in PAIRS.values():
        assert_same(teacher, student, MASKS[padding], pairs, 3)


def test_scores_of_opposite_signs_do_not_overflow():
    """Oracle: float64. One key has one probability, so the loss is 0, whatever the two models' sums of exponentials."""
    near = (0.99 * fused.UNSHIFTED_BOUND) ** 0.5
    for size in (near, 0.5 * near, 1.5 * near, 100.0):
        vectors = torch.full((3, 5, 1), size)
        alike, opposite = Projections(vectors, vectors, vectors, 1), Projections(vectors, -vectors, vectors, 1)
        for mask in (torch.arange(5) < torch.tensor([[1], [2], [1]]), torch.ones(3, 5, dtype=torch.bool)):
            for teacher, student in itertools.permutations((alike, opposite)):
                # Scores differ by 2 size²; float32 keeps that to 6e-8 of it, and a sum of keys rounds some ten times.
                assert_same(teacher, student, mask, {"QK": 1.0}, 1, value=max(1e-5, 1.2e-6 * size**2))


def test_no_sum_of_exponentials_overflows():
    """Oracle: arithmetic; a row of 100 000 keys, all at the bound, still has a finite sum."""
    assert 1e5 * math.exp(fused.UNSHIFTED_BOUND) < torch.finfo(torch.float32).max
    assert math.exp(-fused.UNSHIFTED_BOUND) > torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("elements", [1, 6, 7, 20, 49, 100, 150])
@pytest.mark.parametrize("padding", MASKS)
def test_slices_of_heads_and_of_rows_add_up(elements, padding, monkeypatch):
    """Oracle: float64; slices so small that both the heads and the query rows of one head are cut."""
    monkeypatch.setattr(fused, "SLICE_ELEMENTS", {"cpu": elements})
    assert_same(projections(24, 1, 4, 7), projections(12, 2, 4, 7), MASKS[padding], PAIRS["all nine"], 6)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 200))
def test_slices_cover_each_score_once(matrices, length, elements):
    """Oracle: counting; and no slice has more scores than it may, unless one row has."""
    seen = torch.zeros(matrices, length, dtype=torch.long)
    before, fused.SLICE_ELEMENTS = fused.SLICE_ELEMENTS, {"cpu": elements}
    try:
        for part, rows, room in fused._slices(torch.zeros(matrices, 2, length)):
            seen[part, rows] += 1
            assert room.shape[1:] == (*seen[part, rows].shape, length)
            assert room[0].numel() <= max(elements, length)
    finally:
        fused.SLICE_ELEMENTS = before
    assert (seen == 1).all()


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.sampled_from([1, 4, 48]))
def test_groups_hold_each_text_once_and_whole(lengths, heads):
    """Oracle: counting; and in a group that is not small, texts are of like length."""
    mask = torch.arange(max(1, *lengths, 1)) < torch.tensor(lengths)[:, None]
    found = []
    for texts, longest in fused._groups(mask, heads):
        group = torch.arange(len(lengths))[texts].tolist()
        found += group
        assert max(*(lengths[text] for text in group), 1) == longest
        small = len(group) * heads * longest**2 <= fused.SLICE_ELEMENTS["cpu"]
        assert small or min(lengths[text] for text in group) >= fused.GROUP_FILL * longest
    assert sorted(found) == list(range(len(lengths)))


@pytest.mark.parametrize(
    "lengths", [[1], [1, 1, 1], [9], [8, 8, 8], [40, 1, 1, 2, 39, 20, 1], [37, 3], [5, 0, 4], [0], [0, 0]]
)
def test_texts_of_any_length(lengths):
    """Oracle: float64; one token has nothing to relate to, and a text of none neither loss nor gradient."""
    seq = max(*lengths, 1)
    mask = torch.arange(seq) < torch.tensor(lengths)[:, None]
    for elements in (2**18, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, "SLICE_ELEMENTS", {"cpu": elements})
            for scale in (1.0, 12.0):  # without a shift and with one
                teacher, student = (projections(12, seed, len(lengths), seq, scale=scale) for seed in (1, 2))
                assert_same(teacher, student, mask, PAIRS["all nine"], 4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape(data):
    """Oracle: float64; batch, lengths, holes, heads, widths, pairs, weights, size of scores and of slices drawn."""
    batch, seq, heads = (data.draw(st.integers(1, limit)) for limit in (4, 8, 4))
    widths = [heads * data.draw(st.integers(1, 4)) for _ in range(2)]
    cells = data.draw(st.lists(st.booleans(), min_size=batch * seq, max_size=batch * seq))
    every = [left + right for left in NAMES for right in NAMES]
    pairs = data.draw(st.dictionaries(st.sampled_from(every), st.floats(0.1, 3.0), min_size=1, max_size=9))
    scale = data.draw(st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    teacher, student = (projections(width, seed, batch, seq, scale=scale) for seed, width in enumerate(widths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "SLICE_ELEMENTS", {"cpu": data.draw(st.sampled_from([1, 9, 30, 2**18]))})
        # The tolerance is one relation's.
        losses = max(1.0, sum(pairs.values()))
        tolerance = {"value": 1e-5 * losses, "absolute": 1e-6 * losses}
        assert_same(teacher, student, torch.tensor(cells).view(batch, seq), pairs, heads, **tolerance)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_what_stands_at_padding_does_not_matter(garbage):
    """Oracle: identity; the bits of the same batch with zeros there, in value and gradient."""
    mask, clean = MASKS["holes"], [projections(24, 1, 4, 7), projections(12, 2, 4, 7)]
    dirty = [like(model, lambda x: x.masked_fill(~mask.unsqueeze(2), garbage)) for model in clean]
    results = []
    for teacher, student in (clean, dirty):
        leaf = learning(student)
        loss = relations_loss(teacher, leaf, mask, PAIRS["all nine"], 4, form="fused")
        loss.backward()
        results.append([loss.detach(), *gradients(leaf)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_what_is_not_finite_at_a_real_token_is_not_hidden():
    """Oracle: the loop's alarm, which looks for NaN in the loss."""
    teacher, student = projections(24, 1, 4, 7), projections(12, 2, 4, 7)
    student.V[1, 2, 3] = math.nan
    assert torch.isnan(relations_loss(teacher, student, MASKS["prefix"], {"VV": 1.0}, 4, form="fused"))


def test_a_student_equal_to_its_teacher_has_nothing_to_learn():
    """Oracle: KL(p || p) = 0, and so is its gradient, to the bit."""
    for scale in (1.0, 12.0):
        teacher = projections(24, 1, 4, 7, scale=scale)
        student = learning(teacher)
        loss = relations_loss(teacher, student, MASKS["holes"], PAIRS["all nine"], 4, form="fused")
        loss.backward()
        assert float(loss.detach()) == 0
        assert all((gradient == 0).all() for gradient in gradients(student))


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_any_layout_in_memory(scale):
    """Oracle: identity; the same numbers transposed, strided, cut from one tensor, or one row for all texts."""
    teacher, student = (projections(24, seed, 4, 7, scale=scale) for seed in (1, 2))
    mask, pairs = MASKS["prefix"], PAIRS["mixed"]
    expected = float(relations_loss(teacher, student, mask, pairs, 4, form="fused"))
    whole = [torch.cat([getattr(model, name) for name in NAMES], -1) for model in (teacher, student)]
    layouts = [
        [like(m, lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0)) for m in (teacher, student)],
        [like(m, lambda x: x.repeat_interleave(2, -1)[..., ::2]) for m in (teacher, student)],
        [Projections(*x.chunk(3, -1), heads=1) for x in whole],
    ]
    for models in layouts:
        assert not models[0].Q.is_contiguous()
        assert float(relations_loss(*models, mask, pairs, 4, form="fused")) == pytest.approx(expected, abs=1e-7)
        assert_same(*models, mask, pairs, 4)
    one = [like(m, lambda x: x[:1].expand(4, -1, -1)) for m in (teacher, student)]
    assert_same(*one, mask, pairs, 4)


def test_only_what_asks_for_a_gradient_gets_one():
    """Oracle: autograd's own flags; the teacher has none, even where it asks."""
    teacher, student = learning(projections(24, 1, 4, 7)), projections(12, 2, 4, 7)
    student.Q.requires_grad_()
    pairs = {"QK": 1.0, "VV": 1.0}
    relations_loss(teacher, student, MASKS["prefix"], pairs, 4, form="fused").backward()
    assert gradients(teacher) == [None, None, None]
    assert gradients(student)[1:] == [None, None]
    all_three = learning(student)
    relations_loss(teacher, all_three, MASKS["prefix"], pairs, 4, form="fused").backward()
    assert torch.equal(gradients(student)[0], gradients(all_three)[0])
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            loss = relations_loss(teacher, student, MASKS["prefix"], pairs, 4, form="fused")
        assert not loss.requires_grad
        assert torch.isfinite(loss)


def test_one_tensor_in_two_places_gets_both_gradients():
    """Oracle: float64; queries and keys that are one tensor, as in a model that shares them."""
    teacher, shared = projections(12, 1, 4, 7), torch.randn(4, 7, 12, generator=torch.Generator().manual_seed(5))
    found = []
    for loss_of in (lambda *args: relations_loss(*args, form="fused"), oracle):
        leaf = shared.clone().requires_grad_()
        loss_of(teacher, Projections(leaf, leaf, leaf, 1), MASKS["holes"], PAIRS["mixed"], 3).backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[0], found[1], atol=1e-7, rtol=1e-4)


def test_the_gradient_scales_with_what_comes_from_above():
    """Oracle: linearity; and a second pass over a kept graph gives the same."""
    teacher, mask = projections(24, 1, 4, 7), MASKS["prefix"]
    plain, scaled = (learning(projections(12, 2, 4, 7)) for _ in range(2))
    relations_loss(teacher, plain, mask, {"QQ": 1.0}, 4, form="fused").backward()
    loss = relations_loss(teacher, scaled, mask, {"QQ": 1.0}, 4, form="fused")
    (loss * 3).backward(retain_graph=True)
    torch.testing.assert_close(scaled.Q.grad, 3 * plain.Q.grad)
    loss.backward()
    torch.testing.assert_close(scaled.Q.grad, 4 * plain.Q.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_half_precision_loses_nothing_more(dtype, scale):
    """Oracle: float32 on the same rounded values, also under autocast; the gradient is rounded once, at the end."""
    teacher, student = (projections(24, seed, 4, 7, scale=scale, dtype=dtype) for seed in (1, 2))
    exact = learning(like(student, lambda x: x.float()))
    expected = relations_loss(
        like(teacher, lambda x: x.float()), exact, MASKS["holes"], PAIRS["mixed"], 4, form="fused"
    )
    expected.backward()
    leaf = learning(student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = relations_loss(teacher, leaf, MASKS["holes"], PAIRS["mixed"], 4, form="fused")
    found.backward()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    for ours, theirs in zip(gradients(leaf), gradients(exact), strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours, theirs.to(dtype))


def test_autocast_does_not_touch_float32():
    """Oracle: the same call outside of autocast, to the bit."""
    teacher, student = projections(24, 1, 4, 7), projections(12, 2, 4, 7)
    plain = relations_loss(teacher, student, MASKS["prefix"], PAIRS["self"], 4, form="fused")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(relations_loss(teacher, student, MASKS["prefix"], PAIRS["self"], 4, form="fused"), plain)


def test_a_scaled_loss_keeps_its_small_gradients_in_float16():
    """Oracle: float32; the scaler's 65536 is infinite in float16, and the unscaled gradient of a large batch is 0."""
    teacher, student = (projections(32, seed, 16, 32, scale=0.5, dtype=torch.float16) for seed in (1, 2))
    mask, leaf = torch.ones(16, 32, dtype=torch.bool), learning(student)
    exact = learning(like(student, lambda x: x.float()))
    (65536 * relations_loss(teacher, leaf, mask, {"QQ": 1.0}, 8, form="fused")).backward()
    relations_loss(like(teacher, lambda x: x.float()), exact, mask, {"QQ": 1.0}, 8, form="fused").backward()
    assert float((exact.Q.grad.abs() < torch.finfo(torch.float16).smallest_normal).float().mean()) > 0.5
    torch.testing.assert_close(leaf.Q.grad.float() / 65536, exact.Q.grad, rtol=1e-3, atol=1e-9)


def test_the_form_follows_the_size(monkeypatch):
    """Oracle: the name of the loss's own backward function; both give the same number."""
    teacher, student, mask = projections(24, 1, 4, 7), learning(projections(12, 2, 4, 7)), MASKS["prefix"]
    losses = [relations_loss(teacher, student, mask, PAIRS["self"], 4, form=form) for form in (None, "dense", "fused")]
    assert [loss.grad_fn.name() for loss in losses] == ["SumBackward0", "SumBackward0", "_FusedBackward"]
    assert float(losses[1].detach()) == pytest.approx(float(losses[2].detach()), abs=1e-6)
    long = torch.ones(1, 200, dtype=torch.bool)
    models = projections(24, 1, 1, 200), learning(projections(12, 2, 1, 200))
    assert relations_loss(*models, long, PAIRS["self"], 4).grad_fn.name() == "_FusedBackward"
    monkeypatch.setattr(relations, "DENSE_ELEMENTS", 4 * 4 * 7 * 7 - 1)
    assert relations_loss(teacher, student, mask, PAIRS["self"], 4).grad_fn.name() == "_FusedBackward"


def test_pairs_that_share_vectors_are_computed_together():
    """Oracle: the sets by hand; the last pair joins two."""
    alone, joining = [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 0.5)], (0, 2, 3.0)
    assert fused._apart(alone) == [[pair] for pair in alone]
    assert fused._apart([*alone, joining]) == [[alone[1]], [alone[0], alone[2], joining]]


def test_pairs_are_weighted_by_index():
    """Oracle: the pairs one by one; a pair may come twice, and a tensor may be listed and not used."""
    teacher, student = ([getattr(projections(12, seed, 4, 7), n) for n in NAMES] for seed in (1, 2))
    mask = MASKS["holes"]
    single = [float(fused_divergence(teacher, student, mask, [(i, j, 1.0)], 3)) for i, j in ((0, 1), (1, 0))]
    both = fused_divergence(teacher, student, mask, [(0, 1, 2.0), (1, 0, 0.5), (0, 1, 1.0)], 3)
    assert single[0] != pytest.approx(single[1])
    assert float(both) == pytest.approx(3 * single[0] + 0.5 * single[1], rel=1e-6)


class Peak(TorchDispatchMode):
    """Most bytes held at once by the tensors that operations made, each storage counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in given:
                storage = x.untyped_storage()
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.bytes = max(self.bytes, sum(size for _, size in self._live.values()))
        return result


def peak_bytes(form: str, seq: int, heads: int = 12) -> int:
    """Of one loss and its gradient, one text, beyond the vectors given."""
    teacher, student = projections(96, 1, 1, seq), learning(projections(48, 2, 1, seq))
    mask = torch.ones(1, seq, dtype=torch.bool)
    with Peak() as peak:
        relations_loss(teacher, student, mask, {"QK": 1.0}, heads, form=form).backward()
    return peak.bytes


def test_memory_grows_with_the_length_not_its_square():
    """Oracle: the bytes of all tensors alive at once, counted at every operation, beside those of one dense matrix."""
    matrix = {seq: 4 * 12 * seq**2 for seq in (512, 1024, 2048)}
    assert peak_bytes("dense", 512) > 4 * matrix[512]  # so that the counting is seen to count
    long, longer = peak_bytes("fused", 1024), peak_bytes("fused", 2048)
    assert longer < 0.05 * matrix[2048]
    assert longer < 2 * long
