"""Whole training runs of tiny models: what they leave, and that a killed run ends where an undisturbed one does."""

import contextlib
import itertools
import json
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from children import CHILDREN
from tiny_models import LABELS, make_bert, make_examples, make_tokenizer, save_teacher, seal_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from artifact.errors import DataError, ModelError, TrainingError
from artifact.manifest import read_manifest
from artifact.stage import run_stage
from distill.batching import by_texts, seeded
from distill.checkpoint import Position, load_checkpoint, save_checkpoint
from distill.config import ModelConfig, Noise
from distill.heads import Head
from distill.run import distill_stage
from distill.schedule import dropouts_of, freeze_all_but, parts_of, rate_at, set_dropout
from distill.student import build_start, count_parameters, keep_layers
from distill.text import Texts

TEACHER = {
    "start": {"kind": "checkpoint", "source": ""},
    "max_tokens": 16,
    "checkpoint_every_steps": 3,
    "evaluate_every_steps": 4,
    "phases": [
        {"name": "labels", "objectives": [{"kind": "labels"}], "epochs": 6, "learning_rate": 3e-3, "batch_size": 8}
    ],
}
STUDENT = {
    "start": {"kind": "layers", "layers": [1]},
    "teacher": "teacher",
    "max_tokens": 16,
    "checkpoint_every_steps": 3,
    "phases": [
        {"name": "relations", "objectives": [{"kind": "relations", "relation_heads": 8}], "epochs": 2,
         "learning_rate": 1e-3, "batch_size": 8, "dropout": 0.0},
        {"name": "predictions", "objectives": [{"kind": "logits", "temperature": 2.0}, {"kind": "labels"}], "epochs": 3,
         "learning_rate": 3e-3, "batch_size": 8, "dropout": 0.1, "noise": {"mask_share": 0.1}},
    ],
}  # fmt: skip


def make(root: Path, name: str, config: dict) -> None:
    models = {"teacher": root / "teacher", "student": root / "student"}
    stage, work = distill_stage(name, ModelConfig(**config), data=root / "data", out=models[name], models=models)
    run_stage(stage, work)


def teacher_config(source: Path) -> dict:
    return TEACHER | {"start": {"kind": "checkpoint", "source": str(source)}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, a fine-tuned teacher and a student distilled from it."""
    root = tmp_path_factory.mktemp("distilled")
    seal_dataset(root / "data")
    save_teacher(root / "pretrained", layers=2)
    make(root, "teacher", teacher_config(root / "pretrained"))
    make(root, "student", STUDENT)
    return root


def test_training_learns(made):
    """Oracle: the label follows from one word, so accuracy must rise from chance at step 0 to near all."""
    evaluations = read_manifest(made / "teacher").facts["evaluations"]
    assert evaluations[0]["step"] == 0
    assert evaluations[0]["validation_accuracy"] < 0.7
    assert max(e["validation_accuracy"] for e in evaluations) > 0.9
    last = [e for e in read_manifest(made / "student").facts["evaluations"] if e["phase"] == "predictions"][-1]
    assert last["validation_accuracy"] > 0.8


def test_the_relation_loss_falls(made):
    """Oracle: the validation loss of the phase at its first and last evaluation."""
    losses = [
        e["validation_loss"] for e in read_manifest(made / "student").facts["evaluations"] if e["phase"] == "relations"
    ]
    assert losses[-1] < losses[0]


def test_a_model_opens_in_transformers(made):
    """Oracle: transformers itself, labels in order, nothing left over."""
    for name, layers in (("teacher", 2), ("student", 1)):
        model = AutoModelForSequenceClassification.from_pretrained(made / name)
        assert tuple(model.config.id2label.values()) == LABELS
        assert model.config.num_hidden_layers == layers
        tokenizer = AutoTokenizer.from_pretrained(made / name)
        assert tokenizer("turn on the light")["input_ids"][0] == tokenizer.cls_token_id
        assert not (made / name / "checkpoints").exists()
        assert str(made) not in (made / name / "config.json").read_text()


def test_the_log_has_every_phase_and_its_losses(made):
    """Oracle: the recipe."""
    lines = [json.loads(line) for line in (made / "student" / "records" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(
        line["step"] for line in lines if line["phase_index"] == 0
    ) + sorted(line["step"] for line in lines if line["phase_index"] == 1)
    assert {key for line in lines for key in line.get("losses", {})} == {"relations", "logits", "labels"}


def train_in_child(root: Path) -> None:
    os.environ.update(OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    make(root, "teacher", teacher_config(root / "pretrained"))
    make(root, "student", STUDENT)


def run_killed(root: Path, delays) -> int:
    """Train in a child process, killing it after each delay in turn; returns how many kills hit it alive."""
    kills = 0
    for delay in [*delays, None]:
        process = CHILDREN.Process(target=train_in_child, args=(root,))
        process.start()
        if delay is None:
            process.join(300)
            assert process.exitcode == 0
            break
        wait_for_training(root, process)
        time.sleep(delay)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join(60)
    return kills


def checkpoint_times(root: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in root.glob("*/checkpoints/*.safetensors")}


def wait_for_training(root: Path, process) -> None:
    """Until the child writes a checkpoint of its own: killing Python while it still imports would prove nothing."""
    before, deadline = checkpoint_times(root), time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):  # replaced between the listing and the look
            if checkpoint_times(root) - before:
                return
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    """Oracle: an undisturbed run; `kill -9` at random moments, checkpoints being written among them."""
    roots = [tmp_path / "calm", tmp_path / "killed"]
    for root in roots:
        seal_dataset(root / "data")
        save_teacher(root / "pretrained", layers=2)
    assert run_killed(roots[0], []) == 0
    rng = random.Random(5)
    assert run_killed(roots[1], [rng.uniform(0.0, 0.2) for _ in range(8)]) >= 5
    for name in ("teacher", "student"):
        calm, killed = (read_manifest(root / name) for root in roots)
        assert calm.files["model.safetensors"].sha256 == killed.files["model.safetensors"].sha256


def die_while_writing(root: Path, checkpoint: int, share: float) -> None:
    """Train, and be killed when `share` of the bytes of that checkpoint are written, none of them under its name."""
    from distill import checkpoint as module

    real, begun = module.save_file, itertools.count(1)

    def dying(tensors, path, metadata):
        real(tensors, path, metadata)
        if next(begun) == checkpoint:
            os.truncate(path, int(share * path.stat().st_size))
            os.kill(os.getpid(), signal.SIGKILL)

    module.save_file = dying
    train_in_child(root)


@pytest.mark.long
def test_a_kill_while_a_checkpoint_is_written_changes_no_bit(tmp_path):
    """Oracle: an undisturbed run; half a file, and a whole one that has not taken the old one's place."""
    for root in (tmp_path / "calm", tmp_path / "killed"):
        seal_dataset(root / "data", train=40)
        save_teacher(root / "pretrained", layers=2)
    for checkpoint, share in ((1, 0.5), (4, 0.0), (6, 0.5), (7, 1.0)):
        process = CHILDREN.Process(target=die_while_writing, args=(tmp_path / "killed", checkpoint, share))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert len(list((tmp_path / "killed").glob("*/checkpoints/*.tmp"))) == 1
    assert run_killed(tmp_path / "calm", []) == run_killed(tmp_path / "killed", []) == 0
    for name in ("teacher", "student"):
        calm, killed = (read_manifest(tmp_path / root / name).files for root in ("calm", "killed"))
        assert calm["model.safetensors"] == killed["model.safetensors"]


def test_every_step_can_be_the_last_before_a_kill(tmp_path, monkeypatch):
    """Oracle: the undisturbed run's hash; the run stops right after each kind of moment and goes on."""
    seal_dataset(tmp_path / "data", train=24)
    save_teacher(tmp_path / "pretrained", layers=2)
    config = teacher_config(tmp_path / "pretrained") | {"checkpoint_every_steps": 2, "evaluate_every_steps": 3}
    config["phases"] = [dict(config["phases"][0], epochs=2), dict(config["phases"][0], name="again", epochs=1)]
    (tmp_path / "calm").mkdir()
    models = {"teacher": tmp_path / "calm" / "teacher"}
    stage, work = distill_stage(
        "teacher", ModelConfig(**config), data=tmp_path / "data", out=models["teacher"], models={}
    )
    expected = run_stage(stage, work).files["model.safetensors"]

    from distill import loop

    real, countdown = loop.take_step, [0]

    def stopping(*arguments):
        countdown[0] -= 1
        if countdown[0] == 0:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "take_step", stopping)
    stage, work = distill_stage(
        "teacher", ModelConfig(**config), data=tmp_path / "data", out=tmp_path / "stopped", models={}
    )
    stops = 0
    for steps in [2, 3, 4, 2, 3, 5, 0]:
        countdown[0] = steps
        try:
            manifest = run_stage(stage, work)
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 4
    assert manifest.files["model.safetensors"] == expected


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    """Oracle: the message names phase and step; nothing is sealed."""
    seal_dataset(tmp_path / "data")
    save_teacher(tmp_path / "pretrained")
    config = teacher_config(tmp_path / "pretrained")
    config["phases"] = [dict(config["phases"][0], learning_rate=1e30, warmup_share=0.0)]
    stage, work = distill_stage(
        "teacher", ModelConfig(**config), data=tmp_path / "data", out=tmp_path / "teacher", models={}
    )
    with pytest.raises(TrainingError, match=r"the labels loss is not finite at step [0-9]+ of phase 'labels'"):
        run_stage(stage, work)
    assert not (tmp_path / "teacher" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"kind": "layers", "layers": [0, 7]}, r"start.layers names \[7\], expected indices .* 0 to 1"),
        ({"kind": "layers", "layers": [-1]}, r"start.layers names \[-1\]"),
    ],
)
def test_a_student_that_cannot_be_built_names_the_numbers(tmp_path, start, message):
    """Oracle: the message a user reads."""
    save_teacher(tmp_path / "teacher")
    with pytest.raises(ModelError, match=message):
        build_start(ModelConfig(start=start, teacher="teacher"), tmp_path / "teacher", Head(LABELS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"objectives": [{"kind": "relations", "relation_heads": 5}]},
            "5 does not divide the teacher's hidden size 32",
        ),
        (
            {"objectives": [{"kind": "relations", "teacher_layer": 9}]},
            "teacher_layer is 9, the teacher has layers 1 to 2",
        ),
        ({"unfreeze": ["layer.7"]}, "no part 'layer.7' to unfreeze, expected all, embeddings, layer.0, pooler, head"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_step(made, tmp_path, change, message):
    """Oracle: the message, and that nothing was trained."""
    phases = [STUDENT["phases"][1], STUDENT["phases"][0] | change]
    models = {"teacher": made / "teacher"}
    config = ModelConfig(**(STUDENT | {"phases": phases}))
    stage, work = distill_stage("student", config, data=made / "data", out=tmp_path / "student", models=models)
    with pytest.raises(ModelError, match=message):
        run_stage(stage, work)
    assert not (tmp_path / "student" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:no_such_package/model", "the package 'no_such_package' is not installed"),
        ("package:torch/no_such_folder", "has no folder"),
        ("./nowhere", "there is no directory ./nowhere"),
        ("someone/not-here", "cannot fetch 'someone/not-here' from the Hub"),
        ("not a name!", "is neither a directory nor a Hub id"),
    ],
)
def test_a_teacher_that_is_not_there_is_named(tmp_path, source, message):
    """Oracle: the message a user reads, offline."""
    seal_dataset(tmp_path / "data")
    config = ModelConfig(**(TEACHER | {"start": {"kind": "checkpoint", "source": source}}))
    with pytest.raises(ModelError, match=message):
        distill_stage("teacher", config, data=tmp_path / "data", out=tmp_path / "teacher", models={})


def test_pickled_weights_are_refused(tmp_path):
    """Oracle: a directory with pytorch_model.bin alone is not read."""
    save_teacher(tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors weights"):
        distill_stage(
            "teacher", ModelConfig(**teacher_config(tmp_path / "pickled")), data=tmp_path, out=tmp_path / "t", models={}
        )


def test_an_unknown_architecture_lists_what_it_found(tmp_path):
    """Oracle: the message; CANINE is a classifier whose layout is not in the table."""
    from transformers import CanineConfig, CanineForSequenceClassification

    config = CanineConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_hash_buckets=16,
        max_position_embeddings=64, local_transformer_stride=16, downsampling_rate=4,
    )  # fmt: skip
    CanineForSequenceClassification(config).save_pretrained(tmp_path / "canine")
    with pytest.raises(ModelError, match=r"unknown architecture 'canine', expected one of albert(.|\n)*attention"):
        build_start(ModelConfig(**teacher_config(tmp_path / "canine")), tmp_path / "canine", Head(LABELS))


def test_kept_layers_compute_what_they_did():
    """Oracle: the teacher's own modules, called layer by layer."""
    teacher = make_bert(layers=3)
    student = keep_layers(teacher, [2, 0]).eval()
    ids = torch.randint(5, 20, (2, 7))
    hidden = teacher.bert.embeddings(input_ids=ids)
    for index in (2, 0):
        hidden = teacher.bert.encoder.layer[index](hidden)[0]
    expected = teacher.classifier(teacher.bert.pooler(hidden))
    torch.testing.assert_close(student(input_ids=ids).logits, expected, atol=1e-5, rtol=0)


def test_parameters_are_counted_as_the_papers_do():
    """Oracle: MiniLM's 12x768 of 109.5 M and 3x384 of 17.4 M, of which 5.3 M in the Transformer (Table 4)."""
    from transformers import BertConfig, BertForSequenceClassification

    for layers, hidden, total, transformer in ((12, 768, 109.5, 85.1), (3, 384, 17.4, 5.3)):
        with torch.device("meta"):
            config = BertConfig(
                num_hidden_layers=layers, hidden_size=hidden, intermediate_size=4 * hidden, num_labels=2
            )
            counts = count_parameters(BertForSequenceClassification(config))
        assert counts["total"] / 1e6 == pytest.approx(total, abs=0.1)
        assert counts["transformer"] / 1e6 == pytest.approx(transformer, abs=0.1)
        assert counts["embedding"] + counts["transformer"] + counts["head"] == counts["total"]


def test_only_what_is_unfrozen_learns():
    """Oracle: requires_grad of every parameter, by name."""
    model = make_bert()
    freeze_all_but(model, ["head", "layer.1"])
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {
        n for n, _ in model.named_parameters() if n.startswith(("classifier.", "bert.encoder.layer.1."))
    }
    assert sum(len(group) for group in parts_of(model).values()) == len(list(model.parameters()))
    with pytest.raises(ModelError, match=r"no part 'layer.2' to unfreeze, expected all, embeddings, layer.0"):
        freeze_all_but(model, ["layer.2"])


def test_dropout_zero_trains_as_it_answers():
    """Oracle: identity of training and evaluation mode, fused attention's own dropout included."""
    model = make_bert()
    set_dropout(model, 0.0)
    ids = torch.randint(5, 20, (2, 7))
    torch.testing.assert_close(model.train()(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


def test_dropout_comes_back_as_it_was():
    """Oracle: the model's own numbers, made unequal beforehand; a second reading of all of them."""
    model = make_bert()
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    for number, layer in enumerate(layers):
        layer.p = number / 100
    own = dropouts_of(model)
    assert [own[name, "p"] for name, module in model.named_modules() if module in layers] == [
        number / 100 for number in range(len(layers))
    ]
    set_dropout(model, 0.5)
    assert {layer.p for layer in layers} == {0.5}
    set_dropout(model, own)
    assert dropouts_of(model) == own


def test_the_rate_rises_and_falls():
    """Oracle: linear warm-up to the peak, then linearly to one step above zero."""
    phase = ModelConfig(**TEACHER).phases[0].model_copy(update={"learning_rate": 1.0, "warmup_share": 0.2})
    rates = [rate_at(step, 10, phase) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_batches_hold_every_text_once_and_follow_the_seed():
    """Oracle: a permutation; the same for the same seed and epoch, another for another."""
    lengths = [3 + i % 11 for i in range(103)]
    batches = by_texts(lengths, 8, seeded(1, 0))
    assert sorted(i for batch in batches for i in batch) == list(range(103))
    assert batches == by_texts(lengths, 8, seeded(1, 0))
    assert batches != by_texts(lengths, 8, seeded(1, 1))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    assert padded < 1.1 * sum(lengths)


def test_noise_touches_only_ordinary_tokens_of_about_half_of_the_texts():
    """Oracle: counts over many texts; special tokens and padding as they were; the generator's state decides."""
    texts = Texts(make_tokenizer(), make_examples(400, 0), 16, "train")
    batch, noise = texts.batch(range(400)), Noise(mask_share=0.3, exchange_share=0.3)
    before = batch.inputs["input_ids"]
    torch.manual_seed(1)
    noisy = texts.noisy(batch, noise)
    torch.manual_seed(1)
    assert torch.equal(noisy.inputs["input_ids"], texts.noisy(batch, noise).inputs["input_ids"])
    assert torch.equal(noisy.labels, batch.labels)
    special = ~batch.mask | (before < 5)
    draws = [texts.noisy(batch, noise).inputs["input_ids"] for _ in range(30)]
    assert all(torch.equal(after[special], before[special]) for after in draws)
    untouched = torch.stack([(after == before).all(dim=1) for after in draws]).float().mean().item()
    assert 0.5 <= untouched < 0.56
    masked = torch.stack([(after == 4).sum() / (~special).sum() for after in draws]).mean().item()
    assert masked == pytest.approx(0.15, abs=0.01)


def test_words_become_pieces_that_the_student_lacks():
    """Oracle: counts; no other piece comes in, and nothing special changes."""
    texts = Texts(make_tokenizer(), make_examples(400, 0), 16, "train")
    batch, noise = texts.batch(range(400)), Noise(mask_share=0, exchange_share=0, spell_share=0.4)
    before, lacking = batch.inputs["input_ids"], torch.tensor([30, 31, 40])
    after = texts.noisy(batch, noise, lacking).inputs["input_ids"]
    changed = after != before
    assert set(after[changed].tolist()) == {30, 31, 40}
    assert not changed[~batch.mask | (before < 5)].any()
    assert changed.sum() / (batch.mask & (before >= 5)).sum() == pytest.approx(0.2, abs=0.03)
    assert torch.equal(texts.noisy(batch, noise).inputs["input_ids"], before)


def test_an_empty_split_and_a_long_text():
    """Oracle: one clear error; truncation to max_tokens with both special tokens kept."""
    with pytest.raises(DataError, match="the train split has no rows"):
        Texts(make_tokenizer(), [], 16, "train")
    row = make_examples(1, 0)[0].model_copy(update={"text": "light " * 100})
    batch = Texts(make_tokenizer(), [row], 16, "train").batch([0])
    assert batch.inputs["input_ids"].shape == (1, 16)
    assert batch.inputs["input_ids"][0, -1] == 3


def test_a_checkpoint_holds_all_that_the_next_step_needs(tmp_path):
    """Oracle: the next step taken from the original and from the restored state, bit for bit."""
    model = make_bert().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.randint(5, 20, (4, 7))

    def step(m, o):
        m(input_ids=ids, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        o.step()
        o.zero_grad()

    step(model, optimizer)
    position = Position(phase=1, step=7, seconds=3.5, history=({"phase": "a", "step": 0},))
    save_checkpoint(tmp_path / "c.safetensors", model, position, optimizer=optimizer)
    step(model, optimizer)
    other = make_bert(seed=9).train()
    found, state = load_checkpoint(tmp_path / "c.safetensors", other)
    second = torch.optim.AdamW(other.parameters(), lr=1e-2)
    second.load_state_dict({"state": state.optimizer, "param_groups": second.state_dict()["param_groups"]})
    step(other, second)
    assert found == position
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """Oracle: the old bytes; a limit on file sizes stands for the full disk."""
    model, path = make_bert(), tmp_path / "c.safetensors"
    save_checkpoint(path, model, Position(phase=0, step=1, seconds=0))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(TrainingError, match="cannot write the checkpoint"):
            save_checkpoint(path, model, Position(phase=0, step=2, seconds=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))
