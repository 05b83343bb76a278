"""Metrics other than accuracy in evaluations, gates, tables and pages."""

import numpy as np
import pytest
from gate_example import make_benchmark
from report_example import HOSTILE
from sklearn.metrics import f1_score, roc_auc_score
from task_reports import TASKS, made, make_evaluation, make_task_report

from artifact.errors import BenchError
from pipeline.comparison import compare_reports
from pipeline.disagreement import find_partings
from pipeline.gate import judge
from pipeline.gate_config import Gate
from pipeline.markdown import render_comparison, render_summary
from pipeline.metrics import Asked, compare_two, quality_ratio, score_all, scored_of
from pipeline.page import render_page
from pipeline.recipe import Recipe
from pipeline.scores.quality import QUALITIES, Scored
from pipeline.statistics import accuracy_difference, accuracy_ratio
from pipeline.table import format_quality, headline, terminal_table


def draw_labels(seed, count=400, errors=0.1):
    random = np.random.default_rng(seed)
    truths = random.integers(2, size=count)
    first, second = (np.where(random.random(count) < share, 1 - truths, truths) for share in (errors, 2 * errors))
    return truths.tolist(), first.tolist(), second.tolist()


def test_a_ratio_of_f1_is_the_bootstraps():
    """Oracle: scikit-learn's F1, and examples drawn one by one, the F1 of each draw by its definition."""
    truths, theirs, ours = draw_labels(1)
    candidate, reference = (Scored(truths=truths, predictions=said, labels=("no", "yes")) for said in (ours, theirs))
    found = compare_two("f1", "ratio", candidate, reference, seed=1)
    picked = np.random.default_rng(2).integers(400, size=(4000, 400))
    truth, one, other = (np.array(each)[picked] for each in (truths, ours, theirs))
    first, second = (2 * (truth & said).sum(1) / (truth.sum(1) + said.sum(1)) for said in (one, other))
    draws = first / second
    assert found.value == pytest.approx(f1_score(truths, ours) / f1_score(truths, theirs))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.006)


def test_accuracy_is_compared_as_ever():
    """Oracle: identity with the bootstrap of the 2 x 2 table."""
    truths, theirs, ours = draw_labels(3)
    rows = [Scored(truths=truths, predictions=said) for said in (ours, theirs)]
    right = [np.array(said) == truths for said in (ours, theirs)]
    assert compare_two("accuracy", "ratio", *rows, seed=4) == accuracy_ratio(*right, seed=4)
    assert compare_two("accuracy", "difference", *rows, seed=4) == accuracy_difference(*right, seed=4)


def test_rows_that_never_differ_are_not_known_to_be_one():
    """Oracle: the rule of three, by hand: 3 of 20 examples may yet differ."""
    answers = Scored(truths=[("a b",)] * 20, predictions=["a b"] * 20)
    found = compare_two("word_f1", "difference", answers, answers, seed=1)
    assert (found.value, found.low, found.high) == pytest.approx((0, -0.15, 0.15))


def test_a_row_without_a_fault_may_yet_make_one():
    """Oracle: the rule of three, by hand: 3 of 36 questions, and no share is above 1."""
    found = made("question-answering").rows["t/float32"].quality
    assert (found.value, found.low, found.high) == pytest.approx((1, 1 - 3 / 36, 1))


def test_no_ratio_to_what_is_not_positive():
    """Oracle: a correlation that is negative, by construction."""
    up, down = (Scored(truths=[1.0, 2.0, 3.0, 4.0], predictions=said) for said in ([1.0, 2, 3, 5], [4.0, 3, 2, 1]))
    assert compare_two("spearman", "ratio", up, down, seed=1) is None
    assert compare_two("spearman", "difference", up, down, seed=1).value == 2
    evaluation = make_evaluation("regression", {"t/float32": down.predictions, "s/int8": up.predictions}, up.truths)
    assert evaluation.rows["s/int8"].ratio is None
    gate = Gate(metric="quality", reference="t/float32", min_ratio=0.9)
    with pytest.raises(BenchError, match="Spearman correlation is not positive"):
        judge({"quality": gate}, "s/int8", evaluation, make_benchmark(), {})


@pytest.fixture(scope="module", params=TASKS)
def report(request):
    return make_task_report(request.param)


def test_a_gate_says_which_metric_it_is_on(report):
    """Oracle: the metric's word in the reason, and the difference that the evaluation has."""
    evaluation, word = report.evaluation, QUALITIES[report.evaluation.metric].word
    (gate,) = report.gates
    assert gate.reason.startswith(f"{word} ")
    assert gate.subject == word
    own, theirs = (evaluation.rows[row].quality.value for row in ("s/int8", "t/float32"))
    assert gate.ratio.value == pytest.approx(own - theirs)
    assert gate.verdict == "pass"
    assert gate.value == evaluation.rows["s/int8"].quality


def test_every_output_calls_quality_by_its_name(report):
    """Oracle: the metric's header and word in headline, summary, page and terminal; nowhere is it accuracy."""
    metric = QUALITIES[report.evaluation.metric]
    shown = [f"<example {number}> {HOSTILE[number % len(HOSTILE)]}" for number in range(len(report.evaluation.truths))]
    page, summary = render_page(report, shown), render_summary(report)
    compared = "t/float32" if report.evaluation.task == "out-of-domain-detection" else "t/pytorch"
    assert f"of the {metric.word} of {compared}" in headline(report)
    assert summary.splitlines()[4].startswith(f"| row | {metric.header.replace('|', '')} | kept |")
    assert f'title="{metric.meaning}">{metric.header}</th>' in page
    column = terminal_table(report).columns[1]
    assert metric.header in str(column.header)
    for row, cell in zip(report.rows, column.cells, strict=True):
        assert str(cell).startswith(format_quality(report.evaluation.metric, row.quality).text)
    for text in (page, summary):
        assert "accuracy" not in text.replace("tag accuracy", "")
    assert "McNemar" not in page
    for markup in ("<script>alert", "<svg onload", "<b>LOC", "<i>da"):
        assert markup not in page + summary
    assert render_page(report, shown) == page


def test_what_is_beside_quality_is_in_tables(report):
    """Oracle: the further metrics, groups and labels of the evaluation, each in page and summary."""
    page = render_page(report, ["text"] * len(report.evaluation.truths))
    row = report.evaluation.rows["s/int8"]
    for text in (page, render_summary(report)):
        for name in row.more:
            assert QUALITIES[name].header in text
        assert ("By group" in text) == bool(row.groups)
        assert ("By label" in text) == (report.evaluation.task == "token-classification")


def test_examples_that_part_ways_come_worst_first(report):
    """Oracle: the answers that differ, by hand, and that what is lost never grows down the list."""
    if report.evaluation.task != "question-answering":
        assert find_partings(report.evaluation, report.answering, "t/float32") == []
        return
    found = find_partings(report.evaluation, "s/int8", "t/pytorch")
    assert [each.example for each in found] == [0, 1, 19, *range(2, 19)]
    assert found[0].reference == "Paris"
    assert found[2].candidate == ""


def test_two_reports_are_paired_in_their_own_metric(report):
    """Oracle: the ratio of the two candidates' answers; a report beside itself is exactly as good."""
    found = compare_reports({"one": report, "two": report})
    (pair,) = found.paired
    assert found.metric == report.evaluation.metric
    assert pair.ratio.value == 1
    assert (pair.better, pair.worse, pair.p_value) == (0, 0, None)
    assert f"of A's {QUALITIES[found.metric].word}" in render_comparison(found)


def test_a_none_threshold_is_in_the_note():
    """Oracle: the threshold that the evaluation holds, and where it comes from."""
    evaluation = made("response-selection")
    scored = scored_of(evaluation, "s/int8")
    assert scored.none_threshold == 0.5
    assert evaluation.rows["t/float32"].more["none_f1"].value == 1
    assert quality_ratio(evaluation, "t/float32", "t/float32", seed=1).value == 1


def recipe(task, **changes):
    start = {"kind": "checkpoint", "source": "package:x/y"}
    base = {
        "name": "demo",
        "data": {"source": {"kind": "files", "train": "a", "validation": "b", "test": "c"}, "task": task},
        "models": {
            "teacher": {"start": start},
            "student": {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher"},
        },
        "candidate": "student/int8",
    }
    return Recipe.model_validate(base | changes)


def test_floors_suit_the_task():
    """Oracle: the rows' own names; what a task has not is one error that says what it has."""
    assert recipe("classification").row_names()[-1] == "bag-of-words"
    assert recipe("response-selection").row_names()[-1] == "tf-idf"
    assert recipe("token-classification").floors() == ()
    with pytest.raises(ValueError, match=r"rows\.floors has 'bag-of-words', for regression which has none"):
        recipe("regression", rows={"floors": ["bag-of-words"]})
    cascade = {"student": "student/int8", "teacher": "teacher/float32"}
    with pytest.raises(ValueError, match=r"cascade needs classification, data\.task is 'regression'"):
        recipe("regression", cascade=cascade)


def test_parts_of_speech_have_no_spans():
    """Oracle: by hand, three of four words; `PRON` is no label of IOB2, which seqeval would refuse."""
    asked = Asked(
        truths=[[0, 1], [2, 1]], task="token-classification", metric="tag_accuracy", labels=("DET", "PRON", "NOUN")
    )
    row = score_all(asked, {"one": [[0, 1], [2, 0]]}, "one", seed=1)["one"]
    assert row.quality.value == 0.75
    assert row.more == {}


def test_a_source_from_outside_is_told_from_the_whole_domain():
    """Oracle: scikit-learn's area of that source beside all that is within; the domain's own parts are none."""
    random = np.random.default_rng(5)
    truths = np.repeat([0, 1, 1], [60, 30, 20])
    groups = [*["films"] * 40, *["books"] * 20, *["mail"] * 30, *["news"] * 20]
    distances = {
        "a/float32": random.normal(truths),
        "b/float32": random.normal(truths * np.repeat([0, 1, 3], [60, 30, 20])),
    }
    asked = Asked(truths=truths.tolist(), task="out-of-domain-detection", metric="auroc", groups=groups)
    rows = score_all(asked, {name: found.tolist() for name, found in distances.items()}, "a/float32", seed=1)
    for name, found in distances.items():
        assert rows[name].quality.value == pytest.approx(roc_auc_score(truths, found))
        assert list(rows[name].groups) == ["mail", "news"]
        for source, interval in rows[name].groups.items():
            kept = [place for place, group in enumerate(groups) if truths[place] == 0 or group == source]
            assert interval.value == pytest.approx(roc_auc_score(truths[kept], found[kept]))
            assert interval.low < interval.value < interval.high
    assert (rows["b/float32"].agreement, rows["b/float32"].mcnemar_p) == (None, None)
    assert rows["b/float32"].ratio.value == pytest.approx(
        rows["b/float32"].quality.value / rows["a/float32"].quality.value
    )
