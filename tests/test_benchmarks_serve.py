"""The benchmark of the service beside its peers, and its faults: their pure parts, and each in miniature."""

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_bundles import MAX_TOKENS, make_bundle

from artifact.errors import BenchError
from artifact.manifest import Request, seal
from benchmarks.faults import page as faults_page
from benchmarks.faults.fuzz import fuzz, list_examples
from benchmarks.faults.kill import Event, describe_kill, kill
from benchmarks.faults.mutate import mutate
from benchmarks.faults.overload import fill_batches, overload, seconds_to_normal, sort_out
from benchmarks.faults.service import Setup, count_statuses, is_same, read_numbers
from benchmarks.faults.sigterm import describe_end, sigterm
from benchmarks.faults.soak import memory_growth, soak, tail_drift
from benchmarks.faults.swap import judge as judge_swap
from benchmarks.faults.swap import swap
from benchmarks.serve.__main__ import choose_rates
from benchmarks.serve.__main__ import main as benchmark
from benchmarks.serve.contestants import CONTESTANTS
from benchmarks.serve.figures import interval, judge, latency, over, quantile_by_band, throughput
from benchmarks.serve.inprocess import count_flops, sort_and_cut
from benchmarks.serve.page import render
from benchmarks.serve.texts import Sized
from pipeline.results import Interval
from serve.config import ServiceConfig
from serve.http.openapi import describe_api
from serve.limits import Limits
from serve.load.client import BROKEN, Reply
from serve.load.loops import Arrived

ENCODER = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}


def test_operations_are_those_of_the_products():
    """Oracle: every product of two matrices of an encoder, written out; a product of m x k x n takes 2 m k n."""
    products = []
    for tokens in (3, 5):
        for _ in range(2):
            products += [(tokens, 8, 8)] * 4 + [(tokens, 8, 16), (tokens, 16, 8)]
            products += [(tokens, 8, tokens), (tokens, tokens, 8)]
    assert count_flops([3, 5], ENCODER) == sum(2 * m * k * n for m, k, n in products)


def test_batches_hold_texts_of_like_lengths():
    """Oracle: sorted lengths, cut; nobody is lost."""
    assert sort_and_cut(["c", "a", "b"], [3, 1, 2], 2) == [["a", "b"], ["c"]]


def turn(scale: float, *, failed: int = 0, seconds: float = 2.0) -> dict[str, Any]:
    """One turn of a service: 100 latencies around `scale`, of which some failed."""
    ms = [None if place < failed else scale * (1 + place / 1000) for place in range(100)]
    share = {"client_cpu_share": 0.1, "failures": {"503": failed} if failed else {}}
    return {"single": {"ms": ms, **share}, "closed": {"ms": ms, "seconds": seconds, **share},
            "open at our rate": {"ms": ms, **share}, "open at a peer's rate": {"ms": ms, **share}}  # fmt: skip


def service_results() -> dict[str, Any]:
    """A small recorded run: ours twice as fast as bentoml, of whose requests two in a hundred fail."""
    inside = {"single_ms": [4.0] * 50, "ours_seconds": 1.0, "plain_seconds": {"4": 1.5, "8": 1.25},
              "matrix_gflops": {"1024x1024x1024": 100.0}}  # fmt: skip
    tried = {"texts_per_second": 50.0, "failures": 0, "ready_seconds": 1.0}
    return {
        "machine": {"processor": "a processor", "usable_cores": 2}, "load_average": {"before": 0.1, "after": 0.2},
        "threads": 2, "config": ENCODER, "open_seconds": 2.0, "tokens": {"single": 16, "mixed": [8, 30, 100, 10]},
        "rates": {"open at our rate": 40.0, "open at a peer's rate": 20.0}, "sweep": {"4": 1.5, "8": 1.25},
        "footprint": {"precision": "int8", "ready_seconds": [2.0, 2.5, 3.5], "weights_bytes": 20_000_000,
                      "peak_bytes": [[200_000_000, 50_000_000]] * 3},
        "chosen": {name: {"knobs": {}, "tried": [{"knobs": {}, **tried}]} for name in ("ours", "bentoml")},
        "rounds": [
            {"ours": turn(5.0, seconds=1.0), "bentoml": turn(10.0, failed=2), "in process": inside} for _ in range(6)
        ],
    }  # fmt: skip


def test_figures_are_those_of_the_samples():
    """Oracle: the samples were made with these ratios; equal rounds leave no interval."""
    results = service_results()
    ratio = interval(results, over(throughput(results, "ours"), throughput(results, "bentoml")))
    assert ratio.value == pytest.approx(100 / 1.0 / (98 / 2.0))
    assert ratio.low == pytest.approx(ratio.high)
    halved = interval(
        results, over(latency(results, "ours", "single", 0.5), latency(results, "bentoml", "single", 0.5))
    )
    assert halved.value == pytest.approx(0.5, rel=0.01)
    bands = quantile_by_band(results, "ours", "closed", 1.0)
    assert bands["over 64"] == pytest.approx(5 * 1.098)


def test_verdicts_want_the_whole_interval():
    """Oracle: an interval below, above and across the bar."""
    figures = [Interval(value=v, low=v - 1, high=v + 1) for v in (2, 5, 8)]
    assert [judge(figure, 5, at_most=True) for figure in figures] == ["holds", "open", "missed"]
    assert [judge(figure, 5, at_most=False) for figure in figures] == ["missed", "open", "holds"]


def test_rates_are_shares_of_capacities():
    """Oracle: four fifths, of ours and of the fastest peer's."""
    rates = choose_rates({"ours": 100, "starlette": 50, "bentoml": 60})
    assert list(rates.values()) == pytest.approx([80, 48])
    assert list(choose_rates({"ours": 100}).values()) == pytest.approx([80])


def test_the_page_judges_every_bar():
    """Oracle: the recorded samples; a peer that fails one request in fifty has no 99th percentile."""
    page = render(service_results())
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert "| 1.25 ms | holds |" in next(line for name, line in rows.items() if "p50 at most 1.5 ms" in name)
    assert "| 2.04 | holds |" in next(line for name, line in rows.items() if "1.4 times" in name)
    assert "| 1.25 | holds |" in next(line for name, line in rows.items() if "1.25 times" in name)
    assert "| open |" in next(line for name, line in rows.items() if "ready in under" in name)
    assert "| 180 MB | holds |" in next(line for name, line in rows.items() if "peak at most" in name)
    bentoml = next(line for line in page.splitlines() if "BentoML" in line and "never" in line)
    assert bentoml.rstrip(" |").endswith(str(2 * 4 * 6))


def test_every_peer_is_asked_in_its_own_shape():
    """Oracle: an answer of each, as its documentation shows it."""
    answers = {"infinity": {"data": [{"embedding": [3.0, 4.0], "index": 0}]}}
    for name, contestant in CONTESTANTS.items():
        body = json.dumps(answers.get(name, [[3.0, 4.0]])).encode()
        assert contestant.read(body).tolist() == pytest.approx([0.6, 0.8])
        sent = contestant.request("wake me").partition(b"\r\n\r\n")[2]
        assert "wake me" in json.dumps(json.loads(sent))
        with pytest.raises(BenchError, match="no embedding"):
            contestant.read(b'{"detail": "overloaded"}')


def reply(status: int, sent: float = 0.0, ended: float = 1.0, body: bytes = b"", head: bytes = b"HTTP/1.1") -> Reply:
    return Reply(status, body, sent, ended, head)


def test_an_overloaded_service_is_judged_by_what_it_said():
    """Oracle: answers made up by hand: latencies count from the schedule, refusals from sending."""
    arrived = [Arrived(0.0, 0.0, reply(200, 0.5, 1.0)),
               Arrived(1.0, 1.0, reply(429, 1.5, 1.51, head=b"H\r\nRetry-After: 1")),
               Arrived(2.0, 2.0, reply(429, 2.0, 2.02))]  # fmt: skip
    found = sort_out(arrived)
    assert found["accepted_ms"] == [1000.0]
    assert found["refused_ms"] == [10.0, 20.0]
    assert found["without_retry_after"] == 1
    assert found["statuses"] == {"200": 1, "429": 2}
    probes = [(0.1, 429, 1.0), (0.2, 200, 100.0), (0.4, 200, 6.0)]
    assert seconds_to_normal({"alone_ms": [3.0, 4.0], "probes": probes}) == pytest.approx(0.3)
    assert seconds_to_normal({"alone_ms": [3.0], "probes": []}) == 0


def test_a_batch_is_as_full_as_it_may_be():
    """Oracle: sums of tokens; the rest that fills no batch is left out."""
    texts = [Sized(text=str(tokens), tokens=tokens) for tokens in (4, 4, 3, 9, 2, 1)]
    assert [[one.tokens for one in batch] for batch in fill_batches(texts, 8)] == [[4, 4], [3], [9]]
    assert fill_batches(texts[:1], 8) == [texts[:1]]


def test_a_killed_worker_is_blamed_for_what_it_had():
    """Oracle: four requests by hand: over before, under way and lost, sent later and refused, and right again."""
    events = [
        Event(0, 1, 200, True),
        Event(1.5, 2.5, BROKEN, False),
        Event(2.2, 2.4, 503, False),
        Event(3, 4, 200, True),
    ]
    assert describe_kill(events, 2.0, 4.0) == {
        "under_way": 1, "under_way_failed": {"0": 1}, "later_failed": {"503": 1}, "seconds_to_last_failure": 0.4,
        "seconds_to_return": 2.0,
    }  # fmt: skip


def test_what_was_sent_before_the_signal_must_be_answered():
    """Oracle: five requests by hand."""
    replies = [reply(200, 0, 1), reply(200, 1, 3), reply(BROKEN, 1, 2.5), reply(200, 2.1, 3), reply(BROKEN, 2.2, 3)]
    assert describe_end(replies, 2.0) == {
        "answered_before": 1, "under_way": 2, "lost": 1, "statuses_after": {"200": 1, "0": 1}
    }  # fmt: skip


def test_answers_are_compared_by_their_numbers():
    """Oracle: the same answer in the two shapes that routes give, with labels in another order."""
    one, other = ([{"label": "a", "score": 0.25}, {"label": "b", "score": 0.75}] for _ in range(2))
    assert is_same(read_numbers(json.dumps(one).encode()), read_numbers(json.dumps([other[::-1]]).encode()))
    assert read_numbers(b"[[1, 2], [3, 4]]").tolist() == [[1, 2], [3, 4]]
    assert not is_same(np.ones((1, 2)), np.ones((2, 2)))
    assert not is_same(np.zeros((1, 2)), np.full((1, 2), 0.01))
    ours, theirs = np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]])
    verdicts = [judge_swap(reply(200, body=body), ours, theirs) for body in (b"[[1],[2]]", b"[[3],[4]]", b"[[1],[4]]")]
    assert [*verdicts, judge_swap(reply(503), ours, theirs)] == ["one", "two", "mixed", "503"]


def test_statuses_are_counted_over_routes():
    """Oracle: a page of metrics by hand."""
    page = (
        'understudy_requests_total{route="/embed",status="200"} 3.0\n# x\n'
        'understudy_requests_total{route="/",status="200"} 2.0\n'
        'understudy_requests_total{route="/",status="422"} 1.0\nunderstudy_requests_created{route="/"} 9\n'
    )
    assert count_statuses(page) == Counter({"200": 5, "422": 1})


def test_mutations_are_many_and_repeatable():
    """Oracle: the same seed gives the same bytes; of 2,000 nearly all differ from the body and from each other."""
    body = b'{"inputs": ["wake me at seven"], "truncate": true}'
    made = [mutate(body, random.Random(seed)) for seed in range(2000)]
    assert made == [mutate(body, random.Random(seed)) for seed in range(2000)]
    assert len(set(made)) > 1200
    assert made.count(body) < 40


def test_every_route_with_a_body_is_fuzzed():
    """Oracle: the service's own description, and its examples."""
    description = json.loads(json.dumps(describe_api(Limits())))
    paths = {path for path, _ in list_examples(description)}
    assert paths == {path for path, methods in description["paths"].items() if "post" in methods}
    assert any(json.loads(body).get("inputs") for _, body in list_examples(description))


def fault_results() -> dict[str, dict[str, Any]]:
    """A small recorded run of each scenario, all well but the overload's refusals."""
    return {
        "overload": {
            "capacity": 100.0, "factor": 4, "seconds": 60, "batch_tokens": 512, "alone_ms": [5.0], "batch_ms": [100.0],
            "accepted_ms": [150.0] * 50, "refused_ms": [30.0] * 150, "without_retry_after": 0,
            "statuses": {"200": 50, "429": 150}, "probes": [(0.1, 200, 6.0)],
        },
        "kill": {
            "answers": 100, "wrong": 0,
            "kills": [{"under_way": 2, "under_way_failed": {"503": 2}, "later_failed": {}, "seconds_to_return": 1.0}],
        },
        "sigterm": {"ends": [{"lost": 0, "under_way": 8, "exit_status": 0, "seconds_to_end": 1.0}]},
        "fuzz": {
            "generated": {"statuses": {"patient": {"200": 3, "422": 9}, "hasty": {"200": 2, "504": 7}}},
            "mutated": {"statuses": {"200": 3, "422": 4}}, "resident_bytes": [100, 110, 110, 110], "same_workers": True,
        },
        "swap": {
            "swaps": 3, "swap_seconds": [0.5] * 3, "answers": {"one": 5, "two": 6}, "resident_bytes": [100, 101],
        },
        "soak": {
            "share": 0.7, "window_seconds": 60, "resident": [[number, 100 + number % 2] for number in range(40)],
            "windows": [
                {"at_seconds": 60 * number, "requests": 10, "failures": 0, "p50_ms": 5.0, "p99_ms": 9.0}
                for number in range(10)
            ],
        },
    }  # fmt: skip


def test_the_page_of_faults_says_what_holds(tmp_path):
    """Oracle: recorded runs in which all holds but one thing; the plot is drawn."""
    about = {"machine": {"processor": "a processor", "usable_cores": 2}, "load_average": {"before": 0.1}, "options": [],
             "model": "student", "precision": "float32"}  # fmt: skip
    for name, found in fault_results().items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**about, **found}), encoding="utf-8")
    faults_page.write_page(tmp_path, tmp_path / "faults.md")
    page = (tmp_path / "faults.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.endswith("missed |")] == [
        "| 4 x 100/s for 60 s: refused in under 20 ms | 150 of 200 with 429, p50 30.0 ms, p99 30.0 ms | missed |"
    ]
    assert page.count("holds |") > 15
    assert (tmp_path / faults_page.PLOT).read_text(encoding="utf-8").lstrip().startswith("<?xml")
    for name, found in fault_results().items():
        assert json.loads(json.dumps(faults_page.summarize(name, found)))


@pytest.mark.parametrize(("kind", "status"), [
    ("patient", "504"), ("patient", "500"), ("hasty", "500"), ("hasty", "silent"), ("mutated", "504"),
])  # fmt: skip
def test_only_who_is_in_a_hurry_may_hear_that_it_took_too_long(kind, status):
    """Oracle: the recorded run holds; with one answer more, the row of its kind alone does not."""
    found = fault_results()["fuzz"]
    assert all(row["holds"] for row in faults_page.summarize("fuzz", found).values())
    statuses = found["mutated"]["statuses"] if kind == "mutated" else found["generated"]["statuses"][kind]
    statuses[status] = 1
    missed = [asked for asked, row in faults_page.summarize("fuzz", found).items() if not row["holds"]]
    words = {"patient": "generated", "hasty": "made up", "mutated": "mutated"}
    assert [words[kind] in asked for asked in missed] == [True]


def test_growth_and_drift_leave_the_start_out():
    """Oracle: series made by hand: a first tenth that grows, then a steady 10 % up, then tails twice as long."""
    sizes = [10] * 10 + [100] * 80 + [110] * 10
    assert memory_growth({"resident": [(place, size) for place, size in enumerate(sizes)]}) == pytest.approx(0.1)
    tails = [99.0] + [5.0] * 3 + [7.0] * 3 + [10.0] * 3
    assert tail_drift({"windows": [{"p99_ms": tail} for tail in tails]}) == pytest.approx(2.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding bundle that says how large its encoder is."""
    directory = make_bundle(tmp_path_factory.mktemp("bench") / "student", task="embedding")
    (directory / "manifest.json").unlink()
    (directory / "config.json").write_text(json.dumps(ENCODER), encoding="utf-8")
    request = Request(stage="export", version=1, config={"name": "student"}, inputs={})
    seal(directory, kind="bundle", request=request, lineage={}, facts={})
    return directory


@pytest.mark.long
def test_the_benchmark_runs(bundle: Path, tmp_path: Path) -> None:
    """Oracle: the benchmark's own check of embeddings against ours, and the page of its samples."""
    program = tmp_path / "peers" / "litserve" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    out, page = tmp_path / "service.json", tmp_path / "service.md"
    sizes = ["--rounds", "2", "--singles", "10", "--texts", "40", "--seconds", "0.5", "--starts", "1", "--longest"]
    benchmark(
        ["--model", str(bundle), "--peers", str(tmp_path / "peers"), "--only", "ours", "starlette", "--threads", "1",
         "--out", str(out), "--page", str(page), *sizes, str(MAX_TOKENS)]
    )  # fmt: skip
    found = json.loads(out.read_text(encoding="utf-8"))
    assert set(found["chosen"]) == {"ours", "starlette"}
    for taken in found["rounds"]:
        assert len(taken["ours"]["single"]["ms"]) == len(taken["starlette"]["single"]["ms"]) == 10
        assert len(taken["ours"]["closed"]["ms"]) == 40
    assert "Starlette" in page.read_text(encoding="utf-8")


def run_swap(setup: Setup) -> dict[str, Any]:
    if "swap_from" not in ServiceConfig.model_fields:
        pytest.skip("this service does not swap")
    return swap(setup, other=None, times=4, connections=2)


MINIATURES: dict[str, Callable[[Setup], dict[str, Any]]] = {
    "overload": lambda setup: overload(setup, seconds=1, texts=60),
    "kill": lambda setup: kill(setup, times=1, connections=2, settle=0.2, texts=10),
    "sigterm": lambda setup: sigterm(setup, times=1, connections=2, texts=10),
    "fuzz": lambda setup: fuzz(setup, peers=None, mutated=60),
    "swap": run_swap,
    "soak": lambda setup: soak(setup, seconds=1, window=0.5, texts=60),
}
SOUND: dict[str, Callable[[dict[str, Any]], bool]] = {
    "overload": lambda found: set(found["statuses"]) <= {"200", "429"} and bool(found["accepted_ms"]),
    "kill": lambda found: found["wrong"] == 0 and len(found["kills"]) == 1,
    "sigterm": lambda found: found["ends"][0]["lost"] == 0 and found["ends"][0]["exit_status"] == 0,
    "fuzz": lambda found: found["healthy"] and not any(each[0] == "5" for each in found["mutated"]["statuses"]),
    "swap": lambda found: found["swaps"] == 4 and not found["answers"].get("mixed", 0),
    "soak": lambda found: all(window["failures"] == 0 for window in found["windows"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=() if name == "kill" else pytest.mark.long) for name in MINIATURES]
)
def test_a_fault_in_miniature(scenario: str, bundle: Path) -> None:
    """Oracle: what the service promises, in a few requests: nothing wrong, nothing lost, no 5xx, nothing mixed."""
    found = MINIATURES[scenario](Setup(bundle=bundle, threads=1))
    assert SOUND[scenario](found), found
    assert faults_page.summarize(scenario, found)


def test_every_scenario_has_its_section_and_its_miniature() -> None:
    """Oracle: the program's own list."""
    from benchmarks.faults.__main__ import SCENARIOS

    names: Sequence[str] = SCENARIOS
    assert set(names) == set(faults_page.SECTIONS) == set(MINIATURES) == set(SOUND)
