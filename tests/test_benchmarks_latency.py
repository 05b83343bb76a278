"""Whether our measuring is right: loops on engines whose time is known, and a page that judges by the interval."""

import json

import numpy as np
import pytest
from serve_bundles import LABELS, WORDS, make_bundle

from artifact.dataset import Example, write_dataset
from benchmarks.latency import page, pages
from benchmarks.latency.__main__ import main
from benchmarks.latency.agreement import BARE, OURS, SAME_CALL, time_plainly
from benchmarks.latency.by_hand import answer, time_by_hand
from benchmarks.latency.overhead import BLOCKS, Busy, measure_overhead
from benchmarks.latency.settling import CALLS, TURNS, settled_and_last
from pipeline.results import Interval
from serve.runtime import Runtime

TEXTS = ("wake me at seven", "play some jazz", "will it rain", "tomorrow", "warm up")


def test_the_busy_engine_spins_until_its_time_is_over():
    """Oracle: a clock of ticks; 1 ms is a million of them."""
    now = [0]

    def read():
        now[0] += 1000
        return now[0]

    Busy(1.0, read).run(["text"])
    assert now[0] == 1000 + 1_000_000


@pytest.mark.parametrize("name", BLOCKS)
def test_both_loops_make_the_same_calls(name):
    """Oracle: what an engine was asked."""

    class Recorder:
        asked = ()

        def run(self, texts):
            self.asked += tuple(texts)

    engine = Recorder()
    samples = BLOCKS[name](engine, TEXTS)
    assert engine.asked == TEXTS
    assert samples is None or len(samples) == len(TEXTS)


def test_every_round_has_all_loops():
    """Oracle: counting."""
    found = measure_overhead(3, empty_calls=2, busy_calls=1)
    assert {case: {name: len(ms) for name, ms in loops.items()} for case, loops in found["ms_per_call"].items()} == {
        case: {"ours": 3, "bare": 3} for case in ("empty", "busy")
    }
    assert min(found["busy_said_ms"]) >= found["busy_ms"]


def test_the_loop_by_hand_answers_as_we_do(tmp_path):
    """Oracle: the logits of our runtime, text by text."""
    runtime = Runtime.open(make_bundle(tmp_path / "student"), "int8", threads=1)
    wanted = {item.name for item in runtime.session.get_inputs()}
    for text in TEXTS:
        logits, _ = answer(runtime.tokenizer, runtime.session, list(runtime.wanted), wanted, text)
        assert np.array_equal(logits, runtime.run([text]).logits)
    assert len(time_by_hand(runtime.tokenizer, runtime.session, list(runtime.wanted), TEXTS, 0)) == len(TEXTS)


def test_only_the_first_calls_are_not_timed():
    """Oracle: counting calls; each sample is positive."""

    class Counter:
        calls = 0

        def run(self, texts):
            self.calls += len(texts)

    counter = Counter()
    assert len(time_plainly(counter, TEXTS, 0)) == len(TEXTS)
    assert counter.calls == len(TEXTS) + 1


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.97, 1.03, "holds"), (0.969, 1.0, "open"), (1.02, 1.04, "open"), (1.031, 1.05, "missed"), (0.9, 0.96, "missed")],
)
def test_agreement_is_judged_by_the_whole_interval(low, high, word):
    """Oracle: the rule longhand, at and beside the bar."""
    assert word in page.judge_agreement(Interval(value=(low + high) / 2, low=low, high=high))


def write_results(folder):
    folder.mkdir()
    about = {"machine": {"processor": "one", "usable_cores": 2}, "load_average": {"before": 1.5, "after": 1.0}}
    overhead = {
        "busy_ms": 1.0,
        "calls": {"empty": 20_000, "busy": 50},
        "ms_per_call": {
            "empty": {"ours": [0.0004] * 8, "bare": [0.0001] * 8},
            "busy": {"ours": [1.001] * 8, "bare": [1.0005] * 8},
        },
        "busy_said_ms": [1.0002] * 400,
    }
    single_ms = {OURS: [[1.0, 1.2]] * 8, SAME_CALL: [[1.0, 1.2]] * 8, BARE: [[0.9, 1.0]] * 8}
    agreement = {"model": "tiny/int8", "threads": 2, "longest_tokens": 16, "single_ms": single_ms}
    turns = [[2.0] * 4 + [1.0] * 36] * 8
    settling = {
        "threads": 2,
        "single_ms": {"tiny/int8": turns, "tiny/float32": [[*[12.0] * 4, 3.0, *[2.9] * 35]] * 8},
    }
    rows = {
        kind: {"single_ms": [[ms] * 4] * 8, "texts_per_second": [1000 / ms] * 8, "peak_memory_bytes": peak}
        for kind, ms, peak in (("small", 2.0, 100_000_000), ("huge", 1.8, 103_000_000))
    }
    equals = dict.fromkeys(pages.PLACES, rows["huge"])
    late = equals | {pages.PLACES[3]: rows["huge"] | {"single_ms": [[1.6] * 4] * 8}}
    memory = {
        "threads": 2, "rows": {"tiny/int8": rows}, "order_of": "tiny/int8",
        "order": {"small, started once": [equals, late], "huge, started once": [equals, equals]},
    }  # fmt: skip
    for name, found in (
        ("pages", memory),
        ("overhead", overhead),
        ("agreement-tiny-int8", agreement),
        ("settling", settling),
    ):
        (folder / f"{name}.json").write_text(json.dumps(about | found))


def test_the_page_says_what_was_measured(tmp_path):
    """Oracle: samples written by hand; 300 ns of 1 ms hold, and so do equal loops; a bare session is 150 µs faster."""
    write_results(tmp_path / "results")
    page.write_page(tmp_path / "results", tmp_path / "latency.md")
    text = (tmp_path / "latency.md").read_text()
    assert "| does nothing | 400 ns | 100 ns | 300 ns, 0.030% of 1 ms | under 1%: **holds** |" in text
    assert "| computes 1 ms | 1.00100 ms | 1.00050 ms | +0.05 % [+0.05, +0.05] | under 1%: **holds** |" in text
    assert f"| {SAME_CALL} | 1.1000 [1.1000, 1.1000] | +0.00 % [+0.00, +0.00] | within 3%: **holds** |" in text
    assert f"| {BARE} | 0.9500 [0.9500, 0.9500] | +15.79 % [+15.79, +15.79] |  |" in text
    assert "takes 150 µs a text" in text
    assert "| tiny/int8 | 2.000 | 2.000 | 2.000 | 2.000 | 1.000 |" in text
    assert "| 1.000 | +0.0 % [+0.0, +0.0] | at most 3%: **holds** |" in text
    assert "| 2.900 | +3.4 % [+3.4, +3.4] | at most 3%: **missed** |" in text
    assert "| tiny/int8 | 2.000 | 1.800 | 0.900 [0.900, 0.900] | 1.11x | +3.0 |" in text
    # ln(1.6 / 1.8) is -0.1178: of one run in two the last is three quarters of that off, the others a quarter.
    others = " | ".join(["+1.5 % ± 1.5"] * 3)
    assert f"| small, started once | {others} | -4.4 % ± 4.4 | at most 1% from the mean: **missed** |" in text
    equal = " | ".join(["+0.0 % ± 0.0"] * 4)
    assert f"| huge, started once | {equal} | at most 1% from the mean: **holds** |" in text
    assert text.count("**Provisional**: the load average was 1.5 before") == 4


def test_the_first_call_after_a_turn_has_settled():
    """Oracle: sums by hand: eight calls where they take 10 ms, 10 ms where those are short, 60 where they are long."""
    eight, long, short = [2.0] * 7, [25.0] * 2, [0.5] * 19
    turns = [[*begun, first, *[1.0] * 10] for begun, first in ((eight, 1.5), (long, 5.0), (short, 0.7))]
    settled, last = settled_and_last(turns)
    assert (settled, last) == ([[1.5], [5.0], [0.7]], [[1.0] * 10] * 3)


def test_the_whole_benchmark(tmp_path, monkeypatch):
    """Oracle: the loops asked for, each with its rounds and calls; a page with both sections."""
    bundle = make_bundle(tmp_path / "bundles" / "student")
    random = np.random.default_rng(5)
    examples = [Example(text=" ".join(random.choice(WORDS, size=4)), label=0) for _ in range(9)]
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "data", LABELS, {"test": examples})
    places = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "latency.md")]
    main(["agreement", "--bundle", str(bundle), "--data", str(tmp_path / "data"), "--threads", "1", "--rounds", "2",
          "--calls", "4", *places])  # fmt: skip
    make_bundle(tmp_path / "bundles" / "teacher", name="teacher")
    main(["settling", "--out", str(tmp_path), "--rows", "student/int8", "teacher/float32",
          "--threads", "1", "--rounds", "1", *places])  # fmt: skip
    monkeypatch.setattr(pages, "STARTS", 1)
    monkeypatch.setattr(pages, "ORDER_ROUNDS", 1)
    monkeypatch.setattr(pages, "CASES", {"once": ("huge", 1)})
    main(["pages", "--out", str(tmp_path), "--rows", "student/int8", "--threads", "1", "--rounds", "1", "--runs", "1",
          *places])  # fmt: skip
    found = json.loads((tmp_path / "results" / "pages.json").read_text())
    assert {row: list(kinds) for row, kinds in found["rows"].items()} == {"student/int8": ["small", "huge"]}
    assert {case: [list(run) for run in runs] for case, runs in found["order"].items()} == {"once": [[*pages.PLACES]]}
    assert "## Where the memory lies" in (tmp_path / "latency.md").read_text()
    found = json.loads((tmp_path / "results" / "settling.json").read_text())
    assert {row: [len(turn) for turn in turns] for row, turns in found["single_ms"].items()} == {
        "student/int8": [CALLS] * TURNS, "teacher/float32": [CALLS] * TURNS,
    }  # fmt: skip
    assert "## How long others' turns are felt" in (tmp_path / "latency.md").read_text()
    found = json.loads((tmp_path / "results" / "agreement-student-int8.json").read_text())
    assert {name: [len(turn) for turn in turns] for name, turns in found["single_ms"].items()} == {
        name: [4, 4] for name in (OURS, SAME_CALL, BARE)
    }
    assert "## Whether others find the same" in (tmp_path / "latency.md").read_text()
