"""Every objective against its equation in scalar loops, and what all of them promise."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter
from tiny_models import make_bert
from torch import nn

from artifact.errors import ModelError
from distill.capture import Projections, Seen, observe
from distill.config_objectives import Attention, Hidden, Objective, Relations
from distill.objectives import loss_of, make_projections, wanted_of
from distill.objectives.attention import attention_loss
from distill.objectives.embedding import cosines, embedding_loss, pool, similarity_loss
from distill.objectives.hidden import hidden_loss
from distill.objectives.labels import labels_loss
from distill.objectives.layers import Models, layer_pairs
from distill.objectives.logits import logits_error, logits_loss
from distill.objectives.ranking import in_batch_loss, margin_mse_loss

LENGTHS, SEQ, WIDTH, DEPTH = (6, 3, 1, 5), 6, 24, 2
MODELS = Models(teacher_depth=DEPTH, student_depth=DEPTH, teacher_width=WIDTH, student_width=WIDTH)
LABELS = torch.tensor([0, 2, 1, 2])
OBJECTIVES = {
    "MiniLM": {"kind": "relations", "pairs": {"QK": 1.0, "VV": 1.0}},
    "MiniLMv2": {"kind": "relations", "relation_heads": 6, "layers": "uniform"},
    "attention, kl": {"kind": "attention"},
    "attention, mse": {"kind": "attention", "measure": "mse", "layers": "top"},
    "hidden, mse": {"kind": "hidden", "layers": "uniform"},
    "hidden, mse, first": {"kind": "hidden", "tokens": "first"},
    "hidden, kld": {"kind": "hidden", "measure": "kld"},
    "embedding, cosine": {"kind": "embedding"},
    "embedding, mse": {"kind": "embedding", "measure": "mse", "pooling": "first"},
    "embedding, similarity": {"kind": "embedding", "measure": "similarity"},
    "ranking, in batch": {"kind": "ranking", "temperature": 0.3},
    "ranking, margin": {"kind": "ranking", "measure": "margin_mse", "pooling": "first"},
    "logits, kl": {"kind": "logits", "temperature": 2.0},
    "logits, mse": {"kind": "logits", "measure": "mse"},
    "labels": {"kind": "labels", "smoothing": 0.1},
}
WHOLE_BATCH = {"embedding, similarity", "ranking, in batch", "ranking, margin"}
"""They compare the texts of a batch with each other."""
OWN_MINIMUM = {"hidden, kld", "labels"}
"""They are not 0 where the student equals the teacher."""


def objective(name: str, **changes) -> Objective:
    return TypeAdapter(Objective).validate_python(OBJECTIVES[name] | changes)


def mask_of(*lengths: int, seq: int = SEQ) -> torch.Tensor:
    return torch.arange(seq) < torch.tensor(lengths)[:, None]


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen_of(seed: int, width: int = WIDTH, heads: int = 4, texts: int = len(LENGTHS), seq: int = SEQ) -> Seen:
    """What a model of two layers and three classes may have shown."""
    layers = {
        layer: Projections(*draw(seed * 100 + layer, 3, texts, seq, width), heads=heads)
        for layer in range(1, DEPTH + 1)
    }
    hidden = {layer: draw(seed * 100 + 50 + layer, texts, seq, width) for layer in range(DEPTH + 1)}
    return Seen(layers, hidden, draw(seed * 100 + 99, texts, 3))


def change(seen: Seen, tokens, texts=lambda x: x) -> Seen:
    """`seen` with `tokens` applied to all that has a vector a token, and `texts` to the logits."""
    layers = {n: Projections(tokens(p.Q), tokens(p.K), tokens(p.V), p.heads) for n, p in seen.projections.items()}
    return Seen(layers, {n: tokens(x) for n, x in seen.hidden.items()}, texts(seen.logits))


def leaves(seen: Seen) -> list[torch.Tensor]:
    return [getattr(p, n) for p in seen.projections.values() for n in "QKV"] + [*seen.hidden.values(), seen.logits]


def learning(seen: Seen) -> Seen:
    fresh = lambda x: x.detach().clone().requires_grad_()  # noqa: E731
    return change(seen, fresh, fresh)


def loss(
    name: str, teacher: Seen, student: Seen, *, mask=None, labels=LABELS, models=MODELS, maps=None
) -> torch.Tensor:
    return loss_of(
        objective(name), teacher, student, mask=mask_of(*LENGTHS) if mask is None else mask, labels=labels,
        models=models, projections=nn.ModuleDict() if maps is None else maps,
    )  # fmt: skip


# Longhand: scalars in loops, straight from the equations.


def softmax(row: list[float]) -> list[float]:
    largest = max(row)
    exponentials = [math.exp(x - largest) for x in row]
    return [x / sum(exponentials) for x in exponentials]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def cosine(a: list[float], b: list[float]) -> float:
    dot, lengths = sum(x * y for x, y in zip(a, b, strict=True)), [math.sqrt(sum(x * x for x in v)) for v in (a, b)]
    return dot / (lengths[0] * lengths[1])


def probabilities(model: Projections, text: int, n: int, head: int) -> list[list[float]]:
    size = model.Q.shape[-1] // model.heads
    part = slice(head * size, (head + 1) * size)
    query, key = model.Q[text, :n, part].tolist(), model.K[text, :n, part].tolist()
    return [
        softmax([sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(size) for k in key]) for q in query
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_attention_is_compared_head_by_head(seed):
    """Oracle: MiniLM eq. 6, and the mean squared difference of probabilities, in scalar loops."""
    teacher = Projections(*draw(seed, 3, 4, SEQ, 24), heads=4)
    student = Projections(*draw(seed + 10, 3, 4, SEQ, 12), heads=4)
    kl, mse = 0.0, 0.0
    for text, n in enumerate(LENGTHS):
        for head in range(4):
            rows = [probabilities(model, text, n, head) for model in (teacher, student)]
            for p, q in zip(*rows, strict=True):
                kl += divergence(p, q) / (4 * n) / 4
                mse += sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / (4 * n * n) / 4
    mask = mask_of(*LENGTHS)
    assert float(attention_loss(teacher, student, mask, "kl")) == pytest.approx(kl, abs=1e-6)
    assert float(attention_loss(teacher, student, mask, "mse")) == pytest.approx(mse, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tokens", ["all", "first"])
def test_hidden_states_are_compared_token_by_token(seed, tokens):
    """Oracle: the mean squared error, and XtremeDistil eqs. 5-6 with the error function's GELU, in scalar loops."""
    teacher, student = draw(seed, 4, SEQ, 5), draw(seed + 10, 4, SEQ, 5)
    mse, kld = 0.0, 0.0
    for text, n in enumerate(LENGTHS):
        counted = n if tokens == "all" else 1
        for token in range(counted):
            theirs, ours = teacher[text, token].tolist(), student[text, token].tolist()
            mse += sum((a - b) ** 2 for a, b in zip(theirs, ours, strict=True)) / 5 / counted / 4
            bent = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in ours]
            kld += divergence(softmax(theirs), softmax(bent)) / counted / 4
    for measure, expected in (("mse", mse), ("kld", kld)):
        found = hidden_loss(teacher, student, mask_of(*LENGTHS), measure=measure, tokens=tokens)
        assert float(found) == pytest.approx(expected, abs=1e-6)


def test_a_text_is_pooled_over_its_own_tokens():
    """Oracle: the mean in scalar loops, and the first token; a text of no token is zeros."""
    states, lengths = draw(1, 4, SEQ, 5), (6, 3, 1, 0)
    mean, first = (pool(states, mask_of(*lengths), how) for how in ("mean", "first"))
    for text, n in enumerate(lengths):
        expected = [sum(states[text, t, i].item() for t in range(n)) / max(n, 1) for i in range(5)]
        assert mean[text].tolist() == pytest.approx(expected, abs=1e-6)
        assert torch.equal(first[text], states[text, 0])


@pytest.mark.parametrize("seed", range(3))
def test_embeddings_are_compared_by_direction_value_or_neighbours(seed):
    """Oracle: cosines and squares in scalar loops; the similarity of texts needs no common width."""
    teacher, student = draw(seed, 4, 5), draw(seed + 10, 4, 5)
    theirs, ours = teacher.tolist(), student.tolist()
    by_direction = sum(1 - cosine(a, b) for a, b in zip(theirs, ours, strict=True)) / 4
    by_value = sum((x - y) ** 2 for a, b in zip(theirs, ours, strict=True) for x, y in zip(a, b, strict=True)) / 20
    assert float(embedding_loss(teacher, student, "cosine")) == pytest.approx(by_direction, abs=1e-6)
    assert float(embedding_loss(teacher, student, "mse")) == pytest.approx(by_value, abs=1e-6)
    narrow = draw(seed + 20, 4, 3)
    rows = narrow.tolist()
    by_neighbours = sum(
        (cosine(theirs[i], theirs[j]) - cosine(rows[i], rows[j])) ** 2 for i in range(4) for j in range(4) if i != j
    )
    assert float(similarity_loss(teacher, narrow)) == pytest.approx(by_neighbours / 12, abs=1e-6)
    assert float(similarity_loss(teacher[:1], narrow[:1])) == 0


@pytest.mark.parametrize("seed", range(3))
def test_rankings_are_compared_query_by_query(seed):
    """Oracle: margins over each negative, and the softmax over the batch, in scalar loops."""
    teacher, student = draw(seed, 4, 4), draw(seed + 10, 4, 4)
    theirs, ours = teacher.tolist(), student.tolist()
    margin = sum(
        ((theirs[i][i] - theirs[i][j]) - (ours[i][i] - ours[i][j])) ** 2 for i in range(4) for j in range(4) if i != j
    )
    within = sum(
        divergence(*(softmax([x / 0.3 for x in row]) for row in rows)) for rows in zip(theirs, ours, strict=True)
    )
    assert float(margin_mse_loss(teacher, student)) == pytest.approx(margin / 12, rel=1e-6)
    assert float(in_batch_loss(teacher, student, 0.3)) == pytest.approx(within / 4, abs=1e-6)
    assert float(margin_mse_loss(teacher[:1, :1], student[:1, :1])) == 0
    assert float(in_batch_loss(teacher[:1, :1], student[:1, :1], 0.3)) == 0


def test_the_constant_of_a_query_does_not_rank():
    """Oracle: identity; both losses see differences of scores alone."""
    teacher, student = draw(1, 4, 4), draw(2, 4, 4)
    shifted = teacher + draw(3, 4, 1)
    assert float(margin_mse_loss(shifted, student)) == pytest.approx(float(margin_mse_loss(teacher, student)), rel=1e-5)
    assert float(in_batch_loss(shifted, student, 1.0)) == pytest.approx(
        float(in_batch_loss(teacher, student, 1.0)), rel=1e-5
    )


def test_the_scores_of_a_batch_of_pairs():
    """Oracle: cosines in scalar loops, of the first half's texts with the second half's."""
    teacher, student = seen_of(1), seen_of(2)
    matrices = []
    for seen in (teacher, student):
        states = seen.hidden[DEPTH][:, 0].tolist()
        matrices.append(torch.tensor([[cosine(left, right) for right in states[2:]] for left in states[:2]]))
    expected = float(margin_mse_loss(*matrices))
    assert float(loss("ranking, margin", teacher, student)) == pytest.approx(expected, abs=1e-6)
    for count in (1, 2, 3):  # no pair, or one, which has no negative
        few = [change(seen, lambda x, n=count: x[:n], lambda x, n=count: x[:n]) for seen in (teacher, student)]
        for name in ("ranking, margin", "ranking, in batch"):
            assert float(loss(name, *few, mask=mask_of(*LENGTHS)[:count], labels=LABELS[:count])) == 0


@pytest.mark.parametrize("seed", range(3))
def test_opinions_are_compared_class_by_class(seed):
    """Oracle: T^2 KL, half the squared error, and cross-entropy with smoothed targets, in scalar loops."""
    teacher, student, labels = draw(seed, 4, 3) * 2, draw(seed + 10, 4, 3) * 2, [0, 2, 1, 2]
    kl, squares, entropy = 0.0, 0.0, 0.0
    for theirs, ours, label in zip(teacher.tolist(), student.tolist(), labels, strict=True):
        p, q = (softmax([x / 2.5 for x in row]) for row in (theirs, ours))
        kl += 2.5**2 * divergence(p, q) / 4
        squares += 0.5 * sum((a - b) ** 2 for a, b in zip(theirs, ours, strict=True)) / 4
        target = [0.9 * (label == i) + 0.1 / 3 for i in range(3)]
        entropy -= sum(t * math.log(q) for t, q in zip(target, softmax(ours), strict=True)) / 4
    assert float(logits_loss(teacher, student, 2.5)) == pytest.approx(kl, abs=1e-6)
    assert float(logits_error(teacher, student)) == pytest.approx(squares, rel=1e-6)
    assert float(labels_loss(student, torch.tensor(labels), 0.1)) == pytest.approx(entropy, abs=1e-6)


def test_labels_loss_is_cross_entropy():
    """Oracle: minus the mean log probability of the label, longhand."""
    scores, labels = torch.tensor([[2.0, 0.0], [0.5, 1.5]]), torch.tensor([0, 1])
    expected = -(math.log(1 / (1 + math.exp(-2.0))) + math.log(1 / (1 + math.exp(-1.0)))) / 2
    assert float(labels_loss(scores, labels, 0.0)) == pytest.approx(expected, abs=1e-6)


def test_several_layers_add_up():
    """Oracle: the single layers, each by its pure function."""
    teacher, student, mask = seen_of(1), seen_of(2), mask_of(*LENGTHS)
    expected = sum(
        float(hidden_loss(teacher.hidden[n], student.hidden[n], mask, measure="mse", tokens="all")) for n in (0, 1, 2)
    )
    assert float(loss("hidden, mse", teacher, student)) == pytest.approx(expected, rel=1e-6)
    expected = sum(float(attention_loss(teacher.projections[n], student.projections[n], mask, "mse")) for n in (1, 2))
    assert float(loss("attention, mse", teacher, student)) == pytest.approx(expected, rel=1e-6)


# What every objective promises.


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - OWN_MINIMUM))
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(name):
    """Oracle: identity; and the gradient is 0 there too."""
    teacher = seen_of(1)
    student = learning(teacher)
    found = loss(name, teacher, student)
    assert found.item() == pytest.approx(0, abs=1e-6)
    found.backward()
    assert all(x.grad is None or x.grad.abs().max() < 1e-6 for x in leaves(student))


def test_where_equal_is_not_zero():
    """Oracle: longhand. KLD bends the student by a GELU that the teacher does not have; labels know no teacher."""
    teacher, expected = seen_of(1), 0.0
    for text, n in enumerate(LENGTHS):
        for token in range(n):
            state = teacher.hidden[DEPTH][text, token].tolist()
            bent = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in state]
            expected += divergence(softmax(state), softmax(bent)) / n / 4
    assert expected > 0.05
    assert float(loss("hidden, kld", teacher, teacher)) == pytest.approx(expected, abs=1e-6)
    surely = torch.nn.functional.one_hot(LABELS, 3) * 100.0
    assert float(labels_loss(surely, LABELS, 0.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("garbage", [math.nan, 1e30, 0.0])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_neither_counts_nor_learns(name, garbage):
    """Oracle: identity; the batch with more padding, in which anything stands, also NaN."""
    mask = mask_of(*LENGTHS)
    wide = torch.nn.functional.pad(mask, (0, 3))
    spoil = lambda x: torch.nn.functional.pad(x, (0, 0, 0, 3)).masked_fill(~wide.unsqueeze(2), garbage)  # noqa: E731
    teacher, plain, padded = seen_of(1), learning(seen_of(2)), learning(change(seen_of(2), spoil))
    losses = loss(name, teacher, plain), loss(name, change(teacher, spoil), padded, mask=wide)
    assert losses[1].item() == pytest.approx(losses[0].item(), abs=1e-6)
    for found in losses:
        found.backward()
    for short, long in zip(leaves(plain)[:-1], leaves(padded)[:-1], strict=True):
        assert (short.grad is None) == (long.grad is None)
        if short.grad is not None:
            assert (long.grad[~wide] == 0).all()
            torch.testing.assert_close(long.grad[wide], short.grad[mask], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_order_of_a_batch_does_not_matter(name):
    """Oracle: identity; texts, or pairs of texts, in another order."""
    order = torch.tensor([1, 0, 3, 2]) if "ranking" in name else torch.tensor([2, 0, 3, 1])
    teacher, student = seen_of(1), seen_of(2)
    others = (change(seen, lambda x: x[order], lambda x: x[order]) for seen in (teacher, student))
    found = loss(name, *others, mask=mask_of(*LENGTHS)[order], labels=LABELS[order])
    assert float(found) == pytest.approx(float(loss(name, teacher, student)), abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_is_the_mean_of_its_texts(name):
    """Oracle: identity; parts weighted by their texts. What compares the texts of a batch is another number in parts,
    and its docstring says so."""
    teacher, student, mask = seen_of(1), seen_of(2), mask_of(*LENGTHS)
    whole = float(loss(name, teacher, student))
    parts = [torch.tensor([0, 2]), torch.tensor([1, 3])] if "ranking" in name else [torch.arange(3), torch.tensor([3])]
    total = 0.0
    for part in parts:
        models = (change(seen, lambda x, p=part: x[p], lambda x, p=part: x[p]) for seen in (teacher, student))
        total += float(loss(name, *models, mask=mask[part], labels=LABELS[part])) * len(part) / len(LABELS)
    if name in WHOLE_BATCH:
        assert total != pytest.approx(whole, rel=1e-2)
        from distill.objectives import ranking

        text = similarity_loss.__doc__ if "similarity" in name else ranking.__doc__
        assert "batch as a whole" in " ".join(text.split())
    else:
        assert total == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 100.0])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_half_precision_stays_finite(name, size, dtype):
    """Oracle: float32 on the same rounded values, value and gradient; products of such sizes exceed float16."""
    half = lambda x: (x * size).to(dtype)  # noqa: E731
    rounded = [change(seen_of(seed), half, half) for seed in (1, 2)]
    wide = [change(seen, torch.Tensor.float, torch.Tensor.float) for seen in rounded]
    student, exact = learning(rounded[1]), learning(wide[1])
    found, expected = loss(name, rounded[0], student), loss(name, wide[0], exact)
    assert found.dtype == torch.float32
    assert torch.isfinite(found)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    found.backward()
    expected.backward()
    for ours, theirs in zip(leaves(student), leaves(exact), strict=True):
        if theirs.grad is not None:
            assert torch.isfinite(ours.grad).all()
            largest = float(theirs.grad.abs().max())
            assert float((ours.grad.float() - theirs.grad).abs().max()) <= 0.01 * largest + 1e-7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_autocast_does_not_touch_a_loss(name, dtype):
    """Oracle: the same call outside of autocast; cosines of two digits would not rank."""
    teacher, student = seen_of(1), seen_of(2)
    plain = loss(name, teacher, student)
    with torch.autocast("cpu", dtype=dtype):
        assert float(loss(name, teacher, student)) == pytest.approx(float(plain), abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_gradient_reaches_the_teacher(name):
    """Oracle: autograd; none even where the teacher's tensors ask for one, and the student's do get theirs."""
    teacher, student = learning(seen_of(1)), learning(seen_of(2))
    loss(name, teacher, student).backward()
    assert all(x.grad is None for x in leaves(teacher))
    assert any(x.grad is not None and x.grad.abs().max() > 0 for x in leaves(student))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_models_of_different_shapes(name):
    """Oracle: autograd and the wiring itself; what is asked of the models is what the loss reads, and only the student
    and its projections learn."""
    chosen = objective(name)
    teacher, student = make_bert(layers=3, hidden=48, seed=1), make_bert(layers=2, hidden=24, seed=2)
    models = Models(teacher_depth=3, student_depth=2, teacher_width=48, student_width=24)
    torch.manual_seed(0)
    maps = make_projections([chosen], models)
    batch = {"input_ids": torch.randint(5, 20, (4, SEQ)), "attention_mask": mask_of(*LENGTHS).long()}
    theirs, ours = wanted_of([chosen], models)
    with torch.no_grad():
        taught = observe(teacher, batch, theirs)
    loss(name, taught, observe(student, batch, ours), models=models, maps=maps).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())
    assert all(p.grad is not None for p in maps.parameters())


# Widths, layers and heads.


def test_projections_are_made_where_widths_differ():
    """Oracle: the rule; KLD always has one, as its GELU bends a projection; similarity and relations need none."""
    narrow = replace(MODELS, student_width=12)
    expected = {
        "hidden, mse": ["hidden-0", "hidden-1", "hidden-2"], "hidden, mse, first": ["hidden-2"],
        "hidden, kld": ["hidden-2"], "embedding, cosine": ["embedding"], "embedding, mse": ["embedding"],
    }  # fmt: skip
    for name in OBJECTIVES:
        maps = make_projections([objective(name)], narrow)
        assert list(maps) == expected.get(name, [])
        assert all((m.in_features, m.out_features) == (12, WIDTH) for m in maps.values())
        assert list(make_projections([objective(name)], MODELS)) == (["hidden-2"] if name == "hidden, kld" else [])


@pytest.mark.parametrize("name", ["hidden, mse", "hidden, kld", "embedding, cosine", "embedding, mse"])
@pytest.mark.parametrize("width", [12, 1])
def test_widths_that_differ_unforeseen_are_named(name, width):
    """Oracle: the message; a width of 1 would otherwise be broadcast."""
    with pytest.raises(ModelError, match=f"student's vectors have {width} numbers, the teacher's {WIDTH}"):
        loss(name, seen_of(1), seen_of(2, width=width, heads=1))


def test_wrong_heads_and_layers_name_the_numbers():
    """Oracle: the messages a user reads."""
    teacher, student = seen_of(1), seen_of(2, width=12, heads=2)
    for name in ("attention, kl", "attention, mse", "MiniLM"):
        with pytest.raises(ModelError, match="the teacher has 4 heads and the student 2"):
            loss(name, teacher, student)
    with pytest.raises(ModelError, match="relation_heads 6 does not divide the student's hidden size 16"):
        loss("MiniLMv2", teacher, seen_of(2, width=16))
    for name in ("MiniLM", "attention, kl", "hidden, mse, first"):
        chosen = objective(name, teacher_layer=3)
        with pytest.raises(ModelError, match=f"{chosen.kind}.teacher_layer is 3, the teacher has layers 1 to 2"):
            layer_pairs(chosen, MODELS)


def depths(theirs: int, ours: int, kind: str = "bert") -> Models:
    return Models(teacher_depth=theirs, student_depth=ours, teacher_width=24, student_width=12, teacher_kind=kind)


@pytest.mark.parametrize(
    ("theirs", "ours", "layers", "expected"),
    [
        (12, 6, "uniform", (2, 4, 6, 8, 10, 12)),
        (12, 4, "uniform", (3, 6, 9, 12)),
        (12, 5, "uniform", (2, 5, 7, 10, 12)),
        (12, 12, "uniform", tuple(range(1, 13))),
        (6, 4, "uniform", (2, 3, 5, 6)),
        (6, 1, "uniform", (6,)),
        (12, 6, "top", (7, 8, 9, 10, 11, 12)),
        (12, 4, "top", (9, 10, 11, 12)),
        (6, 6, "top", (1, 2, 3, 4, 5, 6)),
    ],
)
def test_layer_maps(theirs, ours, layers, expected):
    """Oracle: written out; hidden states add what the first layers read, states 0 and (for `top`) N - K."""
    for chosen in (Relations(kind="relations", layers=layers), Attention(kind="attention", layers=layers)):
        assert layer_pairs(chosen, depths(theirs, ours)) == tuple(zip(expected, range(1, ours + 1), strict=True))
    lowest = 0 if layers == "uniform" else theirs - ours
    assert layer_pairs(Hidden(kind="hidden", layers=layers), depths(theirs, ours)) == (
        (lowest, 0),
        *zip(expected, range(1, ours + 1), strict=True),
    )


@pytest.mark.parametrize("layers", ["uniform", "top"])
def test_a_student_deeper_than_its_teacher_has_no_map(layers):
    """Oracle: the message a user reads; the last layers can still be matched."""
    with pytest.raises(ModelError, match=f"layer map '{layers}': the student has 6 layers, the teacher only 4"):
        layer_pairs(Relations(kind="relations", layers=layers), depths(4, 6))
    assert layer_pairs(Relations(kind="relations"), depths(4, 6)) == ((4, 6),)


@pytest.mark.parametrize(
    ("kind", "theirs", "layer"),
    [
        ("bert", 6, 6), ("bert", 12, 12), ("roberta", 12, 12), ("bert", 24, 21), ("roberta", 24, 19),
        ("xlm-roberta", 24, 19), ("electra", 24, 21), ("bert", 32, 30), ("modernbert", 22, 20),
    ],
)  # fmt: skip
def test_the_papers_teacher_layers(kind, theirs, layer):
    """Oracle: MiniLMv2's choices for base and large teachers; hidden states take the last, a recipe any."""
    models = depths(theirs, 3, kind)
    assert layer_pairs(Relations(kind="relations"), models) == ((layer, 3),)
    assert layer_pairs(Attention(kind="attention", layers="last"), models) == ((layer, 3),)
    assert layer_pairs(Hidden(kind="hidden"), models) == ((theirs, 3),)
    assert layer_pairs(Relations(kind="relations", teacher_layer=5), models) == ((5, 3),)


def test_cosines_of_anything():
    """Oracle: a vector of zeros points nowhere, and nothing is not a number."""
    zero, some = torch.zeros(1, 3), torch.tensor([[3.0, 0.0, 4.0]])
    assert float(cosines(zero, some)) == 0
    assert float(cosines(some, 2 * some)) == pytest.approx(1)
