"""One loop for every phase: what must not change its result, where it goes on from, and what it says on the way."""

import itertools
import math
import random
import shutil
import struct
from types import SimpleNamespace

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from tiny_models import (
    LABELS,
    make_examples,
    make_tokenizer,
    read_log,
    read_weights,
    save_teacher,
    seal_dataset,
    train_student,
)
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from artifact.dataset import Example
from artifact.errors import ModelError, TrainingError
from distill import loop
from distill.batch import InputForm, collate_padded
from distill.batching import FeedPosition
from distill.build import build_run
from distill.checkpoint import read_tensors
from distill.config import CorpusConfig, ModelConfig
from distill.due import Due
from distill.step import losses_of

NARROW = {"kind": "random", "layers": 1, "hidden_size": 16, "heads": 2}
RELATIONS = {"kind": "relations", "relation_heads": 4}
EVERYTHING = [RELATIONS, {"kind": "hidden"}, {"kind": "logits", "temperature": 2.0}, {"kind": "labels", "weight": 0.5}]
ALL = {"name": "all", "objectives": EVERYTHING, "epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "dropout": 0.0}


def student(*phases: dict, **fields) -> ModelConfig:
    given = {"start": NARROW, "teacher": "teacher", "max_tokens": 16, "checkpoint_every_steps": 1, "phases": phases}
    return ModelConfig(**(given | fields))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, a teacher, a text corpus and a lexicon; 25 texts, so that the last batch of eight is one text."""
    root = tmp_path_factory.mktemp("loop")
    seal_dataset(root / "data", train=25, splits={"validation": make_examples(9, 2)})
    save_teacher(root / "teacher")
    (root / "corpus.txt").write_text("\n".join(row.text for row in make_examples(60, 9)), encoding="utf-8")
    (root / "lexicon.tsv").write_text("light\tjazz\t3\nlight\trock\t1\nmusic\tlight\t1\n", encoding="utf-8")
    return root


def corpora_of(root):
    source = {"kind": "files", "directory": root, "files": ["corpus.txt"]}
    switch = {"lexicon": root / "lexicon.tsv", "text_share": 0.5, "word_share": 0.5}
    return {"text": CorpusConfig(source=source, code_switch=switch)}


def train(root, tmp_path, config, name="student"):
    """Train in a directory of its own, from what lies in `root`."""
    for shared in root.iterdir():
        if not (tmp_path / shared.name).exists():
            (tmp_path / shared.name).symlink_to(shared)
    corpora = corpora_of(root) if any(phase.corpus for phase in config.phases) else None
    facts = train_student(tmp_path, config, name, corpora=corpora)
    return facts, tmp_path / name


def losses_of_steps(model) -> list[tuple[int, dict]]:
    return [(line["total_steps"], line["losses"]) for line in read_log(model) if "losses" in line]


def assert_same_run(one, other, tolerance=1e-5) -> None:
    first, second = losses_of_steps(one), losses_of_steps(other)
    assert [step for step, _ in first] == [step for step, _ in second]
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert a == pytest.approx(b, abs=tolerance)
    mine, theirs = read_weights(one), read_weights(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize(("teacher", "start"), [("distilbert", "bert"), ("bert", "distilbert")])
def test_one_of_two_models_may_know_no_token_types(made, tmp_path, teacher, start):
    """Oracle: the loss at step 0 from transformers' own logits of both models, text by text."""
    shape = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "num_labels": 3}
    tokenizer = make_tokenizer()
    save_teacher(tmp_path / "bert", seed=3)
    DistilBertForSequenceClassification(DistilBertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(
        tmp_path / "distilbert"
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(tmp_path / "distilbert")
    (tmp_path / "data").symlink_to(made / "data")
    phase = ALL | {"objectives": [{"kind": "logits"}]}
    config = student(phase, start={"kind": "checkpoint", "source": str(tmp_path / start)})
    facts = train_student(tmp_path, config, teacher=teacher, start=start)
    models = [AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in (teacher, start)]
    expected = 0.0
    for row in make_examples(9, 2):
        ids = torch.tensor([tokenizer(row.text)["input_ids"]])
        theirs, ours = (model.eval()(ids).logits.log_softmax(-1) for model in models)
        expected += (theirs.exp() * (theirs - ours)).sum().item() / 9
    assert facts["evaluations"][0]["validation_loss"] == pytest.approx(expected, abs=2e-5)


# What must not change the result


@pytest.mark.parametrize("size", [{}, {"batch_tokens": 70}], ids=["texts", "tokens"])
def test_parts_of_a_step_add_up(made, tmp_path, size):
    """Oracle: the same steps computed in one part; the last batch has fewer texts than there are parts."""
    _, whole = train(made, tmp_path, student(ALL | size), "whole")
    _, parts = train(made, tmp_path, student(ALL | size | {"accumulate": 3}), "parts")
    assert len(losses_of_steps(whole)) >= 6
    assert_same_run(whole, parts)


def test_a_part_that_is_lost_is_noticed(made, tmp_path, monkeypatch):
    """Oracle: the comparison above, which must fail when only the first of the parts is computed."""
    _, whole = train(made, tmp_path, student(ALL), "whole")
    from distill import text

    real = text.split
    monkeypatch.setattr(text, "split", lambda rows, parts: real(rows, parts)[:1])
    _, parts = train(made, tmp_path, student(ALL | {"accumulate": 3}), "parts")
    with pytest.raises(AssertionError):
        assert_same_run(whole, parts)


def test_packed_texts_have_the_losses_and_gradients_of_padded_ones(made, tmp_path):
    """Oracle: the same texts padded, each objective that may be packed, value and gradient."""
    objectives = [RELATIONS, {"kind": "attention", "layers": "top"}, {"kind": "hidden", "layers": "top"}]
    config = student(ALL | {"objectives": objectives, "batch_tokens": 64, "packing": True}, start=NARROW | {"heads": 4})
    run = build_run(
        config, data=made / "data", start=made / "teacher", teacher=made / "teacher", corpora={}, out=tmp_path
    ).run
    phase = run.phases[0]
    run.student.eval()
    for (packed,), _ in itertools.islice(run.texts.steps(run.plan_of(phase), FeedPosition()), 2):
        texts = [ids[mask] for ids, mask in zip(packed.token_ids(), packed.mask, strict=True)]
        padded = collate_padded(texts, packed.labels.tolist(), InputForm(0))
        assert len(packed.inputs["input_ids"]) < len(padded.inputs["input_ids"]) == len(texts)
        seen = []
        for batch in (packed, padded):
            run.learners().zero_grad()
            losses, _ = losses_of(run, phase.objectives, batch)
            sum(losses.values()).backward()
            gradients = {n: p.grad.clone() for n, p in run.learners().named_parameters() if p.grad is not None}
            seen.append((losses, gradients))
        torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-5)


# Where it goes on from

UNLABELLED = [{"kind": "hidden"}, RELATIONS]
LONG = ALL | {"epochs": 2, "dropout": 0.1, "noise": {}}
FEATURES = {
    "an average": [
        LONG | {"average_decay": 0.9}, LONG | {"name": "more", "objectives": UNLABELLED, "average_decay": 0.5}
    ],
    "patience": [LONG | {"objectives": UNLABELLED, "patience": 1, "learning_rate": 3e-2}, LONG | {"name": "more"}],
    "packing": [LONG | {"objectives": UNLABELLED, "batch_tokens": 48, "packing": True}],
    "a corpus": [
        LONG | {"objectives": UNLABELLED, "corpus": "text", "epochs": None, "steps": 13},
        LONG | {"name": "packed", "objectives": UNLABELLED, "corpus": "text", "epochs": None, "steps": 5,
                "batch_tokens": 48, "packing": True},
    ],
    "projections": [
        LONG | {"objectives": [{"kind": "hidden", "measure": "kld", "layers": "top"}]}, LONG | {"name": "more"}
    ],
    "gradual unfreezing": [LONG | {"unfreeze_gradually": "top-down", "epochs": 1, "average_decay": 0.9}],
    "a token budget in parts": [LONG | {"batch_tokens": 70, "accumulate": 3, "schedule": "cosine"}],
    "bf16": [LONG],
    "dropout of its own after none": [LONG | {"dropout": 0.0}, LONG | {"name": "more", "dropout": None}],
    "masked words": [
        LONG | {"objectives": [{"kind": "mlm"}], "noise": None, "average_decay": 0.9},
        LONG | {"name": "packed", "objectives": [{"kind": "mlm", "whole_words": True}], "noise": None, "corpus": "text",
                "epochs": None, "steps": 5, "batch_tokens": 48, "packing": True},
    ],
}  # fmt: skip


OFTEN = ("projections", "gradual unfreezing", "dropout of its own after none", "masked words")
"""Tried at every change; the others are long."""


@pytest.mark.parametrize(
    "feature", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in FEATURES]
)
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(made, tmp_path, monkeypatch, feature):
    """Oracle: the undisturbed run's file and log; stops come before steps and right after checkpoints, at random."""
    keep_best = list(FEATURES).index(feature) % 2 == 0
    fields = {"checkpoint_every_steps": 2, "evaluate_every_steps": 3, "keep_best": keep_best}
    config = student(*FEATURES[feature], **fields, precision="bf16" if feature == "bf16" else None)
    _, calm = train(made, tmp_path, config, "calm")
    countdown = [0]

    def count() -> None:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise KeyboardInterrupt

    step, save = loop.take_step, loop.save_checkpoint
    monkeypatch.setattr(loop, "take_step", lambda *given: (count(), step(*given))[1])
    monkeypatch.setattr(loop, "save_checkpoint", lambda *given, **more: (save(*given, **more), count()))
    rng, stops, ended = random.Random(feature), 0, False
    while not ended:
        countdown[0] = rng.randint(2, 7) + stops // 8  # some resumes must make way
        try:
            train(made, tmp_path, config, "stopped")
            ended = True
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2
    stopped = tmp_path / "stopped"
    assert (calm / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    assert read_log(calm) == read_log(stopped)


def test_patience_is_not_forgotten_by_a_stop(made, tmp_path, monkeypatch):
    """Oracle: the step at which the undisturbed run gave up; the stop comes after that step's checkpoint."""
    phase = LONG | {"objectives": UNLABELLED, "patience": 1, "learning_rate": 1e-9, "epochs": 9}
    config = student(phase, evaluate_every_steps=2, keep_best=False)
    calm, _ = train(made, tmp_path, config, "calm")
    assert calm["steps"] < 36
    save, saved = loop.save_checkpoint, []

    def stopping(*given, **more):
        save(*given, **more)
        saved.append(given[2].step)
        if len(saved) == calm["steps"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path, config, "stopped")
    assert saved[-1] == calm["steps"]
    stopped, _ = train(made, tmp_path, config, "stopped")
    assert stopped["steps"] == calm["steps"]
    assert read_weights(tmp_path / "stopped").keys() == read_weights(tmp_path / "calm").keys()


def test_a_run_that_says_nothing_of_checkpoints_is_saved_by_the_clock(made, tmp_path, monkeypatch):
    """Oracle: the steps saved, with a clock on which a step takes 12 seconds; then the same bits."""
    config = student(ALL, checkpoint_every_steps=None, keep_best=False)
    _, calm = train(made, tmp_path, config, "calm")
    save, step, saved, time_s = loop.save_checkpoint, loop.take_step, [], [0.0]

    def taking(*given):
        time_s[0] += 12.0
        return step(*given)

    def stopping(*given, **more):
        save(*given, **more)
        saved.append(given[2].step)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stopping)
    monkeypatch.setattr(loop, "Due", lambda every, accelerator: Due(every, accelerator, lambda: time_s[0]))
    monkeypatch.setattr(loop, "take_step", taking)
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path, config, "stopped")
    assert saved == [3, 6]
    train(made, tmp_path, config, "stopped")
    assert (calm / "model.safetensors").read_bytes() == (tmp_path / "stopped" / "model.safetensors").read_bytes()


def test_a_run_goes_on_with_as_many_processes_as_it_began_with(made, tmp_path, monkeypatch):
    """Oracle: the message; the checkpoint is made to say that two processes wrote it, between two phases."""
    config = student(ALL, ALL | {"name": "more"})
    position = loop.Position
    monkeypatch.setattr(loop._Leg, "begin", interrupted_at(loop._Leg.begin, phase=1))
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path, config)
    path = tmp_path / "student" / "checkpoints" / "latest.safetensors"
    tensors, metadata = read_tensors(path)
    two = position.model_validate_json(metadata["position"]).model_copy(update={"processes": 2})
    loop.write_tensors(path, tensors, {"position": two.model_dump_json()})
    with pytest.raises(TrainingError, match=r"was begun by 2 processes, found 1\n  go on with as many"):
        train(made, tmp_path, config)


def interrupted_at(begin, phase):
    def stopping(run, position, *given):
        if position.phase == phase:
            raise KeyboardInterrupt
        return begin(run, position, *given)

    return stopping


# What it says on the way


def test_the_log_says_what_is_learnt_and_how_fast(made, tmp_path):
    """Oracle: the recipe's objectives and steps, the schedule's rate; the first line is the untouched student's."""
    facts, model = train(made, tmp_path, student(ALL, evaluate_every_steps=3))
    lines = read_log(model)
    assert (lines[0]["step"], set(lines[0])) == (
        0,
        {"phase_index", "step", "phase", "total_steps", "validation_loss", "validation_accuracy"},
    )
    assert [entry["step"] for entry in facts["evaluations"]] == [0, 3, 6, 8]
    steps = [line for line in lines if "losses" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert all(set(line["losses"]) == {"relations", "hidden", "logits", "labels"} for line in steps)
    assert all(line["gradient_norm"] > 0 for line in steps)
    assert [line["learning_rate"] for line in steps] == pytest.approx([1e-3 * (8 - k) / 8 for k in range(8)])
    raw = [line for line in (model / "records" / "log.jsonl").read_text().splitlines() if "tokens_per_s" in line]
    assert len(raw) == 8


def read_events(model) -> list[Event]:
    """TensorBoard's files, read by their format: length, checksum, record, checksum."""
    events = []
    for path in (model / "records" / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_tensorboard_has_each_number_once_also_after_a_stop(made, tmp_path, monkeypatch):
    """Oracle: the log's own lines; the run is stopped between two checkpoints, with lines that will come again."""
    config = student(LONG, LONG | {"name": "more"}, checkpoint_every_steps=5, evaluate_every_steps=2)
    real, steps = loop.take_step, itertools.count(1)

    def stopping(*given):
        if next(steps) in (4, 14, 20):
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(loop, "take_step", stopping)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(made, tmp_path, config)
    _, model = train(made, tmp_path, config)
    found = [(v.tag, e.step, v.simple_value) for e in read_events(model) for v in e.summary.value]
    places = [(tag, step) for tag, step, _ in found]
    assert len(places) == len(set(places)) > 40
    expected = {}
    for line in read_log(model):
        for name, value in line.items():
            for key, number in (
                {f"losses/{k}": v for k, v in value.items()} if name == "losses" else {name: value}
            ).items():
                if key not in ("phase_index", "step", "phase", "total_steps"):
                    expected[f"{line['phase']}/{key}", line["total_steps"]] = number
    assert {(t, s): v for t, s, v in found if "tokens_per_s" not in t} == pytest.approx(expected, rel=1e-6)


# Alarms


def spoiled(monkeypatch, at: int, spoil) -> None:
    """Let `spoil` have its way with the student after step `at`, once."""
    real, steps = loop.take_step, itertools.count(1)

    def spoiling(run, *given):
        outcome = real(run, *given)
        if next(steps) == at:
            with torch.no_grad():
                spoil(run)
        return outcome

    monkeypatch.setattr(loop, "take_step", spoiling)


def collapse(run) -> None:
    run.student.bert.encoder.layer[-1].output.LayerNorm.weight.zero_()


def fill_embeddings(run) -> None:
    run.student.bert.embeddings.LayerNorm.weight.fill_(math.nan)


def fill_head(run) -> None:
    run.student.classifier.bias.fill_(math.nan)


def fill_projection(run) -> None:
    next(iter(run.projections.parameters())).fill_(math.nan)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (collapse, "student: the student's embeddings have collapsed: only .* differs between texts, it was "),
        (fill_embeddings, "student: the student's embeddings are not finite"),
        (fill_head, "student: the model.classifier.bias is not finite at step 5 of phase 'all'"),
        (fill_projection, "student: the projections.hidden-1.weight is not finite at step 5 of phase 'all'"),
    ],
)
def test_a_student_that_goes_wrong_stops_the_run_and_the_last_good_checkpoint_stays(
    made, tmp_path, monkeypatch, spoil, message
):
    """Oracle: the message; the checkpoint is of the step before, is finite, and the run goes on from it to its end."""
    config = student(ALL, evaluate_every_steps=4)
    _, calm = train(made, tmp_path, config, "calm")
    spoiled(monkeypatch, 5, spoil)
    with pytest.raises(TrainingError, match=message):
        train(made, tmp_path, config)
    tensors, metadata = read_tensors(tmp_path / "student" / "checkpoints" / "latest.safetensors")
    assert '"step":4' in metadata["position"]
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    assert tensors["learners.model.bert.encoder.layer.0.output.LayerNorm.weight"].abs().min() > 0.5
    _, again = train(made, tmp_path, config)
    assert (calm / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_the_last_layer_is_watched_when_its_states_are_learnt(made, tmp_path, monkeypatch):
    """Oracle: what the last layer gives is made one and the same; what it reads is as healthy as before."""
    spoiled(monkeypatch, 3, collapse)
    with pytest.raises(TrainingError, match="the student's embeddings have collapsed"):
        train(made, tmp_path, student(ALL | {"objectives": [{"kind": "hidden"}]}))


def test_each_phase_has_its_own_measure_of_health(made, tmp_path):
    """Oracle: relations look below the last layer, whose output is dead from the start and learns in the next phase."""
    teacher = save_teacher(tmp_path / "teacher")
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    with torch.no_grad():
        collapse(SimpleNamespace(student=model))
    model.save_pretrained(teacher)
    phases = [ALL | {"objectives": [RELATIONS]}, ALL | {"name": "more"}]
    facts, _ = train(made, tmp_path, student(*phases, start={"kind": "layers", "layers": [1]}))
    assert facts["steps"] == 16


def test_training_itself_can_collapse_and_is_stopped(made, tmp_path):
    """Oracle: a learning rate that rises to a thousand times too much makes all texts look the same, in a few steps."""
    phase = ALL | {"objectives": [{"kind": "embedding"}], "learning_rate": 3.0, "warmup_share": 0.9, "epochs": 40}
    with pytest.raises(
        TrainingError, match=r"the student's embeddings have collapsed: only .*, it was 0\.[0-9]+\n  lower"
    ):
        train(made, tmp_path, student(phase, start={"kind": "layers", "layers": [0]}, evaluate_every_steps=1))
    assert (tmp_path / "student" / "checkpoints" / "latest.safetensors").exists()
    assert not (tmp_path / "student" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("rows", "start", "objectives"),
    [
        (24, NARROW, EVERYTHING),
        (24, {"kind": "layers", "layers": [0]}, [RELATIONS]),
        (2, NARROW, [{"kind": "embedding", "measure": "similarity"}]),
        (1, NARROW, [RELATIONS]),
    ],
)
def test_healthy_students_raise_no_alarm(made, tmp_path, rows, start, objectives):
    """Oracle: a sensible learning rate; students of random weights, and validation splits of one or two texts."""
    seal_dataset(tmp_path / "data", train=25, splits={"validation": make_examples(rows, 2)})
    phases = [ALL | {"objectives": objectives}, ALL | {"name": "more"}]
    facts, _ = train(made, tmp_path, student(*phases, start=start))
    assert facts["steps"] == 16


# Precision and compilation


def test_bf16_learns_and_leaves_float32(made, tmp_path):
    """Oracle: the losses fall and stay finite; every weight of the result is float32; a float32 run may follow."""
    facts, model = train(made, tmp_path, student(ALL | {"epochs": 10, "learning_rate": 3e-3}, precision="bf16"))
    losses = [sum(line.values()) for _, line in losses_of_steps(model)]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert {tensor.dtype for tensor in read_weights(model).values()} == {torch.float32}
    exact, _ = train(made, tmp_path, student(ALL), "after")
    assert exact["evaluations"][0]["validation_loss"] == pytest.approx(
        facts["evaluations"][0]["validation_loss"], rel=0.02
    )
    assert exact["evaluations"][0]["validation_loss"] != facts["evaluations"][0]["validation_loss"]


def test_fp16_needs_a_gpu(made, tmp_path, monkeypatch):
    """Oracle: one error that says so, and a later model of the same command in float32 trains."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"precision fp16.* GPU(.|\n)*use bf16 or float32"):
        train(made, tmp_path, student(ALL, precision="fp16"))
    train(made, tmp_path, student(ALL))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_student_learns_the_same(made, tmp_path):
    """Oracle: the run that is not compiled."""
    _, plain = train(made, tmp_path, student(ALL), "plain")
    _, compiled = train(made, tmp_path, student(ALL, compile=True), "compiled")
    assert_same_run(plain, compiled, tolerance=1e-4)


# A vocabulary of its own


def test_a_pruned_student_answers_through_its_own_tokenizer_as_it_did_in_training(made, tmp_path):
    """Oracle: validation accuracy, computed anew with transformers alone; the facts; what was left out is gone."""
    train_rows = [Example(text=t, label=i) for i, t in enumerate(("turn the light on", "play music", "what time"))] * 12
    rows = {"train": train_rows, "validation": train_rows[:3] * 3, "test": make_examples(24, 3)}
    seal_dataset(tmp_path / "data", splits=rows)
    objectives = [{"kind": "logits"}, {"kind": "labels"}]
    phase = ALL | {"objectives": objectives, "epochs": 8, "learning_rate": 5e-3}
    save_teacher(tmp_path / "teacher", letters=True)
    facts, model = train(made, tmp_path, student(phase, start={"kind": "layers", "layers": [0]}, vocabulary={}))
    own = AutoTokenizer.from_pretrained(model)
    full = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    told = facts["vocabulary"]
    assert told["pieces"] == len(own) < told["pieces_before"] == len(full)
    assert "jazz" in full.get_vocab()
    assert "jazz" not in own.get_vocab()
    test = [row.text for row in make_examples(24, 3)]
    covered = [all(word in own.get_vocab() for word in text.split()) for text in test]
    assert told["held_out_texts_covered"] == pytest.approx(sum(covered) / len(test), abs=1e-4)
    network = AutoModelForSequenceClassification.from_pretrained(model).eval()
    assert network.config.vocab_size == len(own)
    inputs = own([row.text for row in train_rows[:3]], padding=True, return_tensors="pt")
    answers = network(**inputs).logits.argmax(-1).tolist()
    accuracy = sum(a == b for a, b in zip(answers, range(3), strict=True)) / 3
    best = max(line["validation_accuracy"] for line in facts["evaluations"])
    assert accuracy == pytest.approx(best, abs=1e-4)
    assert len(LABELS) == network.config.num_labels


@pytest.mark.slow
@pytest.mark.long
def test_a_pruned_student_learns_words_that_its_training_text_has_not(made, tmp_path):
    """Oracle: the teacher's answers on words that were cut, which come nearer with `spell_share`."""
    train_rows = [Example(text=t, label=i) for i, t in enumerate(("turn the light", "play", "what time"))] * 20
    seal_dataset(tmp_path / "data", splits=dict.fromkeys(("train", "validation", "test"), train_rows))
    save_teacher(tmp_path / "teacher", letters=True)
    full = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    teacher = AutoModelForSequenceClassification.from_pretrained(tmp_path / "teacher").eval()
    texts = [" ".join(pair) for pair in itertools.permutations(["kitchen", "jazz", "rock", "please", "bedroom"], 2)]
    apart = {}
    for share in (0.0, 0.8):
        noise = {"mask_share": 0, "exchange_share": 0, "spell_share": share}
        fields = {"objectives": [{"kind": "logits"}], "steps": 400, "epochs": None}
        phase = ALL | fields | {"learning_rate": 5e-3, "noise": noise}
        fields = {"vocabulary": {}, "keep_best": False, "checkpoint_every_steps": 200}
        config = student(phase, start={"kind": "layers", "layers": [0, 1]}, **fields)
        _, model = train(made, tmp_path, config, f"share-{share}")
        own = AutoTokenizer.from_pretrained(model)
        assert not {"jazz", "rock", "kitchen"} & own.get_vocab().keys()
        network = AutoModelForSequenceClassification.from_pretrained(model).eval()
        with torch.no_grad():
            theirs = teacher(**full(texts, padding=True, return_tensors="pt")).logits.log_softmax(-1)
            ours = network(**own(texts, padding=True, return_tensors="pt")).logits.log_softmax(-1)
        apart[share] = float((theirs.exp() * (theirs - ours)).sum(-1).mean())
    assert apart[0.8] < 0.7 * apart[0.0]


def test_a_student_that_lacks_nothing_has_nothing_to_spell(made, tmp_path):
    """Oracle: the messages, as a user reads them."""
    noise = {"spell_share": 0.1}
    with pytest.raises(ModelError, match=r"student lacks, and it lacks none\n  give the student"):
        train(made, tmp_path, student(ALL | {"noise": noise, "objectives": [{"kind": "logits"}]}))
    with pytest.raises(ValueError, match="spells pieces: its objectives must be of whole texts, logits or labels"):
        student(ALL | {"noise": noise, "objectives": [{"kind": "relations"}]})
