import html.parser
import io
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import scipy.stats
from report_example import (
    CONFIG,
    ERRORS,
    GATES,
    NASTY,
    make_benchmark,
    make_evaluation,
    make_fidelity,
    make_report,
    make_texts,
)
from rich.console import Console

from artifact.errors import ArtifactError, ConfigError
from artifact.manifest import Request, read_manifest, seal, write_json
from artifact.stage import run_stage
from pipeline.fidelity import find_likenesses
from pipeline.gate import read_report
from pipeline.heatmaps import draw_cka, draw_relations
from pipeline.junit import render_junit
from pipeline.markdown import escape, render_summary
from pipeline.page import render_page
from pipeline.plot_quality import plot_quality_against_latency
from pipeline.plots import VARIABLES
from pipeline.publish import BEGIN, END, publish
from pipeline.recipe import Recipe
from pipeline.report import report_stage
from pipeline.report_command import compare
from pipeline.results import Interval
from pipeline.table import (
    exact,
    format_fact,
    format_ms,
    format_rate,
    format_ratio,
    format_share,
    format_size,
    format_times,
    terminal_table,
)


@pytest.fixture(scope="module")
def report():
    return make_report()


@pytest.fixture(scope="module")
def page(report):
    return render_page(report, make_texts())


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (format_share(Interval(value=0.9641, low=0.958, high=0.9694)), "96.4 % [95.8, 96.9]"),
        (format_ms(exact(1.234)), "1.23 ms"),
        (format_ms(Interval(value=12.34, low=12, high=12.56)), "12.3 ms [12.0, 12.6]"),
        (format_ms(exact(123.4)), "123 ms"),
        (format_times(Interval(value=5.12, low=4.9, high=5.3)), "5.1x [4.9, 5.3]"),
        (format_times(exact(0.974)), "0.97x"),
        (format_rate(exact(12345.6)), "12,346"),
        (format_size(22_710_000), "22.7 MB"),
        (format_size(None), "—"),
        (format_ratio(Interval(value=0.9912, low=0.9851, high=0.9974)), "0.991 [0.985, 0.997]"),
        (format_fact({"cores": [1, 2], "memory_bytes": 8_000}), "cores 1, 2, memory_bytes 8,000"),
    ],
)
def test_numbers_are_written_one_way(cell, text):
    """Oracle: written by hand."""
    assert str(cell) == text


def test_rows_hold_the_ratios_to_the_reference(report):
    """Oracle: the medians the example was drawn around, 14.1 ms over 1.02 ms, within its noise; sizes exactly."""
    rows = {row.row: row for row in report.rows}
    candidate = rows["student/int8"]
    assert candidate.speedup.low < 14.1 / 1.02 < candidate.speedup.high
    assert candidate.size_ratio == 90_900_000 / 13_900_000
    assert candidate.quality.value == 1 - 34 / 900
    assert rows["teacher/pytorch"].speedup == exact(1)
    assert rows["teacher/pytorch"].http_p50_ms is None
    assert rows["bag-of-words"].p50_ms is None
    assert rows["bag-of-words"].quality_ratio.value < 0.95


def test_percentiles_are_left_out_where_the_sample_is_too_small():
    """Oracle: the rule n >= 10 / (1 - p); 6 rounds of 5 calls carry a median and no p90."""
    row = make_report(rounds=6, calls=5).rows[0]
    assert row.p50_ms is not None
    assert row.p90_ms is None


def test_summary_opens_with_the_verdict(report):
    """Oracle: recorded, as a reviewer sees it; numbers follow from the example's seed."""
    lines = render_summary(report).splitlines()
    assert lines[0] == "## ✓ Pass: demo"
    assert lines[2].startswith("student/int8 keeps 98.6 % [97.4, 99.8] of the accuracy of teacher/pytorch, is 13.7x [")
    assert lines[4].startswith("| row | accuracy | kept | p50 | p90 | speed-up | texts/s | HTTP p50 | size | smaller |")
    assert lines[11] == "| bag-of-words | 86.7 % [84.3, 88.7] | 88.8 % [86.3, 91.3] | — | — | — | — | — | — | — |"
    assert "| ✓ pass | size | size | 0.154 | <= 0.25 | teacher/float32 |" in lines
    assert r"- processor: Example \<CPU\> @ 2.4 GHz" in lines


def test_markdown_tables_are_rectangular(report):
    """Oracle: GitHub drops cells beyond the header's, so each line of a table has as many bars as its header."""
    for block in render_summary(report).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") - line.count("\\|") for line in lines}) <= 1


def test_markdown_of_a_hostile_name_is_text():
    """Oracle: nothing in the output that Markdown or HTML would act on."""
    assert escape("<b>|[x](y)*") == r"\<b\>\|[x]\(y)\*"


def judge_as(report, *verdicts):
    gates = [gate.model_copy(update={"verdict": v}) for gate, v in zip(report.gates, verdicts, strict=False)]
    return report.model_copy(update={"gates": tuple(gates)})


def test_junit_counts_fail_as_failure_and_inconclusive_as_error(report):
    """Oracle: an XML parser, and the JUnit words: what could not decide is an error, never skipped or green."""
    suite = ET.fromstring(render_junit(judge_as(report, "pass", "fail", "inconclusive")))  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert [case[0].tag for case in suite] == ["system-out", "failure", "error"]
    assert suite[1][0].get("message") == report.gates[1].reason


class Checker(html.parser.HTMLParser):
    """Collects what a browser would fetch or run, identifiers, and whether tags close in order."""

    VOID = ("meta", "br")

    def __init__(self):
        super().__init__()
        self.fetched, self.identifiers, self.tags, self.open = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in {"src", "srcset", "action", "data"} or (name.endswith("href") and not value.startswith("#")):
                self.fetched.append(value)
            if name == "id":
                self.identifiers.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_fetches_nothing(page):
    """Oracle: an HTML parser. No script, no link, no request, and identifiers that are unique over all drawings."""
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.fetched == []
    assert not {"script", "link", "iframe", "img", "object"} & set(checker.tags)
    assert checker.tags.count("svg") == 4
    assert len(set(checker.identifiers)) == len(checker.identifiers)
    assert not re.search(r"https?:|@import|url\((?!#)|\bon\w+=", page)


def test_page_is_xml_too(page):
    """Oracle: an XML parser, stricter than any browser."""
    assert ET.fromstring(page.removeprefix("<!DOCTYPE html>")).tag == "html"  # noqa: S314 - our own


def test_page_points_within_its_own_drawings(page):
    """Oracle: every `#reference` names an identifier that exists."""
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert references
    assert references <= set(re.findall(r'\bid="([^"]+)"', page))


def test_page_escapes_what_comes_from_data(page):
    """Oracle: the texts and labels of the example, which try to break out."""
    assert NASTY not in page
    assert "&lt;script&gt;alert(&#39;no&#39;)&lt;/script&gt; &amp; wake me" in page
    assert "<b>odd</b>" not in page
    assert "Example &lt;CPU&gt; @ 2.4 GHz" in page


def test_page_says_the_verdict_first(page):
    """Oracle: the order of the page's text."""
    body = page[page.index("<main>") :]
    text = " ".join(re.sub(r"<[^>]+>", " ", body).split())
    assert text.startswith("Understudy · demo ✓ Pass student/int8 keeps 98.6 % [97.4, 99.8]")


def test_page_counts_disagreements_and_tests_them(page):
    """Oracle: counted from the example's answers, where 8 and 20 errors are not shared; scipy's binomial test."""
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "They answer 28 of 900 examples differently. Only student/int8 is right on 8, only" in text
    assert f"p = {scipy.stats.binomtest(8, 28).pvalue:.2g}" in text


def test_same_report_same_page(report, page):
    """Oracle: bytes. No date, no random identifier."""
    assert render_page(report, make_texts()) == page


def test_plots_take_their_colours_from_the_page(report):
    """Oracle: no colour of matplotlib's remains, so dark and light need no second drawing."""
    drawing = plot_quality_against_latency(report)
    assert not set(VARIABLES) & set(re.findall(r"#[0-9a-f]{6}", drawing))
    assert "var(--series-1)" in drawing
    for row in ("teacher/pytorch", "student/int8"):
        assert f">{row}</text>" in drawing


def test_plot_of_too_few_samples_is_a_sentence():
    """Oracle: the sentence in place of the picture."""
    few = make_report(CONFIG.model_copy(update={"gates": {}}), rounds=2, calls=3)
    assert plot_quality_against_latency(few) == ""
    page = render_page(few, make_texts())
    assert "Too few samples for a median." in page
    assert "The recipe sets no gates." in page


def with_fidelity(report, **changes):
    """The report whose student says this of its fidelity; nothing at all without `changes`."""
    student = {name: fact for name, fact in report.facts["model:student"].items() if name != "fidelity"}
    if changes:
        student["fidelity"] = make_fidelity() | changes
    return report.model_copy(update={"facts": report.facts | {"model:student": student}})


def test_each_layer_is_shown_with_the_one_most_like_it(report):
    """Oracle: the example's numbers, where layer n of 3 is most like layer 2 n of 6; they stand in the summary too."""
    (likeness,) = find_likenesses(report)
    assert likeness.student == "student"
    assert likeness.lines == (
        ("0", "0", "0.980", "—", "—", "—", "—"),
        ("1", "2", "0.980", "2", "0.200", "0.300", "0.100"),
        ("2", "4", "0.980", "4", "0.200", "0.300", "0.100"),
        ("3", "6", "0.980", "6", "0.200", "0.300", "0.100"),
    )
    summary = render_summary(report)
    assert "<details><summary>student inside</summary>" in summary
    assert "| layer | texts as in | CKA | relations as in | QQ | KK | VV |" in summary
    assert "| 2 | 4 | 0.980 | 4 | 0.200 | 0.300 | 0.100 |" in summary
    assert "CKA 0.980; the relations diverge by 0.200 in QQ, 0.300 in KK, 0.100 in VV." in summary


def test_the_nearest_layer_is_the_one_of_the_least_summed_divergence(report):
    """Oracle: by hand: 1 + 1 + 4 against 2 + 2 + 1, though two of the three kinds say otherwise."""
    kinds = {"QQ": [[1.0, 2.0]], "KK": [[1.0, 2.0]], "VV": [[4.0, 1.0]]}
    found = with_fidelity(report, cka=[[1.0, 0.2, 0.1], [0.1, 0.8, 0.7]], relation_kl=kinds)
    (likeness,) = find_likenesses(found)
    assert likeness.lines[1] == ("1", "1", "0.800", "2", "2.000", "2.000", "1.000")


def test_heatmaps_hold_every_number_and_say_what_they_show(report):
    """Oracle: the matrices; the description carries the range and the last layers to those who cannot see."""
    (likeness,) = find_likenesses(report)
    drawings = {"cka": draw_cka(likeness, "cka"), "relations": draw_relations(likeness, "relations")}
    assert drawings["cka"].startswith('<svg role="img" aria-labelledby="cka-title" ')
    told = "CKA of the layers of student, down, and of teacher, across: 0.08 to 0.98, the last two layers 0.98"
    assert f'<title id="cka-title">{told}</title>' in drawings["cka"]
    assert "KK 0.30 to 1.13, the last two layers 0.30" in drawings["relations"]
    matrices = {"cka": [likeness.fidelity.cka], "relations": likeness.fidelity.relation_kl.model_dump().values()}
    for name, drawing in drawings.items():
        written = sorted(re.findall(r">(\d\.\d\d)</text>", drawing))
        assert written == sorted(f"{value:.2f}" for matrix in matrices[name] for row in matrix for value in row)
        assert not set(VARIABLES) & set(re.findall(r"#[0-9a-f]{6}", drawing))


def framed(drawing):
    """The number in each frame: a box without a fill, as x and y of its corners."""
    line = r"M ([\d.]+) ([\d.]+) \nL ([\d.]+) [\d.]+ \nL [\d.]+ ([\d.]+)"
    frames = re.findall(rf'd="{line}[^"]*"[^>]*style="fill: none; stroke: var\(--ink\)', drawing)
    numbers = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>(\d\.\d\d)</text>', drawing)
    for left, one, right, other in (map(float, frame) for frame in frames):
        low, high = sorted((one, other))
        (inside,) = (n for x, y, n in numbers if left < float(x) < right and low < float(y) < high)
        yield inside


def test_the_cell_most_alike_is_framed(report):
    """Oracle: the least divergence and the highest CKA of the example's rows."""
    (likeness,) = find_likenesses(report)
    assert list(framed(draw_cka(likeness, "cka"))) == ["0.98"] * 4
    assert list(framed(draw_relations(likeness, "relations"))) == ["0.20"] * 3 + ["0.30"] * 3 + ["0.10"] * 3


def opacities(drawing):
    return [float(opacity) for opacity in re.findall(r"fill: var\(--series-1\); opacity: ([\d.]+)", drawing)]


def test_colours_grow_with_likeness(report):
    """Oracle: by hand. CKA below 0, by chance, is no colour at all; divergences that are all 0 are all alike."""
    zeros = {kind: [[0.0, 0.0]] for kind in ("QQ", "KK", "VV")}
    (likeness,) = find_likenesses(with_fidelity(report, cka=[[-0.02, 0.5, 1.0]] * 2, relation_kl=zeros))
    assert opacities(draw_cka(likeness, "cka")) == [0.275, 0.55] * 2
    assert opacities(draw_relations(likeness, "relations")) == [0.55] * 6
    halves = {kind: [[0.5 * scale, 1.0 * scale]] for kind, scale in (("QQ", 1), ("KK", 3), ("VV", 0.1))}
    (likeness,) = find_likenesses(with_fidelity(report, cka=[[1.0] * 3] * 2, relation_kl=halves))
    assert opacities(draw_relations(likeness, "relations")) == [0.275] * 3


def test_heatmaps_of_deep_models_have_no_numbers_that_would_touch(report):
    """Oracle: the table beside them has the numbers that matter."""
    (likeness,) = find_likenesses(with_fidelity(report, **make_fidelity(12, 24, "large")))
    assert not re.findall(r">\d\.\d\d</text>", draw_cka(likeness, "cka"))
    assert len(likeness.lines) == 13


def test_a_report_of_models_without_fidelity_has_no_such_section(report, page):
    """Oracle: manifests made before it was measured; the section, its drawings and its table are left out."""
    old = with_fidelity(report)
    assert "How alike are they inside" in page
    assert "How alike are they inside" not in render_page(old, make_texts())
    assert render_page(old, make_texts()).count("<svg") == 2
    assert "inside" not in render_summary(old)


def test_a_name_of_a_teacher_is_text(report):
    """Oracle: both parsers, with a name that would close the description and open a tag."""
    page = render_page(with_fidelity(report, teacher='x"><script>y</script>\\1'), make_texts())
    assert ET.fromstring(page.removeprefix("<!DOCTYPE html>")).tag == "html"  # noqa: S314 - our own
    assert "<script" not in page


def test_fidelity_of_another_shape_is_one_clear_error(report):
    """Oracle: the message a user reads."""
    with pytest.raises(ArtifactError, match=r"facts\.fidelity of model:student cannot be read: Input should be"):
        find_likenesses(with_fidelity(report, cka="high"))


def test_terminal_table_fits_eighty_columns(report):
    """Oracle: the console's own width; nothing is cut short."""
    console = Console(width=80, file=io.StringIO())
    console.print(terminal_table(report))
    text = console.file.getvalue()
    assert "…" not in text
    assert "PASS  student/int8 keeps 98.6 % [97.4, 99.8]" in text
    assert "teacher/pytorch       97.6 %       100.0 %" in text


def test_comparison_lists_candidates_and_warns_of_machines(report, tmp_path):
    """Oracle: both candidates, and the warning only where machines differ."""
    other = report.model_copy(update={"machine": {"processor": "Other"}, "verdict": "fail"})
    for name, which in (("one", report), ("two", other)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "report.json", which.model_dump(mode="json"))
    text = compare([tmp_path / "one", tmp_path / "two"])
    assert text.count("student/int8") == 2
    assert "✗ fail" in text
    assert "compare the ratios, not the milliseconds" in text
    assert "compare the ratios" not in compare([tmp_path / "one"])


RECIPE = {
    "name": "demo",
    "data": {"source": {"kind": "generator", "grammar": "grammar.yaml"}},
    "models": {
        "teacher": {"start": {"kind": "checkpoint", "source": "package:x/y"}},
        "student": {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher"},
    },
    "candidate": "student/int8",
    "gates": {name: gate.model_dump() for name, gate in GATES.items()},
}


def seal_as(directory, kind, **files):
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        write_json(directory / f"{name}.json", value.model_dump(mode="json"))
    seal(directory, kind=kind, request=Request(stage=kind, version=1, config={}, inputs={}), lineage={}, facts={"k": 1})


def test_the_stage_writes_four_files_and_the_verdict(tmp_path):
    """Oracle: the contract of a report directory; what is read back is what was built."""
    lines = [f'{{"text": "text {number}", "label": 0}}\n' for number in range(900)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    seal_as(tmp_path / "data", "dataset")
    seal_as(tmp_path / "evaluation", "evaluation", evaluation=make_evaluation())
    seal_as(tmp_path / "benchmark", "benchmark", benchmark=make_benchmark())
    for name in ("teacher", "student"):
        seal_as(tmp_path / "models" / name, "model")
        seal_as(tmp_path / "bundles" / name, "bundle")
    seal_as(tmp_path / "floors" / "bag-of-words", "floor")
    stage, work = report_stage(Recipe.model_validate(RECIPE), tmp_path)
    manifest = run_stage(stage, work)
    assert sorted(manifest.files) == ["junit.xml", "report.html", "report.json", "summary.md"]
    assert manifest.facts == {"verdict": "pass", "gates": dict.fromkeys(GATES, "pass")}
    report = read_report(tmp_path / "report")
    assert report.lineage["bundle:student"] == read_manifest(tmp_path / "bundles" / "student").digest
    assert report.facts["model:teacher"] == {"k": 1}
    assert report.evaluation == make_evaluation()
    check_publishing(tmp_path)


def check_publishing(root):
    """The four files and every manifest, and the table between the marks of a README, twice the same."""
    readme = root / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    publish([root / "report"], root / "results", readme)
    text = readme.read_text(encoding="utf-8")
    publish([root / "report"], root / "results", readme)
    assert text == readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "**student/int8**" in text
    assert "old" not in text
    names = {path.name for path in (root / "results").iterdir()}
    assert {"summary.md", "report.html", "report.json", "junit.xml", "manifest-bundle-student.json"} <= names
    readme.write_text("no marks", encoding="utf-8")
    with pytest.raises(ConfigError, match="has no place for the table"):
        publish([root / "report"], root / "elsewhere", readme)
    assert not (root / "elsewhere").exists()


def test_a_broken_evaluation_is_one_clear_error(tmp_path):
    """Oracle: the message a user reads."""
    for name in ("data", "benchmark", "evaluation"):
        seal_as(tmp_path / name, name)
    recipe = Recipe.model_validate(RECIPE)
    _, work = report_stage(recipe.model_copy(update={"models": {"teacher": recipe.models["teacher"]}}), tmp_path)
    for folder in ("models/teacher", "bundles/teacher", "floors/bag-of-words"):
        seal_as(tmp_path / folder, "any")
    with pytest.raises(ArtifactError, match=r"evaluation\.json cannot be read"):
        work(Path(tmp_path))


def test_the_example_holds_every_row():
    """Oracle: the names it was made from."""
    assert [row.row for row in make_report().rows] == [*ERRORS, "bag-of-words"]
