"""Several processes do what one does. Two launches of two gloo processes on one CPU stand for all of them."""

import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_models import make_examples, read_log, read_weights, save_teacher

from artifact.errors import ConfigError
from artifact.manifest import read_manifest
from distill.step import _update
from pipeline.__main__ import main
from pipeline.team import check_command

ROOT = Path(__file__).parent.parent
PHASE = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "dropout": 0.0}
LAST = {"kind": "layers", "layers": [1]}
RELATIONS = {"kind": "relations", "relation_heads": 8}
MODEL = {"max_tokens": 16, "checkpoint_every_steps": 1}
EVERYTHING = [RELATIONS, {"kind": "hidden"}, {"kind": "logits"}, {"kind": "labels"}]
NARROW = {"kind": "random", "layers": 1, "hidden_size": 16, "heads": 2}


def write_recipe(root: Path) -> Path:
    """17 texts in batches of eight: the last is one text, which leaves the second process nothing to do."""
    root.mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", 17, 1), ("validation", 9, 2), ("test", 9, 3)):
        rows = [f'{{"text": "{e.text}", "label": {e.label}}}\n' for e in make_examples(count, seed)]
        (root / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
    (root / "corpus.txt").write_text("\n".join(e.text for e in make_examples(60, 9)), encoding="utf-8")
    save_teacher(root / "pretrained")
    unlabelled = {"objectives": [RELATIONS], "corpus": "text", "steps": 15, "learning_rate": 1e-3}
    models = {
        "teacher": MODEL | {
            "start": {"kind": "checkpoint", "source": str(root / "pretrained")},
            "phases": [PHASE | {"name": "labels", "objectives": [{"kind": "labels"}]}],
        },
        "relations": MODEL | {
            "start": LAST, "teacher": "teacher",
            "phases": [PHASE | {"name": "relations", "objectives": [RELATIONS], "weight_decay": 0.9}],
        },
        "all": MODEL | {
            "start": NARROW, "teacher": "teacher",
            "phases": [PHASE | {"name": "all", "objectives": EVERYTHING, "batch_tokens": 60, "accumulate": 2}],
        },
        "words": MODEL | {
            "start": {"kind": "checkpoint", "source": str(root / "pretrained")},
            "phases": [PHASE | {"name": "words", "objectives": [{"kind": "mlm"}], "batch_tokens": 60, "accumulate": 2}],
        },
        "stream": MODEL | {
            "start": LAST, "teacher": "teacher",
            "phases": [
                unlabelled | {"name": "texts", "batch_size": 7, "dropout": 0.1, "noise": {}},
                unlabelled | {"name": "words", "objectives": [{"kind": "mlm", "whole_words": True}], "batch_size": 7},
                unlabelled | {"name": "packed", "batch_tokens": 64, "packing": True, "average_decay": 0.9},
                PHASE | {"name": "labels", "objectives": [{"kind": "labels"}], "dropout": 0.1, "patience": 2},
            ],
        },
    }  # fmt: skip
    tree = {
        "name": "together",
        "data": {"source": {"kind": "files", "directory": str(root), **{s: f"{s}.jsonl" for s in SPLITS}}},
        "corpora": {"text": {"source": {"kind": "files", "directory": str(root), "files": ["corpus.txt"]}}},
        "models": models,
        "candidate": "all/int8",
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return root / "recipe.yaml"


SPLITS = ("train", "validation", "test")


def launch(recipe: Path, out: Path) -> subprocess.Popen:
    """The command of docs/scale.md."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        "-m", "pipeline", "distill", str(recipe), "--out", str(out),
    ]  # fmt: skip
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


def kill_when(process: subprocess.Popen, is_time) -> None:
    deadline = time.monotonic() + 200
    while not is_time():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    launcher = psutil.Process(process.pid)
    for victim in [*launcher.children(recursive=True), launcher]:  # the workers have sessions of their own
        victim.kill()
    process.communicate()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same recipe: by one process, by two, and by two that are killed twice."""
    root = tmp_path_factory.mktemp("processes")
    recipe = write_recipe(root / "files")
    assert main(["distill", str(recipe), "--out", str(root / "one")]) == 0
    two = launch(recipe, root / "two")
    killed = root / "killed" / "models" / "stream"
    checkpoint = killed / "checkpoints" / "latest.safetensors"
    for _ in range(2):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        kill_when(
            launch(recipe, root / "killed"),
            lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns != before,  # noqa: B023
        )
        assert not (killed / "manifest.json").exists()
    output = {"two": finish(two), "killed": finish(launch(recipe, root / "killed"))}
    return root, output


def losses(model: Path) -> list[dict]:
    return [line["losses"] for line in read_log(model) if "losses" in line]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["teacher", "relations", "all", "words"])
def test_two_processes_learn_what_one_does(runs, name):
    """Oracle: the run of one process, every step's losses, gradient norms and evaluations, and the weights."""
    root, _ = runs
    one, two = root / "one" / "models" / name, root / "two" / "models" / name
    assert len(losses(one)) >= 4
    for mine, theirs in zip(read_log(one), read_log(two), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine.get("losses", {}) == pytest.approx(theirs.get("losses", {}), abs=1e-5)
        for key in ("gradient_norm", "validation_loss", "validation_accuracy", "masked_accuracy", "learning_rate"):
            assert mine.get(key, 0.0) == pytest.approx(theirs.get(key, 0.0), abs=2e-5), key
    weights = read_weights(two)
    for key, tensor in read_weights(one).items():
        torch.testing.assert_close(tensor, weights[key], atol=1e-5, rtol=0, msg=key)


@pytest.mark.slow
def test_what_no_process_has_a_gradient_for_does_not_decay(runs):
    """Oracle: the teacher's weights above the last layer's projections, to the bit, at a weight decay of 0.9."""
    root, _ = runs
    teacher = load_file(root / "two" / "models" / "teacher" / "model.safetensors")
    student = read_weights(root / "two" / "models" / "relations")
    above = ("classifier.", "bert.pooler.", "bert.encoder.layer.0.output.", "bert.encoder.layer.0.attention.output.")
    kept = [name for name in student if name.startswith(above)]
    assert len(kept) == 12
    assert all(torch.equal(student[name], teacher[name.replace("layer.0.", "layer.1.")]) for name in kept)
    moved = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(student[moved], teacher[moved.replace("layer.0.", "layer.1.")])


@pytest.mark.slow
def test_two_killed_processes_end_with_the_same_bits(runs):
    """Oracle: two processes nobody disturbed, streams, noise, dropout, packing, averages and patience among it."""
    root, _ = runs
    calm, killed = (read_manifest(root / name / "models" / "stream") for name in ("two", "killed"))
    assert calm.files["model.safetensors"] == killed.files["model.safetensors"]
    assert read_log(root / "two" / "models" / "stream") == read_log(root / "killed" / "models" / "stream")


@pytest.mark.slow
def test_only_the_first_process_speaks_and_seals(runs):
    """Oracle: each step announced once; sealed outputs verify; the second command finds all of it fresh."""
    root, output = runs
    assert output["two"].count("models/teacher begins") == 1
    assert output["killed"].count("models/stream goes on") == 1
    assert "Traceback" not in output["two"] + output["killed"]
    manifest = read_manifest(root / "two" / "models" / "all")
    assert {"model.safetensors", "records/log.jsonl"} <= manifest.files.keys()
    again = finish(launch(root / "files" / "recipe.yaml", root / "two"))
    assert again.count("fresh") == 6


@dataclass
class BesideAnother:
    """An accelerator of two processes, the other of which has `gradient` for every weight."""

    gradient: float
    num_processes: int = 2
    device: str = "cpu"
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", init_scale=8.0))

    def reduce(self, tensor: torch.Tensor, _how: str) -> torch.Tensor:
        counts = tensor.numel() == 2  # how many processes have a gradient, of weight and bias
        return tensor + (1.0 if counts else self.gradient)


@pytest.mark.parametrize("own", [True, False])
def test_processes_skip_a_step_of_half_precision_together(own):
    """Oracle: the loss scale's rule, seen from the process whose own gradient is fine, or which has none at all."""
    layer = torch.nn.Linear(4, 3)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    for gradient, moves, scale in ((8.0, True, 8.0), (math.inf, False, 4.0)):
        beside = BesideAnother(gradient)
        if own:
            for parameter in layer.parameters():
                parameter.grad = torch.ones_like(parameter)
        _update(SimpleNamespace(accelerator=beside), optimizer, 0.1)
        assert torch.equal(layer.weight.detach(), before) != moves
        assert beside.scaler.get_scale() == scale
        before = layer.weight.detach().clone()


def test_only_training_takes_several_processes(monkeypatch):
    """Oracle: the message; one process may run anything."""
    check_command("run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_command("distill")
    with pytest.raises(ConfigError, match=r"`run` runs in one process, found 2\n  launch `distill` only"):
        check_command("run")
