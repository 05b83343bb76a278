"""Several reports side by side: what turned, what differs, what may be compared; as a page and as Markdown."""

import re
from xml.etree import ElementTree as ET

import pytest
import scipy.stats
from report_example import GATES, NASTY, make_full_report, make_report

from artifact.errors import ArtifactError
from artifact.manifest import write_json
from pipeline.__main__ import main
from pipeline.comparison import compare_reports
from pipeline.comparison_page import render_comparison_page
from pipeline.markdown import render_comparison
from pipeline.report_command import compare


def change(report, **update):
    return report.model_copy(update=update)


@pytest.fixture(scope="module")
def first():
    return make_report()


@pytest.fixture(scope="module")
def other(first):
    """Another machine, another student, one gate that failed, and an answer less that is right."""
    quality = first.evaluation.rows["student/int8"]
    truths = first.evaluation.truths
    right = next(i for i, truth in enumerate(truths) if quality.predictions[i] == truth)
    answers = list(quality.predictions)
    answers[right] = (answers[right] + 1) % 5
    rows = first.evaluation.rows | {"student/int8": change(quality, predictions=tuple(answers))}
    gates = tuple(change(gate, verdict="fail") if gate.name == "latency" else gate for gate in first.gates)
    facts = first.facts | {"model:student": {"parameters": {"total": 1_234_567}, "seconds": 9.9, "history": [1, 2]}}
    return change(
        first,
        verdict="fail",
        machine=first.machine | {"processor": "Other"},
        gates=gates,
        facts=facts,
        evaluation=change(first.evaluation, rows=rows),
        lineage=first.lineage | {"model:student": "f" * 64},
    )


@pytest.fixture(scope="module")
def comparison(first, other):
    return compare_reports({"out/a": first, "out/b": other})


def test_runs_are_lettered_in_order(first):
    """Oracle: the alphabet, and what comes after it."""
    runs = compare_reports({f"out/{number}": first for number in range(28)}).runs
    assert [runs[n].letter for n in (0, 1, 25, 26, 27)] == ["A", "B", "Z", "AA", "BB"]


def test_gates_that_turned_come_first(comparison):
    """Oracle: the one gate that was changed."""
    assert [(line.name, line.turned) for line in comparison.gates][:2] == [("latency", True), ("quality", False)]
    assert {line.name for line in comparison.gates} == set(GATES)


def test_a_gate_that_only_one_run_has_is_no_turn(first):
    """Oracle: a gate that was added has no verdict to turn from."""
    fewer = change(first, gates=first.gates[:1])
    lines = {line.name: line for line in compare_reports({"a": fewer, "b": first}).gates}
    assert not any(line.turned for line in lines.values())
    assert lines["size"].results[0] is None


def test_candidates_are_paired_on_the_same_examples(comparison):
    """Oracle: one answer was spoiled, so none is gained and one lost; scipy's binomial test."""
    (pair,) = comparison.paired
    assert (pair.better, pair.worse) == (0, 1)
    assert pair.p_value == pytest.approx(scipy.stats.binomtest(0, 1).pvalue)
    assert pair.ratio.low <= 865 / 866 <= pair.ratio.high


def test_runs_on_other_data_are_not_paired(first):
    """Oracle: another digest of the data; the note names the run."""
    apart = compare_reports({"a": first, "b": change(first, lineage=first.lineage | {"data": "f" * 64})})
    assert apart.paired == ()
    assert "Other test data than that of A: B; qualities are not of the same examples." in apart.notes


def test_only_what_differs_is_listed(comparison):
    """Oracle: by hand. Facts of artefacts that are the same, lists and durations say nothing."""
    assert [each.name for each in comparison.lineage] == ["model:student"]
    assert [(each.name, each.values[1]) for each in comparison.machine] == [("processor", "Other")]
    facts = {each.name: each.values for each in comparison.facts}
    assert facts["model:student · parameters · total"] == ("13,728,000", "1,234,567")
    assert facts["model:student · parameters · head"] == ("58,000", "—")
    assert not any("seconds" in name or "history" in name or "teacher" in name.split(" ")[0] for name in facts)


@pytest.mark.parametrize(
    ("update", "note"),
    [
        ({"machine": {"processor": "Other"}}, "Measured on different machines: compare the ratios"),
        ({}, "Measured on one machine at different times"),
        ({}, "All ratios are to the same reference model."),
        ({"reference": "teacher/float32"}, "The reference rows are not the same model"),
    ],
)
def test_what_may_be_compared_is_said(first, update, note):
    """Oracle: the difference that was made."""
    notes = compare_reports({"a": first, "b": change(first, **update)}).notes
    assert sum(found.startswith(note) for found in notes) == 1


def test_another_teacher_is_another_reference(first):
    """Oracle: its digest; the row has the same name."""
    lineage = first.lineage | {"model:teacher": "f" * 64}
    notes = compare_reports({"a": first, "b": change(first, lineage=lineage)}).notes
    assert any("not the same model" in note for note in notes)


def words_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page[page.index("<main>") :]).split())


def test_page_is_sound_and_says_what_turned(comparison):
    """Oracle: an XML parser; nothing that would be fetched; the same bytes again."""
    page = render_comparison_page(comparison)
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>"))  # noqa: S314 - our own
    assert not re.search(r"https?:|@import|url\((?!#)|\bon\w+=", page)
    assert [node.get("scope") for node in tree.iter("th") if not node.get("scope")] == []
    assert len(list(tree.iter("svg"))) == 1
    text = words_of(page)
    assert text.startswith("Understudy · reports side by side 2 runs A ✓ Pass: demo student/int8 keeps 98.6 %")
    assert "1 of 4 changed their verdict: latency ." in text
    assert "Measured on different machines: compare the ratios, not the milliseconds." in text
    assert render_comparison_page(comparison) == page


def test_page_of_hostile_reports_is_text(first):
    """Oracle: the tags that names, paths and machines would open."""
    hostile = change(make_full_report(), recipe=NASTY, machine={NASTY: NASTY}, lineage={NASTY: NASTY})
    page = render_comparison_page(compare_reports({NASTY: first, f"{NASTY}/b": hostile}))
    assert "<script" not in page
    assert ET.fromstring(page.removeprefix("<!DOCTYPE html>")).tag == "html"  # noqa: S314 - our own
    assert "<script" not in render_comparison(compare_reports({NASTY: hostile})).replace("\\<", "")


def test_page_of_reports_that_measured_little(first):
    """Oracle: a run without gates and speeds still has a page, without a drawing."""
    rows = tuple(change(row, speedup=None) for row in first.rows)
    bare = change(first, gates=(), rows=rows)
    page = render_comparison_page(compare_reports({"a": bare}))
    assert "<svg" not in page
    assert "No run has gates." in page
    assert "All runs were made from the same artefacts." in page
    assert "1 run<" in page


def save(report, directory):
    directory.mkdir()
    write_json(directory / "report.json", report.model_dump(mode="json"))
    return directory


def test_command_writes_both_files_and_says_nothing(first, other, tmp_path, capsys):
    """Oracle: the files; folders are made; stdout stays empty where the Markdown went to a file."""
    paths = [str(save(report, tmp_path / name)) for name, report in (("a", first), ("b", other))]
    html, markdown = tmp_path / "new" / "c.html", tmp_path / "new" / "c.md"
    assert main(["report", *paths, "--html", str(html), "--markdown", str(markdown)]) == 0
    assert capsys.readouterr().out == ""
    assert html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    text = markdown.read_text(encoding="utf-8")
    assert "### Gates that turned\n\n| gate | A | B |" in text
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") - line.count("\\|") for line in lines}) <= 1
    assert main(["report", *paths]) == 0
    assert capsys.readouterr().out == text


def test_command_refuses_what_it_cannot_do(first, tmp_path, capsys):
    """Oracle: the messages a user reads; nothing is written when one report is none."""
    good = save(first, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    write_json(tmp_path / "bad" / "report.json", first.model_dump(mode="json") | {"schema_version": 9})
    html = tmp_path / "c.html"
    assert main(["report", str(good), str(tmp_path / "bad"), "--html", str(html)]) == 2
    assert "is no report of this version of understudy: schema_version" in capsys.readouterr().err
    assert not html.exists()
    assert main(["report", str(good), "--publish", str(tmp_path / "p"), "--html", str(html)]) == 2
    assert "leave out --html" in capsys.readouterr().err
    with pytest.raises(ArtifactError, match="cannot be written"):
        compare([good], html=good / "report.json" / "c.html")
