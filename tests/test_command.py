"""The command line as a user meets it: exit codes, messages, and no stack trace."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

from artifact.manifest import Request, seal
from pipeline.__main__ import build_parser, main

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "run", "plan", "digest", "distill", "export", "evaluate", "bench", "package", "gate", "report", "verify", "guard",
    "serve", "key", "swap", "calibrate", "doctor", "load", "score",
)  # fmt: skip


def test_help_names_every_command_and_imports_nothing_heavy():
    """Oracle: the modules loaded after printing the help."""
    code = (
        "import sys; from pipeline.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'onnxruntime', 'bentoml', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "HEAVY []" in done.stdout
    assert all(f"\n    {command}" in done.stdout for command in COMMANDS)


def write_recipe(tmp_path: Path, **changes) -> Path:
    tree = yaml.safe_load((ROOT / "recipes" / "clinc150.yaml").read_text(encoding="utf-8")) | changes
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modles": {}}, "modles: unknown key (did you mean 'models'?)"),
        ({}, "there is no file"),
    ],
)
def test_a_wrong_recipe_is_two_lines_and_exit_2(tmp_path, capsys, changes, message):
    """Oracle: the exit code and what stands on stderr; stdout stays empty and nothing is left behind."""
    code = main(["run", str(write_recipe(tmp_path, **changes)), "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not [path for path in (tmp_path / "out").glob("**/*") if not path.name.endswith(".lock")]


def test_a_plan_prints_the_resolved_recipe_and_runs_nothing(tmp_path, capsys):
    """Oracle: YAML that parses to the overridden value; no directory is made."""
    recipe = str(ROOT / "recipes" / "demo.yaml")
    code = main(["run", recipe, "bench.rounds=3", "--out", str(tmp_path / "out"), "--plan", "bench.seed=7"])
    text = capsys.readouterr().out
    assert code == 0
    assert yaml.safe_load(text)["bench"]["rounds"] == 3
    assert yaml.safe_load(text)["bench"]["seed"] == 7
    assert "# data" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["--bogus", "nonsense"])
def test_a_word_that_is_no_override_is_refused(capsys, word):
    """Oracle: argparse's own message and exit code."""
    with pytest.raises(SystemExit) as left:
        main(["run", "recipe.yaml", "--plan", word])
    assert left.value.code == 2
    assert f"unrecognized arguments: {word}" in capsys.readouterr().err


def test_verify_names_the_flipped_byte(tmp_path, capsys):
    """Oracle: the messages, before and after one byte of the graph is changed; whole bundles are in test_export_run."""
    bundle = tmp_path / "bundle"
    (bundle / "onnx").mkdir(parents=True)
    (bundle / "onnx" / "model.onnx").write_bytes(b"graph" * 100)
    request = Request(stage="export", version=1, config={}, inputs={})
    seal(
        bundle,
        kind="bundle",
        request=request,
        lineage={},
        facts={"precisions": {"int8": {"parity": {"min_cosine": 0.99}}}},
    )
    assert main(["verify", str(bundle)]) == 2
    assert "holds no proof.npz" in capsys.readouterr().err
    graph = bytearray((bundle / "onnx" / "model.onnx").read_bytes())
    graph[7] ^= 1
    (bundle / "onnx" / "model.onnx").write_bytes(graph)
    assert main(["verify", str(bundle)]) == 2
    assert "onnx/model.onnx was changed" in capsys.readouterr().err


def test_verify_follows_the_lineage(tmp_path, capsys):
    """Oracle: an origin that was made again with other content is named."""
    from artifact.manifest import Origin

    request = Request(stage="data", version=1, config={}, inputs={})
    for name in ("data", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    data = seal(tmp_path / "data", kind="dataset", request=request, lineage={}, facts={})
    seal(
        tmp_path / "model",
        kind="model",
        request=request,
        lineage={"data": Origin(digest=data.digest, path="../data")},
        facts={},
    )
    assert main(["verify", str(tmp_path / "model")]) == 0
    (tmp_path / "data" / "file").write_text("other")
    seal(tmp_path / "data", kind="dataset", request=request, lineage={}, facts={})
    assert main(["verify", str(tmp_path / "model")]) == 2
    assert "this was made from" in capsys.readouterr().err


def test_doctor_reports_versions_and_this_machine(capsys):
    """Oracle: the package metadata; this environment has no conflicts."""
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "onnxruntime" in text
    assert "instruction set" in text
    assert "no conflicts" in text


def test_every_command_answers_help(capsys):
    """Oracle: argparse, for each command by name."""
    for command in COMMANDS:
        with pytest.raises(SystemExit) as left:
            build_parser().parse_args([command, "--help"])
        assert left.value.code == 0
        assert f"understudy {command}" in capsys.readouterr().out


def test_no_dependency_ships_a_package_of_our_names():
    """Oracle: the file lists of everything installed; a clash would import one for the other."""
    ours = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    for distribution in distributions():
        if distribution.metadata["Name"] == "understudy":
            continue
        tops = {file.parts[0] for file in distribution.files or () if len(file.parts) > 1 and file.suffix == ".py"}
        assert not tops & ours, distribution.metadata["Name"]


def test_every_file_of_ours_fits_in_250_lines():
    """Oracle: our own rule; tests may be longer."""
    for package in ("artifact", "distill", "export", "serve", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 250, path


def test_a_stage_without_its_inputs_is_two_lines(tmp_path):
    """Oracle: every recipe command refuses an unsealed input in two lines rather than running on it."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "bench", "recipes/demo.yaml", "--out", str(tmp_path / "out")],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert done.stderr.count("\n") == 2
    assert json.loads(done.stdout or "null") is None
