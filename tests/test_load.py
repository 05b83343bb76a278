"""Measurement over HTTP against a small server of the standard library."""

import json
import os
import sys
import textwrap

import psutil
import pytest

from artifact.errors import BenchError
from pipeline.bench_http import check_threads_of
from serve.latency.client import Connection, Target
from serve.latency.over_http import measure_client_overhead_ms, measure_over_http
from serve.latency.plan import Workload
from serve.latency.server import Service, free_port, running
from serve.latency.timing import WarmUpLimits

SHORT = WarmUpLimits(calls_per_block=2, max_calls=6, max_seconds=1.0)
WORKLOAD = Workload(
    texts=("one", "two", "drei", "vier", "fünf"), rounds=3, calls_per_round=4, batch_size=3, batches_per_round=2
)

ECHO = """
    import json, os, subprocess, sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print("child", child.pid, flush=True)

    class Echo(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def answer(self, status, value):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(200, {"threads": {"intra_op_threads": 3}})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["inputs"] == "boom":
                return self.answer(422, {"error": "no such text"})
            time.sleep(0.002)
            seen = {"model": self.headers["X-Model"], "path": self.path, "begun": time.perf_counter_ns(), **body}
            with open(sys.argv[2], "a") as file:
                file.write(json.dumps(seen | {"from": self.client_address[1]}) + "\\n")
            self.answer(200, seen)

        def log_message(self, *arguments):
            pass

    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""


def service(folder, program, **options):
    script = folder / "server.py"
    script.write_text(textwrap.dedent(program))
    port = free_port()
    argv = [sys.executable, str(script), str(port), str(folder / "seen.jsonl")]
    return Service(name="echo", argv=argv, environment=dict(os.environ), port=port, **options)


@pytest.fixture
def echo(tmp_path):
    with running(service(tmp_path, ECHO)) as server:
        yield server


def targets(server, *names):
    return [Target(name=name, port=server.service.port, headers={"X-Model": name}) for name in names]


def test_every_target_gets_every_round_of_the_same_texts(echo, tmp_path):
    """Oracle: what the server says it saw, against the workload's tasks; an answer takes at least its 2 ms."""
    kept = []
    load = measure_over_http(
        targets(echo, "student/int8", "teacher/float32"),
        WORKLOAD,
        keep=lambda name, _: kept.append(name),
        limits=SHORT,
        connections=3,
    )
    assert kept == [name for i in range(3) for name in WORKLOAD.order(["student/int8", "teacher/float32"], i)]
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    for target in load.targets:
        for turn in target.rounds:
            inside = [s for s in seen if s["model"] == target.name and turn.begun_ns < s["begun"] < turn.ended_ns]
            task = WORKLOAD.task(turn.index)
            assert tuple(s["inputs"] for s in inside[:4]) == task.singles, "singles come first, in order"
            assert len({s["from"] for s in inside[:4]}) == 1, "over one connection"
            assert sorted(s["inputs"] for s in inside[4:]) == sorted(text for batch in task.batches for text in batch)
            assert len(turn.single_ms) == 4
            assert min(turn.single_ms) >= 2
            assert turn.batch_texts == 6
            assert turn.texts_per_second <= 3 / 0.002, "three connections, 2 ms each"
    assert 0 < load.client_cpu_share < 1.5
    assert {s["path"] for s in seen} == {"/predict"}


def test_queries_and_lengths_go_one_after_the_other(echo, tmp_path):
    """Oracle: what the server says it saw; a query is one request, of lists, since a flat list of two is a pair."""
    workload = Workload(
        texts=("one", "two", "drei"), rounds=1, calls_per_round=1, batch_size=1, batches_per_round=0,
        streams=2, queries_per_round=2, by_length={4: ("four", "tokens"), 600: ("many",)}, calls_per_length=2,
    )  # fmt: skip
    target = Target(name="student/int8", port=echo.service.port, max_tokens=512)
    (measured,) = measure_over_http([target], workload, limits=SHORT, connections=1).targets
    (turn,) = measured.rounds
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    inside = [s["inputs"] for s in seen if turn.begun_ns < s["begun"] < turn.ended_ns]
    first, second = [["one"], ["two"]], [["drei"], ["one"]]
    assert inside == ["one", first, first, second, "four", "four", "tokens"]
    assert (len(turn.multi_ms), len(turn.by_length_ms[4]), turn.batch_texts) == (2, 2, 0)
    assert min(*turn.multi_ms, *turn.by_length_ms[4]) >= 2


def test_a_service_on_other_threads_than_it_was_given(echo):
    """Oracle: what the server says of itself."""
    check_threads_of(echo, 3)
    with pytest.raises(BenchError, match="service echo was given 2 threads and runs on 3"):
        check_threads_of(echo, 2)


def test_an_answer_other_than_200_is_an_error_with_status_and_body(echo):
    """Oracle: the server's own 422."""
    (target,) = targets(echo, "student/int8")
    with Connection(target) as connection:
        with pytest.raises(BenchError, match=r'student/int8: the service answered 422, .*200: \{"error": "no such'):
            connection.ask(target.request("boom"))
        assert json.loads(connection.ask(target.request("fünf")))["inputs"] == "fünf", "and the connection lives on"


def test_ending_takes_the_whole_family(tmp_path):
    """Oracle: the process table, before and after; the child is in a session of its own, as BentoML's workers are."""
    with running(service(tmp_path, ECHO)) as server:
        family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        assert len(family) == 2
        assert server.peak_memory_bytes() > 5_000_000
        assert server.ready_seconds > 0
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_service_that_is_never_healthy(tmp_path):
    """Oracle: a program that only prints; the error has its name, the time and the tail of its log."""
    program = "import time\nprint('loading weights', flush=True)\ntime.sleep(600)\n"
    stuck = service(tmp_path, program, seconds_to_ready=0.5)
    with (
        pytest.raises(BenchError, match=r"service echo was not healthy after 0 s:\n    loading weights"),
        running(stuck),
    ):
        pass


def test_a_service_that_ends_at_once(tmp_path):
    """Oracle: the program's exit code and last words."""
    ending = service(tmp_path, "raise SystemExit('port taken')")
    with pytest.raises(BenchError, match=r"service echo ended with exit code 1:\n    port taken"), running(ending):
        pass


def test_nobody_listens():
    """Oracle: a port that was free a moment ago."""
    with pytest.raises(BenchError, match=r"student: cannot connect to 127\.0\.0\.1:"):
        Connection(Target(name="student", port=free_port()))


def test_the_client_costs_little():
    """Oracle: a service that does nothing: the overhead is more than nothing, and (generously) under 20 ms."""
    assert 0 < measure_client_overhead_ms("turn the light on") < 20
