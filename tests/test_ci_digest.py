"""`understudy digest`: one line by which a cache is keyed, before anything was made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from artifact.stage import request_of
from pipeline.__main__ import main
from pipeline.data import data_stage
from pipeline.digest import digest_recipe
from pipeline.recipe import load_recipe

ROOT = Path(__file__).parent.parent


@pytest.fixture
def recipe(tmp_path):
    """Everything that a digest reads, and nothing that could be trained."""
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": split, "label": "one"}) + "\n", encoding="utf-8")
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pretrained" / "model.safetensors").write_bytes(b"weights")
    files = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    phases = [{"name": "labels", "objectives": [{"kind": "labels"}], "epochs": 1, "learning_rate": 1.0e-3}]
    tree = {
        "name": "tiny",
        "data": {"source": {"kind": "files", "directory": str(tmp_path), **files}},
        "models": {
            "teacher": {"start": {"kind": "checkpoint", "source": str(tmp_path / "pretrained")}, "phases": phases},
            "student": {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher", "phases": phases},
        },
        "candidate": "student/int8",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return tmp_path / "recipe.yaml"


def changed(before: dict, after: dict) -> set[str]:
    assert before["stages"].keys() == after["stages"].keys()
    return {name for name, digest in before["stages"].items() if after["stages"][name] != digest}


def test_only_what_depends_on_a_change_gets_another_digest(recipe):
    """Oracle: the graph of the stages, by hand."""
    before = digest_recipe(recipe)
    assert digest_recipe(recipe) == before
    measured = {"evaluation", "benchmark", "report"}
    student = {"models/student", "bundles/student", "package"} | measured
    assert changed(before, digest_recipe(recipe, ["models.student.seed=2"])) == student
    assert changed(before, digest_recipe(recipe, ["bench.rounds=7"])) == {"benchmark", "report"}
    gates = "gates={small: {metric: size, reference: teacher/float32, max_ratio: 0.5}}"
    assert changed(before, digest_recipe(recipe, [gates])) == {"report"}
    (recipe.parent / "pretrained" / "model.safetensors").write_bytes(b"others!")
    teacher = {"models/teacher", "bundles/teacher"} | student
    found = changed(before, digest_recipe(recipe))
    assert teacher <= found
    assert "data" not in found
    with (recipe.parent / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": "more", "label": "one"}) + "\n")
    assert {"data"} | teacher <= changed(before, digest_recipe(recipe))


def test_a_stage_without_inputs_is_digested_as_it_will_be_sealed(recipe, tmp_path):
    """Oracle: the request of the data stage itself; that the others are fresh by theirs, test_ci_compress shows."""
    stage, _ = data_stage(load_recipe(recipe).data, tmp_path / "data")
    assert digest_recipe(recipe)["stages"]["data"] == request_of(stage)[0].recipe


def test_other_packages_give_another_digest_of_the_same_stages(recipe, monkeypatch):
    """Oracle: the stages, which do not look at versions."""
    before = digest_recipe(recipe)
    monkeypatch.setattr("pipeline.digest.installed_versions", lambda: {"torch": "0"})
    after = digest_recipe(recipe)
    assert after["stages"] == before["stages"]
    assert after["packages"] != before["packages"]
    assert after["digest"] != before["digest"]


def test_the_command_prints_one_line_without_torch(recipe):
    """Oracle: the modules loaded afterwards, and the digest computed here."""
    code = (
        "import sys; from pipeline.__main__ import main\n"
        f"code = main(['digest', {str(recipe)!r}, 'bench.rounds=7'])\n"
        "print('HEAVY', code, sorted({'torch', 'transformers', 'bentoml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == [digest_recipe(recipe, ["bench.rounds=7"])["digest"], "HEAVY 0 []"]


def test_json_holds_a_digest_for_each_stage(recipe, capsys):
    """Oracle: the folders of a run."""
    assert main(["digest", str(recipe), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == digest_recipe(recipe)
    assert {"data", "models/student", "bundles/student", "evaluation", "benchmark", "report"} <= found["stages"].keys()


def test_a_missing_data_file_is_an_error(recipe, capsys):
    """Oracle: exit 2, the file's name, nothing on stdout."""
    (recipe.parent / "train.jsonl").unlink()
    assert main(["digest", str(recipe)]) == 2
    captured = capsys.readouterr()
    assert "train.jsonl" in captured.err
    assert captured.out == ""
