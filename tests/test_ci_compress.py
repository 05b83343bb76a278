"""`deploy/ci/compress.sh` from its first run in a repository to a worse student, with tiny models."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from test_pipeline import ROOT, write_recipe

SCRIPT = ROOT / "deploy" / "ci" / "compress.sh"
QUICK = ("bench.http=false", "bench.calls_per_round=5", "bench.texts=8", "bench.max_rounds=6",
         "bench.scenarios=[SingleStream, Offline]", "gates.quality.min_ratio=0.01")  # fmt: skip
"""Speed is not what is tested here; and the one gate of the recipe, against the teacher, always passes."""
WORSE = ("models.student.phases.0.epochs=1", "models.student.phases.1.epochs=1",
         "models.student.phases.1.learning_rate=1.0e-6")  # fmt: skip
LOOSE = ("gates.even={metric: quality, reference: baseline, min_ratio: 0.99}",)
"""Gates of one's own against the baseline: no speed, so that the verdict does not depend on how busy a machine is."""
ARTEFACTS = {"summary.md", "report.html", "report.json", "junit.xml", "gate.json", "digest.json"}


def compress(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"UNDERSTUDY": f"{sys.executable} -m pipeline", **environment}
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments], env=os.environ | given, capture_output=True, text=True, cwd=ROOT, timeout=400,
        check=False,
    )  # fmt: skip


def fresh(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Folders that a run found fresh, of all it tells."""
    return {folder for folder, was_fresh in told(done) if was_fresh}


def made(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {folder for folder, was_fresh in told(done) if not was_fresh}


def told(done: subprocess.CompletedProcess[str]) -> list[tuple[str, bool]]:
    lines = [line for line in done.stderr.splitlines() if line.startswith("✓") and "/out/" in line]
    return [(line.split()[2].partition("/out/")[2], "  fresh  " in line) for line in lines]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A recipe, and the first run in a repository: there is nothing to compare with."""
    root = tmp_path_factory.mktemp("ci")
    recipe = write_recipe(root)
    done = compress(
        str(recipe), *QUICK, "--out", str(root / "out"), "--artefacts", str(root / "first"),
        "--baseline", str(root / "baseline"), "--keep", str(root / "baseline"),
    )  # fmt: skip
    return root, recipe, done


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.slow
def test_the_first_run_builds_and_says_that_nothing_is_compared(repository):
    """Oracle: exit code, one warning, the files."""
    root, _, done = repository
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: there is no baseline at") == 1
    assert fresh(done) == set()
    assert {"models/student", "bundles/student", "benchmark", "report"} <= made(done)
    assert names(root / "first") == ARTEFACTS
    assert json.loads((root / "first" / "gate.json").read_text())["verdict"] == "pass"
    assert "Pass" in (root / "first" / "summary.md").read_text()
    assert names(root / "baseline") == {"report", "bundles", "digest.json"}


@pytest.mark.slow
def test_a_second_run_makes_nothing_and_judges_alike(repository):
    """Oracle: the word fresh for each stage that the first run made, and the first verdict."""
    root, recipe, first = repository
    done = compress(
        OUT=str(root / "out"), ARTEFACTS=str(root / "second"), BASELINE=str(root / "baseline"), RECIPE=str(recipe),
        OVERRIDES="\n".join(QUICK) + "\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert made(done) == set()
    assert fresh(done) == made(first)
    assert "nothing changed since the baseline" in done.stderr
    assert "warning" not in done.stderr
    for name in ("gate.json", "junit.xml", "summary.md", "report.html", "digest.json"):
        assert (root / "second" / name).read_bytes() == (root / "first" / name).read_bytes(), name


@pytest.fixture(scope="module")
def worse(repository):
    """A student that learnt little, measured in turns with the baseline's."""
    root, recipe, _ = repository
    arguments = (str(recipe), *QUICK, *WORSE, "--out", str(root / "out"), "--baseline", str(root / "baseline"))
    return root, arguments, compress(*arguments, *LOOSE, "--artefacts", str(root / "worse"))


@pytest.mark.slow
def test_a_worse_student_fails_against_the_baseline_and_only_it_is_made(worse):
    """Oracle: the graph of the stages; exit code 1; the gate's name and verdict in every form."""
    root, _, done = worse
    assert done.returncode == 1, done.stderr
    assert {"data", "models/teacher", "bundles/teacher"} <= fresh(done)
    assert {"models/student", "bundles/student", "evaluation", "benchmark", "report"} <= made(done)
    report = json.loads((root / "worse" / "report.json").read_text())
    assert "baseline" in {row["row"] for row in report["rows"]}
    assert "baseline" in report["benchmark"]["in_process"]
    assert {gate["name"]: gate["verdict"] for gate in report["gates"]} == {"quality": "pass", "even": "fail"}
    summary = (root / "worse" / "summary.md").read_text()
    assert "Fail" in summary.splitlines()[0]
    assert any("fail" in line and "even" in line for line in summary.splitlines()[1:])
    failed = ET.parse(root / "worse" / "junit.xml").getroot().findall(".//testcase[failure]")  # noqa: S314 - ours
    assert [case.get("name") for case in failed] == ["even"]


@pytest.mark.long
def test_without_gates_of_ones_own_the_baseline_has_the_usual_ones(worse):
    """Oracle: the program's own list; what is measured depends on the gates on speed; it fails by quality."""
    from pipeline.gate_defaults import BASELINE_GATES

    root, arguments, _ = worse
    done = compress(*arguments, "--artefacts", str(root / "standard"))
    assert done.returncode == 1, done.stderr
    assert made(done) == {"benchmark", "report"}
    gates = {g["name"]: g["verdict"] for g in json.loads((root / "standard" / "report.json").read_text())["gates"]}
    assert gates.keys() == {"quality", *BASELINE_GATES}
    assert gates["baseline quality"] == "fail"


@pytest.mark.long
def test_a_report_alone_can_be_the_baseline(worse):
    """Oracle: exit code 1, since quality is compared by answers; nothing of the baseline was measured."""
    root, arguments, _ = worse
    earlier = str(root / "first" / "report.json")
    done = compress(*arguments, "--baseline", earlier, "--artefacts", str(root / "alone"))
    assert done.returncode == 1, done.stderr
    rows = json.loads((root / "alone" / "report.json").read_text())["rows"]
    assert "baseline" not in {row["row"] for row in rows}
    assert "Fail" in (root / "alone" / "summary.md").read_text().splitlines()[0]
    judged = json.loads((root / "alone" / "gate.json").read_text())
    gates = {gate["name"]: gate["verdict"] for gate in judged["gates"]}
    assert judged["verdict"] == "fail"
    assert (gates["quality"], gates["baseline quality"]) == ("pass", "fail")
    assert len(gates) == len(judged["gates"])
    assert names(root / "alone") == ARTEFACTS


@pytest.mark.slow
@pytest.mark.parametrize("form", ["report.json", "folder", "empty report"])
def test_a_broken_baseline_is_an_error_before_anything_is_made(repository, tmp_path, form):
    """Oracle: exit code 2, no stage in the log, a summary that says there is no verdict, and no output folder."""
    _, recipe, _ = repository
    baseline = tmp_path / "baseline"
    if form == "report.json":
        baseline.write_text('{"schema_version": 99}', encoding="utf-8")
    else:
        (baseline / ("report" if form == "empty report" else "bundles")).mkdir(parents=True)
    done = compress(
        str(recipe), *QUICK, "--out", str(tmp_path / "out"), "--artefacts", str(tmp_path / "a"),
        "--baseline", str(baseline),
    )  # fmt: skip
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert fresh(done) == made(done) == set()
    assert not (tmp_path / "out").exists()
    assert names(tmp_path / "a") == {"summary.md", "digest.json"}
    assert (tmp_path / "a" / "summary.md").read_text().startswith("## No verdict")


@pytest.mark.long
def test_an_inconclusive_verdict_is_worth_what_was_asked(worse):
    """Oracle: exit 3 and a word, or exit 0 and a word; two rounds decide no gate on speed, whatever they measured."""
    root, arguments, _ = worse
    gate = "gates.unsure={metric: latency_p50, reference: teacher/float32, min_ratio: 1}"
    few = ("bench.rounds=2", "bench.max_rounds=2", "--baseline", "")
    arguments = (*arguments, *few, gate, "--artefacts", str(root / "unsure"))
    done = compress(*arguments)
    assert done.returncode == 3, done.stderr
    assert "warning: inconclusive: the measurement could not decide, which fails this job" in done.stderr
    done = compress(*arguments, "--inconclusive", "pass", GITHUB_ACTIONS="true")
    assert done.returncode == 0, done.stderr
    assert "warning: inconclusive: the measurement could not decide; it passes" in done.stderr
    assert "::warning title=Understudy::inconclusive" in done.stdout
