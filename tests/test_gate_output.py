"""`understudy gate`: what it reads, prints and writes."""

import json
from xml.etree import ElementTree as ET

import pytest
from gate_example import QUALITY, SIZE, make_report, write

from artifact.errors import ArtifactError
from artifact.manifest import Request, seal, write_json
from pipeline.__main__ import main
from pipeline.gate_config import Gate
from pipeline.gate_output import judge_files, render_annotations, render_lines
from pipeline.markdown import render_judgement
from pipeline.results import Judgement

GATES = {
    "quality": QUALITY,
    "latency": Gate(metric="latency_p50", reference="t/float32", max_degradation="5%"),
    "open": Gate(metric="quality", reference="t/float32", max_degradation=0.02),
    "size": SIZE,
    "budget": Gate(metric="memory", threshold=100),
}


def read(path, baseline=None):
    judgement = judge_files(path, baseline)
    return judgement.verdict, render_lines(judgement)


def test_gate_report_judges_from_samples_not_from_what_is_written(tmp_path):
    """Oracle: a report whose written verdict was changed by hand is judged as before."""
    report = make_report(errors=130)
    forged = report.model_dump(mode="json") | {"verdict": "pass"}
    forged["gates"][0]["verdict"] = "pass"
    write_json(tmp_path / "report.json", forged)
    verdict, lines = read(tmp_path / "report.json")
    assert verdict == "fail"
    assert lines[0].startswith("fail          quality: accuracy 0.897 [")
    assert lines[-1] == "verdict: fail"


def test_gate_report_takes_the_directory_too(tmp_path):
    """Oracle: identity with the path of report.json."""
    directory = write(make_report(), tmp_path / "report")
    assert read(directory) == read(directory / "report.json")


def test_a_changed_report_is_found_by_its_seal(tmp_path):
    """Oracle: the message a user reads after one byte was changed."""
    directory = write(make_report(), tmp_path / "report")
    request = Request(stage="report", version=1, config={}, inputs={})
    seal(directory, kind="report", request=request, lineage={}, facts={})
    (directory / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"report\.json has"):
        read(directory)


def test_a_directory_without_report_is_one_clear_error(tmp_path):
    """Oracle: the message a user reads."""
    with pytest.raises(ArtifactError, match=r"holds no report\.json\n  name a report directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema_version": 1}, "schema_version: .*2"), ({"rows": 3}, "rows: "), ({"surprise": 1}, "surprise: ")],
)
def test_a_report_of_another_schema_is_one_clear_error(tmp_path, change, message):
    """Oracle: the message a user reads."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps(make_report().model_dump(mode="json") | change), encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"no report of this version of understudy: {message}") as error:
        read(path)
    assert str(error.value).count("\n") == 1


def test_a_report_that_is_no_json_is_one_clear_error(tmp_path):
    """Oracle: the message a user reads."""
    path = tmp_path / "report.json"
    path.write_text("not json", encoding="utf-8")
    with pytest.raises(ArtifactError, match="no report of this version"):
        read(path)


@pytest.fixture
def judgement(tmp_path):
    """One that fails by size; what is open is open by quality."""
    return judge_files(write(make_report(errors=50, candidate_bytes=30, gates=GATES), tmp_path / "report"), None)


def test_each_verdict_is_what_the_rows_were_made_for(judgement):
    """Oracle: rows made so; two points of 1000 examples are on the bound."""
    verdicts = {gate.name: gate.verdict for gate in judgement.gates}
    assert verdicts == {
        "quality": "inconclusive", "latency": "pass", "open": "inconclusive", "size": "fail", "budget": "pass",
    }  # fmt: skip
    assert (judgement.verdict, judgement.exit_code) == ("fail", 1)


def test_the_command_writes_every_form(tmp_path, capsys, monkeypatch):
    """Oracle: parsers of JSON and XML, and the exit code; the last line of stdout is JSON."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    report = write(make_report(errors=50, candidate_bytes=30, gates=GATES), tmp_path / "report")
    files = {form: tmp_path / f"gate.{form}" for form in ("json", "junit", "markdown")}
    options = [text for form, path in files.items() for text in (f"--{form}", str(path))]
    assert main(["gate", str(report), *options]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["verdict"] == "fail"
    assert lines[-2] == "verdict: fail"
    assert not any(line.startswith("::") for line in lines)
    assert Judgement.model_validate_json(files["json"].read_text()) == judge_files(report, None)
    suite = ET.fromstring(files["junit"].read_text())  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "2")
    assert files["markdown"].read_text().startswith("## ✗ Fail: demo\n")
    assert not list(tmp_path.glob("*.tmp"))


def test_github_is_told_by_annotations(tmp_path, capsys, monkeypatch):
    """Oracle: GitHub's variable; and the option, which does the same elsewhere."""
    report = write(make_report(errors=130), tmp_path / "report")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["gate", str(report)]) == 1
    inside = capsys.readouterr().out
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert main(["gate", str(report), "--annotations"]) == 1
    assert capsys.readouterr().out == inside
    assert "::error title=quality%3A fail::accuracy 0.897 [" in inside


def test_annotations_escape_what_github_reads(judgement):
    """Oracle: GitHub's toolkit: percent, line ends; in properties colons and commas too."""
    gate = judgement.gates[3].model_copy(update={"name": "a,b: 5%\n", "reason": "50 %\r\n::error::x"})
    hostile = judgement.model_copy(update={"gates": (gate,), "notes": ("one, two",)})
    assert render_annotations(hostile) == [
        "::error title=a%2Cb%3A 5%25%0A%3A fail::50 %25%0D%0A::error::x",
        "::notice title=not comparable::one, two",
    ]


def test_an_open_gate_is_a_warning_and_a_pass_is_silent(judgement):
    """Oracle: the table of levels."""
    levels = [line.split()[0] for line in render_annotations(judgement)]
    assert levels == ["::warning", "::warning", "::error"]


def test_the_comment_says_verdict_reasons_and_what_to_do(judgement):
    """Oracle: written by hand, in the order a reviewer reads."""
    lines = render_judgement(judgement).splitlines()
    assert lines[:3] == ["## ✗ Fail: demo", "", "s/int8."]
    assert lines[4].startswith(r"- **size** failed: size 0.300 times that of t/float32, wanted \<= 0.25")
    assert lines[6].startswith("- **quality** is inconclusive: accuracy 0.979 [")
    assert lines[6].endswith("test on more examples: an interval halves with four times as many")
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| verdict | gate | of | this build | compared | wanted |"
    assert table[3].startswith("| ✓ pass | latency | median latency | 2.993 [2.000, 4.000] ms |")
    assert r"| 0.200 times t/float32 | \<= 1.05 |" in table[3]
    assert table[6] == r"| ✓ pass | budget | peak memory | 0.0 MB | — | \<= 100 |"
    assert len({line.count("|") - line.count("\\|") for line in table}) == 1


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path, capsys):
    """Oracle: the message a user reads; nothing is left behind."""
    report = write(make_report(), tmp_path / "report")
    assert main(["gate", str(report), "--json", str(tmp_path / "no" / "gate.json")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [report]
