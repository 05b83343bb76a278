"""What the page draws: fronts, gauges, names beside points, rates under load; and the page that holds everything."""

import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from report_example import LONG_ROW, make_benchmark, make_full_report, make_hostile_texts, make_report, make_sweep

from pipeline.bars import size_bars
from pipeline.gauges import draw_gauges
from pipeline.labels import Label, place_labels
from pipeline.measuring import describe_measuring
from pipeline.page import render_page
from pipeline.pages import quote
from pipeline.plot_latency import plot_latency_by_length
from pipeline.plot_quality import find_front, front_rows, plot_quality_against_latency
from pipeline.plot_server import plot_server
from pipeline.plots import VARIABLES, series_number
from pipeline.results import GateResult, Interval, RatePoint, ServerRow
from pipeline.scenarios import scenario_table
from pipeline.server_points import latency_at, sum_up, view_server


@pytest.fixture(scope="module")
def full():
    return make_full_report()


@pytest.fixture(scope="module")
def page(full):
    return render_page(full, make_hostile_texts())


def words_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page[page.index("<main>") :]).split())


def test_the_front_is_what_no_other_point_beats():
    """Oracle: every pair compared, as the definition says, over random points with ties."""
    random = np.random.default_rng(3)
    for _ in range(50):
        points = [tuple(map(float, pair)) for pair in random.integers(0, 6, size=(9, 2))]
        beaten = {
            i
            for i, (cost, gain) in enumerate(points)
            for other in points
            if other[0] <= cost and other[1] >= gain and other != (cost, gain)
        }
        assert set(find_front(points)) == set(range(len(points))) - beaten


def test_the_page_names_the_front(full, page):
    """Oracle: by hand, from the medians and errors of the example."""
    rows = front_rows(full)
    assert rows[0] == "static-embeddings"
    assert "teacher/pytorch" not in rows
    assert f"one on it: <bdi>{'</bdi>, <bdi>'.join(rows)}</bdi>." in page


def test_a_floor_does_not_stretch_the_axis(full):
    """Oracle: the accuracy in the floor's name, which only a point at the foot has."""
    assert "bag-of-words (86.7 %)" in plot_quality_against_latency(full)
    assert series_number("bag-of-words", ["teacher/int8", "bag-of-words"]) == 0


def gate(verdict="pass", bound=">= 0.97", low=0.98, value=0.99, high=1.0):
    return GateResult(
        name=verdict, metric="quality", candidate="student/int8", reference="teacher/float32",
        ratio=Interval(value=value, low=low, high=high), bound=bound, verdict=verdict, reason="why",
    )  # fmt: skip


def test_gauges_stand_in_proportion_and_the_worst_first():
    """Oracle: by hand. From 0.97 to 1 the scale takes three quarters of the width, an eighth free on either side."""
    passed, failed = draw_gauges([gate(), gate("fail", "<= 0.25", 0.3, 0.4, 0.5)])[::-1]
    assert (passed.gate.verdict, failed.gate.verdict) == ("pass", "fail")
    assert (passed.scale.bound, passed.scale.low, passed.scale.high) == (12.5, 37.5, 87.5)
    assert passed.scale.more_is_better
    assert not failed.scale.more_is_better


@pytest.mark.parametrize(
    ("result", "bound", "ends"),
    [
        (gate(bound="<= 1,200"), 12.5 + 75, None),
        (gate(bound=">= -2e-3"), 12.5, None),
        (gate(bound="not worse by more than 5"), 87.5, None),
        (gate(low=1.0, value=1.0, high=1.0, bound=">= 1"), 12.5, (12.5, 12.5)),
    ],
)
def test_any_bound_that_ends_in_a_number_is_drawn(result, bound, ends):
    """Oracle: by hand; a number that was counted has no width."""
    (gauge,) = draw_gauges([result])
    assert gauge.scale.bound == bound
    assert ends is None or (gauge.scale.low, gauge.scale.high) == ends


def test_a_gate_without_a_number_is_words_alone():
    """Oracle: no drawing, and the page still says why."""
    result = gate(bound="strict")
    assert draw_gauges([result])[0].scale is None
    page = render_page(make_report().model_copy(update={"gates": (result,)}), make_hostile_texts())
    assert 'class="gauge"' not in page
    assert "why" in words_of(page)


def test_names_do_not_cover_each_other():
    """Oracle: the text's own boxes, as matplotlib lays them out."""
    figure = Figure(figsize=(5, 4))
    axes = figure.add_subplot()
    points = [(1, 1), (1.02, 1.01), (1.01, 1.03), (3, 1.02), (2.9, 1), (2, 2)]
    axes.set(xlim=(0, 4), ylim=(0, 3))
    place_labels(figure, axes, [Label(f"some/name-{number}", x, y) for number, (x, y) in enumerate(points)])
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # of the words alone, without their lines
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1


def make_point(answered=2000, failed=0, *, rate=400.0, valid=True):
    random = np.random.default_rng(5)
    return RatePoint(
        rate_per_second=rate, seconds=5, latency_ms=tuple(random.lognormal(1, 0.5, answered).tolist()), failed=failed,
        client_cpu_share=0.3, valid=valid,
    )  # fmt: skip


def test_failed_requests_are_slower_than_all_others():
    """Oracle: numpy's quantile with the failed ones at infinity; 3 in 100 failed put the 99th percentile there."""
    point = make_point(1990, 10)
    everything = sorted([*point.latency_ms, *[np.inf] * 10])
    assert latency_at(point, 0.99).value == pytest.approx(np.quantile(everything, 0.99))
    assert latency_at(point, 0.5).value == pytest.approx(np.quantile(everything, 0.5))
    assert latency_at(make_point(1940, 60), 0.99).value == math.inf
    assert math.isfinite(latency_at(make_point(1940, 60), 0.5).value)


def test_a_rate_of_few_requests_has_no_p99():
    """Oracle: the rule n >= 10 / (1 - p): 1,000 carry it, 999 do not."""
    assert latency_at(make_point(1000), 0.99) is not None
    assert latency_at(make_point(999), 0.99) is None


def test_rates_are_told_in_words():
    """Oracle: by hand, for each thing that can be wrong with a rate."""
    points = (
        make_point(999, rate=200),
        make_point(rate=400),
        make_point(1900, 100, rate=800),
        make_point(rate=1600, valid=False),
    )
    view = view_server("student/int8", ServerRow(objective_p99_ms=50, points=points[::-1], knee_per_second=400))
    assert view.knee == "400 requests a second"
    assert [line.rate for line in view.lines] == ["200", "400", "800", "1,600"]
    assert [line.note for line in view.lines] == [
        "too few requests for a p99",
        "kept",
        "missed",
        "not valid: the client did not keep up",
    ]
    assert [line.p99 for line in view.lines][::2] == ["—", "never answered"]
    assert [line.is_knee for line in view.lines] == [False, True, False, False]
    open_end = ServerRow(objective_p99_ms=50, points=(points[1], points[3]), knee_per_second=400)
    assert view_server("x", open_end).knee == "400 requests a second, the highest at which the client kept up"
    none = ServerRow(objective_p99_ms=50, points=points, knee_per_second=None)
    assert view_server("x", none).knee == "none: no rate kept to the objective"
    assert sum_up({"a": open_end, "b": none}) == (6, 2)


def test_rates_are_drawn_hollow_where_the_client_was_too_slow(full):
    """Oracle: the example, whose second row has two such rates, one of them past capacity; and one ring a knee."""
    drawing = plot_server(full)
    assert "objective 100 ms" in drawing
    assert not set(VARIABLES) & set(re.findall(r"#[0-9a-f]{6}", drawing))
    assert "knee 640" not in drawing
    assert "student/int8: knee 320 requests a second" in drawing
    no_points = full.benchmark.model_copy(
        update={"server": {"x": make_sweep(10, seed=1).model_copy(update={"points": ()})}}
    )
    assert plot_server(full.model_copy(update={"benchmark": no_points})) == ""
    assert plot_server(make_report()) == ""


def test_lengths_and_queries_stand_in_one_table(full):
    """Oracle: the medians the example was drawn around; a row without a length has none there."""
    headers, rows = scenario_table(full)
    assert headers == ["MultiStream p50", "MultiStream p90", *(f"{n} tokens p50" for n in (16, 64, 128, 512))]
    assert float(rows["student/int8"][0].number) == pytest.approx(6 * 1.02, rel=0.1)
    assert float(rows["student/int8"][-1].number) == pytest.approx(1.02 * (0.5 + 512 / 40), rel=0.1)
    assert "512 tokens" in plot_latency_by_length(full)
    assert scenario_table(make_report()) == ([], {})


def test_bytes_by_part_fill_the_bar(full):
    """Oracle: the sizes; parts of a bar are together as long as the bar of all bytes."""
    bars = {bar.name: bar for bar in size_bars(full)}
    longest = max(sum(part.share for part in bar.parts) for bar in bars.values())
    assert longest == pytest.approx(100)
    assert sum(part.share for part in bars["student/int8"].parts) == pytest.approx(100 * 13.9 / 90.9)
    assert [part.name for part in bars["cascade"].parts] == ["bytes"]


def test_rounds_looks_and_load_are_told(full):
    """Oracle: the example's numbers; a row that took part in more rounds is named."""
    assert describe_measuring(make_benchmark()) == {"rounds": "12", "threads": "2, read back from each runtime"}
    told = describe_measuring(full.benchmark)
    assert told["looks"].startswith("up to 4")
    assert told["load average"] == "0.41 before, 1.93 after"
    rows = dict(make_benchmark().in_process)
    rows["student/int8"] = rows["student/int8"].model_copy(update={"single_ms": rows["student/int8"].single_ms * 2})
    assert (
        describe_measuring(make_benchmark().model_copy(update={"in_process": rows}))["rounds"]
        == "12; 24 of student/int8"
    )


def test_the_full_page_is_sound(full, page):
    """Oracle: an XML parser; identifiers given once and every reference met; the same bytes again."""
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>"))  # noqa: S314 - our own
    identifiers = [node.get("id") for node in tree.iter() if node.get("id")]
    assert len(identifiers) == len(set(identifiers))
    references = {name for node in tree.iter() for name in (node.get("aria-labelledby") or "").split()}
    assert references <= set(identifiers)
    assert len(list(tree.iter("svg"))) == 6
    assert all(node.find("title") is not None for node in tree.iter("svg"))
    assert all(node.get("scope") for node in tree.iter("th"))
    assert render_page(full, make_hostile_texts()) == page


def test_the_full_page_says_everything_that_was_recorded(page):
    """Oracle: the example."""
    text = words_of(page)
    for told in (
        "no C++ compiler: &lt;cc&gt; was not found",
        "0.910 [0.880, 0.940]",
        "Stored bytes in numbers",
        "up to 4: the gates looked while samples grew",
        "320 (knee)",
        "the client did not keep up at 2 of 12 rates",
        LONG_ROW,
    ):
        assert told in text


def test_texts_that_would_spoil_the_page_are_told_as_text(page):
    """Oracle: no tag, no control character and no text without bounds comes through, nor leaves its isolation."""
    assert "<script" not in page
    assert "<svg onload" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)
    assert r"bell \x07 and nothing \x00 between" in page
    assert re.search(r"<bdi>[^<]*\u202e[^<]*</bdi>", page)
    assert quote("x" * 1401).endswith("… (1,001 more characters)")
