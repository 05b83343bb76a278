"""The whole pipeline with tiny models: killed in every stage, run to its end, fresh after that, served and verified."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from children import CHILDREN
from tiny_models import LABELS, make_examples, save_teacher

from artifact.dataset import SPLITS
from pipeline.__main__ import main
from pipeline.results import Report

ROOT = Path(__file__).parent.parent
STAGES = ("data", "models/teacher", "models/student", "bundles/teacher", "bundles/student", "floors/bag-of-words",
          "floors/static-embeddings", "calibration", "evaluation", "benchmark", "report", "package")  # fmt: skip
BRIEF = ("floors/bag-of-words", "floors/static-embeddings", "calibration")
"""Over, with models so tiny, before they can surely be killed."""


def write_recipe(root: Path) -> Path:
    """Real stages on a task that follows from one word: a tiny teacher of two layers, a student of one."""
    for seed, (split, count) in enumerate([("train", 240), ("validation", 60), ("test", 120)]):
        rows = [{"text": e.text, "label": LABELS[e.label]} for e in make_examples(count, seed)]
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_teacher(root / "pretrained", layers=2)
    labels = {"name": "labels", "objectives": [{"kind": "labels"}], "epochs": 8, "learning_rate": 3e-3}
    relations = {
        "name": "relations",
        "objectives": [{"kind": "relations", "relation_heads": 8}],
        "epochs": 4,
        "learning_rate": 1e-3,
    }
    opinions = {"name": "predictions", "objectives": [{"kind": "logits"}], "epochs": 12, "learning_rate": 3e-3}
    recipe = {
        "name": "tiny",
        "data": {"source": {"kind": "files", "directory": str(root), **{s: f"{s}.jsonl" for s in SPLITS[:3]}}},
        "models": {
            "teacher": {"start": {"kind": "checkpoint", "source": str(root / "pretrained")}, "phases": [labels],
                        "max_tokens": 16, "checkpoint_every_steps": 5},
            "student": {"start": {"kind": "layers", "layers": [1]}, "teacher": "teacher",
                        "phases": [relations, opinions], "max_tokens": 16, "checkpoint_every_steps": 5},
        },
        "export": {"parity": {"int8_min_cosine": 0.5}},
        "rows": {"floors": ["bag-of-words", "static-embeddings"]},
        "cascade": {"student": "student/int8", "teacher": "teacher/float32", "agreement": 0.9},
        "bench": {"rounds": 6, "calls_per_round": 20, "texts": 32, "threads": 1, "openings": 1},
        "candidate": "student/int8",
        "gates": {"quality": {"metric": "quality", "reference": "teacher/float32", "min_ratio": 0.5}},
    }  # fmt: skip
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return root / "recipe.yaml"


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_in_session(recipe: Path, out: Path) -> None:
    """The command, leading a session."""
    os.setsid()
    sys.exit(main(["run", str(recipe), "--out", str(out)]))


def kill_when_begun(recipe: Path, out: Path, stage: str) -> None:
    """Run, and `kill -9` the whole session while that stage is at work."""
    process = CHILDREN.Process(target=run_in_session, args=(recipe, out))
    process.start()
    deadline = time.monotonic() + 180
    try:
        while not (out / stage / "working.json").exists():
            assert process.is_alive(), f"ended before {stage} began, with {process.exitcode}"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was killed in each stage that takes long enough and then left alone."""
    root = tmp_path_factory.mktemp("pipeline")
    recipe, out, halves = write_recipe(root), root / "out", []
    for stage in (stage for stage in STAGES if stage not in BRIEF):
        kill_when_begun(recipe, out, stage)
        halves.append((stage, (out / stage / "manifest.json").exists()))
    process = start("run", str(recipe), "--out", str(out))
    stdout, stderr = process.communicate(timeout=300)
    return recipe, out, halves, process.returncode, stdout, stderr


@pytest.mark.slow
def test_a_run_killed_in_every_stage_reaches_its_verdict(finished):
    """Oracle: exit code, the report, and that no killed stage had left a manifest."""
    _, out, halves, code, stdout, stderr = finished
    assert code == 0, stderr
    assert [stage for stage, sealed in halves if sealed] == []
    assert json.loads(stdout)["verdict"] == "pass"
    report = Report.model_validate_json((out / "report" / "report.json").read_bytes())
    assert [row.row for row in report.rows] == [
        "teacher/pytorch", "teacher/float32", "teacher/int8", "student/float32", "student/int8", "cascade",
        "bag-of-words", "static-embeddings",
    ]  # fmt: skip
    assert "understudy serve" in stderr
    assert not list(out.rglob("working.json"))
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_a_second_run_finds_everything_fresh(finished):
    """Oracle: each stage fresh, and no file changed."""
    recipe, out, *_ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    stdout, stderr = start("run", str(recipe), "--out", str(out)).communicate(timeout=120)
    assert stderr.count("  fresh  ") == len(STAGES), stderr
    assert json.loads(stdout)["verdict"] == "pass"
    assert {path: path.stat().st_mtime_ns for path in before if not path.name.endswith(".lock")} == {
        path: time_ns for path, time_ns in before.items() if not path.name.endswith(".lock")
    }


@pytest.mark.slow
def test_a_changed_field_is_refused_and_named(finished):
    """Oracle: exit 2, the field, and every manifest as before."""
    recipe, out, *_ = finished
    process = start("run", str(recipe), "models.student.seed=2", "--out", str(out))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "config.model.seed: 1 -> 2" in stderr
    assert "--force" in stderr
    assert (out / "models" / "student" / "manifest.json").exists()


@pytest.mark.slow
def test_every_artefact_verifies_and_a_flipped_byte_does_not_serve(finished, tmp_path):
    """Oracle: `understudy verify` on each; then one byte of the graph, named by verify and refused by the service."""
    import shutil

    _, out, *_ = finished
    for stage in STAGES:
        process = start("verify", str(out / stage))
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert "all as sealed" in stdout
    shutil.copytree(out / "bundles" / "student", tmp_path / "student")
    graph = tmp_path / "student" / "onnx" / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    for command in (["verify", str(tmp_path / "student")], ["serve", str(tmp_path / "student"), "--port", "3977"]):
        process = start(*command)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "onnx/model.onnx was changed" in stderr
        assert "Traceback" not in stderr


@pytest.mark.slow
def test_the_bento_serves_the_students_answers(finished):
    """Oracle: the bundle through the runtime, in this process."""
    from serve.runtime import Runtime

    _, out, *_ = finished
    address = ["--host", "127.0.0.1", "--port", "3978"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", str(out / "package" / "bento"), *address],
        env=os.environ | {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(out.parent / "bentoml")},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        answer = ask_when_ready("http://127.0.0.1:3978", "play some jazz music")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    scores = Runtime.open(out / "bundles" / "student", "int8", threads=1).scores(["play some jazz music"])[0]
    assert answer[0]["label"] == LABELS[int(scores.argmax())]
    assert answer[0]["score"] == pytest.approx(float(scores.max()), abs=1e-5)


def ask_when_ready(url: str, text: str):
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    body = json.dumps({"inputs": text}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)
