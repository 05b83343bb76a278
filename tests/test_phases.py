"""Phases: what learns in each, how long, at what rate, and which weights it ends with; teacher assistants; transfer."""

import json
import math

import pytest
import torch
import yaml
from tiny_models import (
    LABELS,
    make_bert,
    make_examples,
    read_log,
    read_weights,
    save_teacher,
    seal_dataset,
    train_student,
)
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from artifact.dataset import Example
from artifact.errors import ModelError
from artifact.manifest import read_manifest
from distill import loop
from distill.assistant import with_assistants
from distill.config import ModelConfig, Phase
from distill.phases import written_out
from distill.schedule import make_optimizer, parts_of, rate_at
from distill.step import Average
from distill.student import load_classifier
from pipeline.__main__ import main
from pipeline.recipe import load_recipe

SPLITS = ("train", "validation", "test")
TWO_LAYERS = {"kind": "layers", "layers": [0, 1]}
LOGITS = [{"kind": "logits"}, {"kind": "labels"}]
HIDDEN = [{"kind": "hidden"}]
PHASE = {"name": "p", "objectives": LOGITS, "epochs": 1, "learning_rate": 1e-2, "batch_size": 8, "dropout": 0.0}


def student(*phases: dict, **fields) -> ModelConfig:
    given = {"start": TWO_LAYERS, "teacher": "teacher", "max_tokens": 16, "phases": phases}
    return ModelConfig(**(given | fields))


@pytest.fixture
def made(tmp_path):
    seal_dataset(tmp_path / "data", train=24)
    save_teacher(tmp_path / "teacher")
    return tmp_path


def phases_of(phase: dict, model) -> list[tuple[str, tuple[str, ...]]]:
    return [(p.name, p.unfreeze) for p in written_out([Phase(**phase)], model)]


# Gradual unfreezing


def test_top_down_is_from_the_head_to_the_embeddings():
    """Oracle: XtremeDistil's order, each group learning with those above it; no head where no classes are learnt."""
    groups = ["head", "pooler", "layer.1", "layer.0", "embeddings"]
    found = phases_of(PHASE | {"unfreeze_gradually": "top-down"}, make_bert())
    assert found == [(f"p-{name.replace('.', '')}", tuple(groups[: i + 1])) for i, name in enumerate(groups)]
    unlabelled = phases_of(PHASE | {"unfreeze_gradually": "top-down", "objectives": HIDDEN}, make_bert())
    assert [name for name, _ in unlabelled] == ["p-layer1", "p-layer0", "p-embeddings"]


def test_a_model_without_a_pooler_has_no_phase_for_one():
    """Oracle: DistilBERT's modules."""
    config = DistilBertConfig(n_layers=2, dim=16, hidden_dim=16, n_heads=2, vocab_size=30, num_labels=3)
    found = phases_of(PHASE | {"unfreeze_gradually": "top-down"}, DistilBertForSequenceClassification(config))
    assert [name for name, _ in found] == ["p-head", "p-layer1", "p-layer0", "p-embeddings"]


def test_groups_may_be_named():
    """Oracle: the recipe; a phase that does not unfreeze gradually is left alone."""
    groups = [["head", "pooler"], ["layer.1"]]
    found = phases_of(PHASE | {"unfreeze_gradually": groups}, make_bert())
    assert found == [("p-head-pooler", ("head", "pooler")), ("p-layer1", ("head", "pooler", "layer.1"))]
    assert phases_of(PHASE, make_bert()) == [("p", ("all",))]


def test_two_phases_never_share_a_name():
    """Oracle: the message."""
    phases = [Phase(**PHASE | {"unfreeze_gradually": "top-down"}), Phase(**PHASE | {"name": "p-head"})]
    with pytest.raises(ModelError, match="two phases are called p-head, gradual unfreezing written out"):
        written_out(phases, make_bert())


def test_only_the_unfrozen_groups_change(made, monkeypatch):
    """Oracle: the weights before and after each phase, by group, to the bit."""
    begin, before = loop._Leg.begin, []

    def watching(run, *given):
        before.append({name: tensor.clone() for name, tensor in run.student.state_dict().items()})
        return begin(run, *given)

    monkeypatch.setattr(loop._Leg, "begin", watching)
    train_student(made, student(PHASE | {"unfreeze_gradually": "top-down"}, keep_best=False))
    before.append(read_weights(made / "student"))
    model = make_bert()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {part: {names[id(p)] for p in parameters} for part, parameters in parts_of(model).items()}
    order = ["head", "pooler", "layer.1", "layer.0", "embeddings"]
    assert len(before) == 6
    for number in range(5):
        first, second = before[number], before[number + 1]
        changed = {n for n in names.values() if not torch.equal(first[n], second[n])}
        learnt = set().union(*(groups[part] for part in order[: number + 1]))
        assert changed <= learnt
        assert {n for n in learnt - changed if not n.endswith(("key.bias", "token_type_embeddings.weight"))} == set()


def test_a_phase_that_can_learn_nothing_is_refused(made):
    """Oracle: the message, before the first step."""
    stuck = PHASE | {"name": "stuck", "objectives": HIDDEN, "unfreeze": ["head"]}
    with pytest.raises(ModelError, match=r"phase 'stuck' unfreezes head, but its objectives do not read the logits"):
        train_student(made, student(PHASE, stuck))
    assert not (made / "student" / "checkpoints").exists()


# Which weights a phase ends with


def test_patience_ends_a_phase_and_the_best_weights_stay(made):
    """Oracle: the log: so many evaluations after the best, none of them better; the next phase begins with the best."""
    phases = [
        PHASE | {"objectives": HIDDEN, "epochs": 20, "patience": 2, "learning_rate": 2e-2, "schedule": "constant"},
        PHASE | {"name": "look", "objectives": HIDDEN, "steps": 1, "epochs": None, "learning_rate": 1e-12},
    ]
    facts = train_student(made, student(*phases, evaluate_every_steps=2, start={"kind": "layers", "layers": [1]}))
    seen = [e["validation_loss"] for e in facts["evaluations"] if e["phase"] == "p"]
    best = seen.index(min(seen))
    assert facts["steps"] < 61
    assert len(seen) == best + 1 + 2
    again = next(e for e in facts["evaluations"] if e["phase"] == "look")
    assert again["validation_loss"] == pytest.approx(min(seen), abs=2e-5)


def test_a_phase_never_ends_below_where_it_began(made):
    """Oracle: the accuracy at the start of each phase, of which the last two do nothing but harm."""
    harm = PHASE | {"learning_rate": 3.0, "warmup_share": 0.0, "unfreeze": ["head"]}
    good = PHASE | {"epochs": 12, "learning_rate": 5e-3}
    facts = train_student(made, student(good, harm | {"name": "a"}, harm | {"name": "b"}, evaluate_every_steps=1))
    starts = [e["validation_accuracy"] for e in facts["evaluations"] if e["step"] == 0]
    assert starts == sorted(starts)
    best = {name: max(e["validation_accuracy"] for e in facts["evaluations"] if e["phase"] == name) for name in "pab"}
    assert starts[1:] == [best["p"], best["a"]]
    ends = [e["validation_accuracy"] for e in facts["evaluations"] if e["phase"] in "ab"]
    assert min(ends) < min(starts[1:])


def test_the_test_split_cannot_reach_the_weights(made):
    """Oracle: the same bits from a data set with another test split; the facts of coverage are all that it moves."""
    train = [row for row in make_examples(60, 1) if "jazz" not in row.text][:24]
    for name, text in (("one", "play some music"), ("another", "jazz jazz")):
        seal_dataset(made / name, splits={"train": train, "test": [Example(text=text, label=0)] * 30})
    save_teacher(made / "speller", letters=True)
    first = train_student(made, student(PHASE, vocabulary={}), "first", data="one", teacher="speller")
    second = train_student(made, student(PHASE, vocabulary={}), "second", data="another", teacher="speller")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (made / "first" / name).read_bytes() == (made / "second" / name).read_bytes()
    assert read_log(made / "first") == read_log(made / "second")
    moved = {k for k in first["vocabulary"] if first["vocabulary"][k] != second["vocabulary"][k]}
    assert moved == {"held_out_tokens_covered", "held_out_texts_covered"}


def test_the_average_is_the_equation_longhand(made, monkeypatch):
    """Oracle: mean_t = decay mean_(t-1) + (1 - decay) weights_t from the first step's weights on, in a whole run."""
    real, weights = loop.take_step, []

    def watching(run, *given):
        outcome = real(run, *given)
        weights.append({name: tensor.double() for name, tensor in run.student.state_dict().items()})
        return outcome

    monkeypatch.setattr(loop, "take_step", watching)
    train_student(made, student(PHASE | {"average_decay": 0.7, "objectives": HIDDEN, "epochs": 2}))
    mean = dict(weights[0])
    for now in weights[1:]:
        mean = {name: 0.7 * tensor + 0.3 * now[name] for name, tensor in mean.items()}
    assert len(weights) == 6
    for name, tensor in read_weights(made / "student").items():
        torch.testing.assert_close(tensor.double(), mean[name], atol=1e-6, rtol=1e-6, msg=name)


def test_the_average_lets_frozen_weights_alone():
    """Oracle: only what learns has an average; in its place the others stay."""
    model = make_bert()
    model.classifier.weight.requires_grad_(False)
    average = Average(0.5)
    average.update(model)
    assert "classifier.weight" not in average.values
    before = model.classifier.bias.detach().clone()
    with torch.no_grad():
        model.classifier.bias.add_(1)
    average.update(model)
    with average.in_place(model):
        torch.testing.assert_close(model.classifier.bias.detach(), before + 0.5)
    torch.testing.assert_close(model.classifier.bias.detach(), before + 1)


# Rates and optimizer


def test_schedules_are_their_closed_forms():
    """Oracle: the formulas, after a linear warm-up of a quarter of the steps."""
    steps, peak, warm = 40, 2e-3, 10
    for name in ("linear", "cosine", "constant", None):
        phase = Phase(**PHASE | {"schedule": name, "learning_rate": peak, "warmup_share": 0.25})
        for step in range(steps):
            done = (step - warm) / (steps - warm)
            after = {
                "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0, None: 1 - done
            }[name]  # fmt: skip
            expected = peak * ((step + 1) / warm if step < warm else after)
            assert rate_at(step, steps, phase) == pytest.approx(expected, abs=1e-12)


def test_betas_and_decay_reach_the_optimizer():
    """Oracle: AdamW's own groups."""
    phase = Phase(**PHASE | {"betas": (0.8, 0.95), "weight_decay": 0.3})
    for group in make_optimizer(make_bert(), phase).param_groups:
        assert group["betas"] == (0.8, 0.95)
        assert group["weight_decay"] == (0.3 if group["params"][0].ndim > 1 else 0.0)
    assert make_optimizer(make_bert(), Phase(**PHASE)).param_groups[0]["betas"] == (0.9, 0.999)


# Teacher assistants


def big_teacher(tmp_path) -> ModelConfig:
    directory = tmp_path / "pretrained"
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"num_hidden_layers": 12, "hidden_size": 768}))
    (directory / "model.safetensors").touch()
    return ModelConfig(start={"kind": "checkpoint", "source": str(directory)})


@pytest.mark.parametrize(
    ("layers", "width", "needs"),
    [
        (6, 384, True),
        (4, 384, True),
        (3, 384, True),
        (6, 256, True),
        (6, 768, False),
        (12, 384, False),
        (7, 384, False),
    ],
)
@pytest.mark.parametrize("kind", ["random", "slice"])
def test_the_rule_of_minilm(tmp_path, layers, width, needs, kind):
    """Oracle: section 3.3 and table 3 of arXiv 2002.10957, teacher 12x768: at most half as deep and half as wide."""
    start = {"kind": kind, "hidden_size": width, "heads": 12 if width != 256 else 8}
    start["layers"] = layers if kind == "random" else list(range(layers))
    phases = [PHASE | {"objectives": [{"kind": "relations"}]}]
    models = {
        "teacher": big_teacher(tmp_path),
        "student": ModelConfig(start=start, teacher="teacher", assistant="auto", phases=phases, seed=7),
    }
    made = with_assistants(models)
    assert list(made) == (["teacher", "student-assistant", "student"] if needs else ["teacher", "student"])
    assert made["student"].assistant is None
    if needs:
        between = made["student-assistant"]
        assert made["student"].teacher == "student-assistant"
        assert between.teacher == "teacher"
        depth = between.start.layers if kind == "random" else len(between.start.layers)
        assert (depth, between.start.hidden_size) == (12, width)
        assert (between.phases, between.seed) == (made["student"].phases, 7)


def test_an_assistant_does_not_take_anothers_name(tmp_path):
    """Oracle: the message."""
    random = {"kind": "random", "layers": 3, "hidden_size": 384, "heads": 12}
    models = {
        "teacher": big_teacher(tmp_path),
        "s-assistant": ModelConfig(start=random, teacher="teacher"),
        "s": ModelConfig(start=random, teacher="teacher", assistant="auto"),
    }
    with pytest.raises(ModelError, match="the assistant of 's' would be 's-assistant', a model of the recipe"):
        with_assistants(models)


def test_an_assistant_is_trained_between_the_two(tmp_path):
    """Oracle: the sealed models' shapes and lineage, from a recipe that never names the assistant."""
    for split, count in (("train", 16), ("validation", 6), ("test", 6)):
        rows = [json.dumps({"text": e.text, "label": LABELS[e.label]}) for e in make_examples(count, count)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    save_teacher(tmp_path / "pretrained")
    phases = [PHASE | {"objectives": [{"kind": "relations", "relation_heads": 8}]}]
    narrow = {"kind": "random", "layers": 1, "hidden_size": 16, "heads": 2}
    teacher = {"start": {"kind": "checkpoint", "source": str(tmp_path / "pretrained")}, "max_tokens": 16}
    tree = {
        "name": "assisted",
        "data": {"source": {"kind": "files", "directory": str(tmp_path)} | {s: f"{s}.jsonl" for s in SPLITS}},
        "models": {
            "teacher": teacher,
            "student": {"start": narrow, "teacher": "teacher", "assistant": "auto", "max_tokens": 16, "phases": phases},
        },
        "candidate": "student/int8",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    assert list(load_recipe(tmp_path / "recipe.yaml").models) == ["teacher", "student-assistant", "student"]
    assert main(["distill", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 0
    manifests = {name: read_manifest(tmp_path / "out" / "models" / name) for name in ("teacher", "student-assistant")}
    student_manifest = read_manifest(tmp_path / "out" / "models" / "student")
    assert student_manifest.lineage["teacher"].digest == manifests["student-assistant"].digest
    assert manifests["student-assistant"].lineage["teacher"].digest == manifests["teacher"].digest
    config = json.loads((tmp_path / "out" / "models" / "student-assistant" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (2, 16)


# Task transfer


def test_a_student_moves_to_another_task(made):
    """Oracle: before the first step, the encoder of the source task to the bit, and a head of the new task's size."""
    train_student(made, student(PHASE), "source")
    words = ("kitchen", "bedroom", "jazz", "rock", "stop")
    rows = [Example(text=f"play {word} now", label=index) for index, word in enumerate(words)] * 4
    splits = {"train": rows, "validation": rows[:5], "test": rows[:5]}
    seal_dataset(made / "rooms", labels=words, splits=splits)
    start = {"kind": "checkpoint", "source": str(made / "source")}
    stay = {"start": start, "teacher": None, "max_tokens": 16}
    train_student(made, ModelConfig(**stay, phases=()), "moved", start="source", data="rooms")
    before, after = read_weights(made / "source"), read_weights(made / "moved")
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("classifier."))
    assert before["classifier.weight"].shape == (len(LABELS), 32)
    assert after["classifier.weight"].shape == (5, 32)
    learns = PHASE | {"objectives": [{"kind": "labels"}], "epochs": 15}
    facts = train_student(made, ModelConfig(**stay, phases=[learns]), "learnt", start="source", data="rooms")
    accuracies = [e["validation_accuracy"] for e in facts["evaluations"]]
    assert accuracies[-1] > accuracies[0]
    config = json.loads((made / "learnt" / "config.json").read_text())
    assert tuple(config["id2label"].values()) == words


def test_a_head_for_other_labels_of_the_same_number_is_made_anew(made):
    """Oracle: the source's own weights; under other names its head would answer the old question."""
    train_student(made, student(PHASE), "same-number")
    kept, renewed = (load_classifier(made / "same-number", labels) for labels in (LABELS, ("rain", "snow", "sun")))
    before = read_weights(made / "same-number")
    assert torch.equal(kept.classifier.weight, before["classifier.weight"])
    assert not torch.equal(renewed.classifier.weight, before["classifier.weight"])
    encoder = {name: tensor for name, tensor in renewed.state_dict().items() if not name.startswith("classifier.")}
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.items() if name in before)
    assert tuple(renewed.config.id2label.values()) == ("rain", "snow", "sun")
