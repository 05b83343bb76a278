"""How alike models are inside: the estimates against their definitions, and the facts a training run leaves."""

import json

import pytest
import torch
from tiny_models import WORDS, make_bert, make_tokenizer, save_teacher, seal_dataset
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from artifact.dataset import Example
from artifact.manifest import read_manifest
from artifact.stage import run_stage
from distill.batch import Batch
from distill.capture import Projections, Wanted, observe
from distill.config import ModelConfig
from distill.fidelity import RELATIONS, Reading, beginnings, fidelity, linear_cka, relation_divergences
from distill.objectives.relations import relations_loss
from distill.run import distill_stage
from distill.student import keep_layers
from distill.text import Texts
from distill.vocabulary import prune_embeddings
from pipeline import fidelity as parsed


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(texts=40):
    """Two spaces of different widths that share some of what they say."""
    a = random(texts, 12) * torch.linspace(1, 4, 12)
    return a, a[:, :7] + random(texts, 7, seed=1) + 3.0


def hsic(a, b):
    """Song et al., JMLR 13 (2012), eq. 5: the unbiased HSIC as a sum over ordered, distinct index tuples, longhand."""
    n = len(a)
    k, m = ([[float(x @ y) * (i != j) for j, y in enumerate(z)] for i, x in enumerate(z)] for z in (a, b))
    index = range(n)
    trace = sum(k[i][j] * m[j][i] for i in index for j in index)
    product = sum(map(sum, k)) * sum(map(sum, m)) / ((n - 1) * (n - 2))
    rows = sum(sum(k[i]) * sum(m[i]) for i in index)
    return (trace + product - 2 / (n - 2) * rows) / (n * (n - 3))


def test_cka_is_the_ratio_of_unbiased_hsics():
    """Oracle: Song et al.'s formula in scalar loops, over uncentred Gram matrices; Kornblith et al.'s eq. 4."""
    a, b = related(texts=15)
    assert linear_cka(a, b) == pytest.approx(hsic(a, b) / (hsic(a, a) * hsic(b, b)) ** 0.5, abs=1e-12)


def test_cka_is_blind_to_rotation_scale_and_shift():
    """Oracle: what Kornblith et al. ask of an index (section 2), and that a stretched axis does change it."""
    a, b = related()
    turn = torch.linalg.qr(random(7, 7, seed=2)).Q
    assert linear_cka(a, a) == pytest.approx(1, abs=1e-12)
    assert linear_cka(a, b) == pytest.approx(linear_cka(b, a), abs=1e-12)
    assert linear_cka(a, 1e-3 * b @ turn + 5.0) == pytest.approx(linear_cka(a, b), abs=1e-9)
    assert linear_cka(b, b * torch.tensor([9.0, 1, 1, 1, 1, 1, 1])) < 0.9


def test_cka_of_vectors_far_from_the_origin_keeps_its_digits():
    """Oracle: the value at the origin. Gram matrices of the raw vectors would lose twelve digits here."""
    a, b = related()
    assert linear_cka(a + 1e6, b - 1e6) == pytest.approx(linear_cka(a, b), abs=1e-6)


@pytest.mark.parametrize("texts", [64, 256, 2000])
def test_cka_of_unrelated_vectors_is_near_0_however_few_the_texts(texts):
    """Oracle: 0 is the truth. The plain estimate, here beside it, says width / (width + texts)."""
    a, b = random(texts, 384), random(texts, 384, seed=1)
    grams = [(x - x.mean(0)) @ (x - x.mean(0)).T for x in (a, b)]
    plain = float((grams[0] * grams[1]).sum() / (grams[0].norm() * grams[1].norm()))
    assert plain == pytest.approx(384 / (384 + texts), abs=0.05)
    assert abs(linear_cka(a, b)) < 0.05


def test_cka_of_vectors_that_are_all_the_same_is_0():
    """Oracle: a limit that is stated; not NaN, which JSON does not have."""
    a, _ = related()
    assert linear_cka(a, torch.ones(40, 3)) == 0


def readings_of(texts, *, lookup=None, batch_size=3):
    split = split_of(texts, 16)
    for start in range(0, len(texts), batch_size):
        batch: Batch = split.batch(range(start, min(start + batch_size, len(texts))))
        ids = batch.inputs["input_ids"]
        yield Reading(batch.inputs, batch.inputs | {"input_ids": ids if lookup is None else lookup[ids]}, batch.mask)


TEXTS = [
    "turn on the light", "play jazz", "what time is it now please", "stop", "rock music in the kitchen now",
    "it is off", "bedroom light off please", "the time",
]  # fmt: skip


def test_a_model_is_faithful_to_itself():
    """Oracle: identity, CKA 1 and divergence 0 on the diagonal and nowhere else."""
    model = make_bert(layers=3)
    found = fidelity(model, model, readings_of(TEXTS))
    assert [found.cka[layer][layer] for layer in range(4)] == [1.0] * 4
    assert max(found.cka[row][column] for row in range(4) for column in range(4) if row != column) < 1
    for matrix in found.relation_kl.values():
        assert [matrix[layer][layer] for layer in range(3)] == [0.0] * 3
        assert min(matrix[row][column] for row in range(3) for column in range(3) if row != column) > 0
    assert (found.texts, found.relation_heads) == (len(TEXTS), 32)


def test_layers_that_were_copied_are_found_again():
    """Oracle: a layers 1 and 2 read what they read in the teacher; of layers 1, 3 and 6 only the first does."""
    teacher = make_bert(layers=6)
    found = fidelity(teacher, keep_layers(teacher, [0, 1]).eval(), readings_of(TEXTS))
    assert [len(found.cka), len(found.cka[0]), len(found.relation_kl["QQ"]), len(found.relation_kl["QQ"][0])] == [
        3,
        7,
        2,
        6,
    ]
    assert [found.cka[layer][layer] for layer in range(3)] == [1.0] * 3
    assert [found.relation_kl["VV"][layer][layer] for layer in range(2)] == [0.0] * 2
    found = fidelity(teacher, keep_layers(teacher, [0, 2, 5]).eval(), readings_of(TEXTS))
    assert (found.cka[1][1], found.relation_kl["QQ"][0][0]) == (1.0, 0.0)
    assert found.cka[2][3] < 1
    assert found.relation_kl["QQ"][1][2] > 0


def make_distilbert():
    torch.manual_seed(5)
    shape = {"vocab_size": len(WORDS) + 6, "dim": 48, "n_layers": 3, "n_heads": 6, "hidden_dim": 64}
    config = DistilBertConfig(**shape, max_position_embeddings=64, initializer_range=0.2)
    return DistilBertForSequenceClassification(config).eval()


def test_the_divergence_is_the_loss_of_training_between_any_two_layers():
    """Oracle: `relations_loss`, layer by layer over one batch; another architecture, width, depth and head count."""
    teacher, student = make_distilbert(), make_bert(layers=2, hidden=32)
    found = fidelity(teacher, student, readings_of(TEXTS), relation_heads=8)
    (whole,) = readings_of(TEXTS, batch_size=len(TEXTS))
    theirs = observe(teacher, whole.teacher, Wanted((1, 2, 3)))
    ours = observe(student, whole.student, Wanted((1, 2)))
    for name in RELATIONS:
        for s in (1, 2):
            for t in (1, 2, 3):
                loss = relations_loss(theirs.projections[t], ours.projections[s], whole.mask, {name: 1.0}, 8)
                assert found.relation_kl[name][s - 1][t - 1] == pytest.approx(loss.item(), abs=6e-5)


def test_small_divergences_keep_their_digits():
    """Oracle: `relations_loss` in its dense form, for models nearly alike; at padding stands what is no number."""
    theirs = torch.randn(2, 4, 12, 24, generator=torch.Generator().manual_seed(1))
    ours = theirs[:1] + 0.02 * torch.randn(1, 4, 12, 24, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(12)[None, :] < torch.tensor([12, 7, 1, 0])[:, None]
    theirs, ours = (x.masked_fill(~mask[None, :, :, None], float("nan")) for x in (theirs, ours))
    found = relation_divergences(theirs, ours, mask, heads=4)
    layers = [Projections(x, x, x, 4) for x in (*theirs, *ours)]
    for column in range(2):
        loss = relations_loss(layers[column], layers[2], mask, {"QQ": 1.0}, 4, form="dense")
        assert float(found[0, column]) == pytest.approx(loss.item(), abs=2e-6)
    assert 0 < float(found[0, 0]) < 1e-3


def test_padding_and_batches_change_nothing():
    """Oracle: one text at a time, without padding."""
    teacher, student = make_bert(layers=3), make_bert(layers=2, hidden=16, seed=1)
    together = fidelity(teacher, student, readings_of(TEXTS, batch_size=8))
    alone = fidelity(teacher, student, readings_of(TEXTS, batch_size=1))
    assert torch.allclose(torch.tensor(together.cka), torch.tensor(alone.cka), atol=1.1e-4)
    for name in RELATIONS:
        both = [torch.tensor(found.relation_kl[name]) for found in (together, alone)]
        assert torch.allclose(*both, atol=1.1e-4)


def test_a_pruned_student_reads_its_own_ids():
    """Oracle: nothing but the numbering of the vocabulary changed, so it is its teacher still."""
    teacher, student = make_bert(), make_bert()
    rows = student.config.vocab_size
    used = sorted({int(i) for reading in readings_of(TEXTS) for i in reading.teacher["input_ids"].flatten()} | {1})
    prune_embeddings(student, used)
    lookup = torch.zeros(rows, dtype=torch.long)
    lookup[used] = torch.arange(len(used))
    found = fidelity(teacher, student, readings_of(TEXTS, lookup=lookup))
    assert len(used) < rows
    assert [found.cka[layer][layer] for layer in range(3)] == [1.0] * 3


def split_of(texts, max_tokens):
    return Texts(make_tokenizer(), [Example(text=text, label=0) for text in texts], max_tokens, "validation")


def test_the_texts_come_from_the_whole_split_and_cost_a_budget():
    """Oracle: the numbers in the docs, whatever the texts; a split that is sorted is not read from one end."""
    short = [WORDS[number // 50] for number in range(50 * len(WORDS))]
    batches = list(beginnings(split_of(short, 16)))
    assert sum(len(batch.mask) for batch in batches) == 256
    assert len(torch.cat([batch.inputs["input_ids"][:, 1] for batch in batches]).unique()) == len(WORDS)
    long = [" ".join(WORDS * 30)] * 300
    batches = list(beginnings(split_of(long, 400)))
    assert sum(int(batch.mask.sum()) for batch in batches) == 8192
    assert {tuple(batch.inputs["attention_mask"].shape) for batch in batches} == {(16, 128)}
    assert sum(len(batch.mask) for batch in beginnings(split_of(long[:5], 400))) == 5


RECIPE = {
    "max_tokens": 16,
    "phases": [
        {"name": "relations", "objectives": [{"kind": "relations", "relation_heads": 4}], "steps": 20,
         "learning_rate": 3e-3, "batch_size": 8},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Of a teacher and of a student with a pruned vocabulary, as they stand in their manifests."""
    root = tmp_path_factory.mktemp("faithful")
    seal_dataset(root / "data")
    source = save_teacher(root / "pretrained", layers=3, letters=True)
    labels = [{"name": "labels", "objectives": [{"kind": "labels"}], "steps": 3, "learning_rate": 1e-4}]
    recipes = {
        "teacher": {"start": {"kind": "checkpoint", "source": str(source)}, "max_tokens": 16, "phases": labels},
        "student": RECIPE | {
            "start": {"kind": "layers", "layers": [0, 2]}, "teacher": "teacher", "vocabulary": {"max_pieces": 65},
        },
    }  # fmt: skip
    models = {name: root / name for name in recipes}
    for name, recipe in recipes.items():
        config = ModelConfig.model_validate(recipe)
        stage, work = distill_stage(name, config, data=root / "data", out=models[name], models=models)
        run_stage(stage, work)
    return {name: read_manifest(root / name).facts for name in recipes}


def test_a_trained_student_says_how_faithful_it_is(facts):
    """Oracle: the models' shapes, four decimals, and the report's own reader; a model without a teacher is silent."""
    assert "fidelity" not in facts["teacher"]
    found = facts["student"]["fidelity"]
    assert (found["teacher"], found["texts"], found["relation_heads"]) == ("teacher", 24, 4)
    assert [len(found["cka"]), len(found["cka"][0])] == [3, 4]
    assert {name: (len(rows), len(rows[0])) for name, rows in found["relation_kl"].items()} == dict.fromkeys(
        RELATIONS, (2, 3)
    )
    numbers = [number for rows in (found["cka"], *found["relation_kl"].values()) for row in rows for number in row]
    assert all(number == round(number, 4) for number in numbers)
    assert found["seconds"] < 30
    read = parsed.Fidelity.model_validate(json.loads(json.dumps(found)))
    assert read.model_dump(mode="json") == found


def test_the_last_divergence_is_the_loss_that_training_saw(facts):
    """Oracle: the last validation loss of a phase of relations alone, over the same 24 texts, in the student's ids."""
    vocabulary = facts["student"]["vocabulary"]
    assert vocabulary["pieces"] < vocabulary["pieces_before"]
    found, last = facts["student"]["fidelity"], facts["student"]["evaluations"][-1]
    summed = sum(found["relation_kl"][name][-1][-1] for name in RELATIONS)
    assert summed == pytest.approx(last["validation_loss"], abs=3e-4)
