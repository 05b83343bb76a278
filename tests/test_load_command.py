"""`understudy load`: a service of this test's own on a socket, asked through the command line."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from artifact.errors import BenchError, DataError
from pipeline.__main__ import main
from pipeline.bench_config import ServerConfig
from pipeline.bench_server import measure_server
from pipeline.load_command import read_texts
from pipeline.load_page import render_page
from pipeline.load_records import LoadReport, make_closed, make_point, percentile_with_failures
from pipeline.load_table import describe_knee, describe_point
from serve.latency.client import Target
from serve.latency.server import free_port
from serve.load.client import Reply
from serve.load.endpoint import check_allowed, find_endpoint, is_loopback
from serve.load.loops import Closed, poisson_schedule
from serve.load.rate import Point
from serve.load.sweep import judge

ROOT = Path(__file__).parent.parent
EMBEDDING = {"/info": {"model_id": "a", "model_type": {"embedding": {"pooling": "mean"}}}}
"""As text-embeddings-inference answers."""


class Service(ThreadingHTTPServer):
    """Answers every POST with a status, keeps what it was sent, and tells `on_post` the number of each."""

    daemon_threads = True

    def __init__(self, status=200, pages=None, on_post=lambda _number: None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.pages, self.on_post = status, pages or {}, on_post
        self.posts: list[tuple[str, dict[str, str], dict]] = []
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        found = self.server.pages.get(self.path)
        self.answer(200 if found is not None else 404, found or {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.posts.append((self.path, dict(self.headers), body))
            number = len(self.server.posts)
        self.server.on_post(number)
        self.answer(self.server.status, [[0.0]] if self.server.status == 200 else {"error": "as asked"})

    def answer(self, status, tree):
        body = json.dumps(tree).encode()
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)


@contextmanager
def service(**options) -> Iterator[Service]:
    found = Service(**options)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def load(url, out, *options):
    return main(["load", url, "--out", str(out), *options])


def test_a_report_holds_every_request_that_was_sent(tmp_path, capsys, monkeypatch):
    """Oracle: the seeded arrivals, and what the service counted; the key is in neither file."""
    monkeypatch.setenv("A_KEY", "not-to-be-told")
    with service() as found:
        code = load(
            found.url + "/embed", tmp_path / "a", "--rates", "40,80", "--seconds", "0.5", "--closed", "2",
            "--key-env", "A_KEY", "--header", "X-Model: one", "--model", "one",
        )  # fmt: skip
    assert code == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    text = (tmp_path / "a" / "load.json").read_text()
    report = LoadReport.model_validate_json(text)
    assert told["report"] == str(tmp_path / "a" / "load.json")
    assert [point.rate_per_second for point in report.points] == [40, 80]
    for number, point in enumerate(report.points):
        assert len(point.latency_ms) == len(poisson_schedule(point.rate_per_second, 0.5, 1 + number))
        assert sum(bucket.requests for bucket in point.figures.histogram) == len(point.latency_ms)
        assert point.failed == 0
    sent = sum(len(point.latency_ms) for point in report.points) + len(report.closed.latency_ms)
    assert len(found.posts) > sent  # the first request, the warm-up, and lone ones after a rate that missed
    path, headers, body = found.posts[-1]
    assert path == "/embed"
    assert (headers["Authorization"], headers["X-Model"]) == ("Bearer not-to-be-told", "one")
    assert headers["Host"] == found.url.removeprefix("http://")
    assert (set(body), body["model"]) == ({"inputs", "model"}, "one")
    raw = [json.loads(line) for line in (tmp_path / "a" / "raw.jsonl").read_text().splitlines()]
    assert [tuple(line["latency_ms"]) for line in raw] == [point.latency_ms for point in report.points]
    page = (tmp_path / "a" / "load.html").read_text()
    assert "not-to-be-told" not in page + text
    assert not any(word in page for word in ("<script", "<link", "src=", "@import", "url(http"))


@pytest.mark.parametrize(
    ("status", "hint"), [(500, "log"), (401, "--key-env"), (404, "--path"), (422, "another body"), (429, "overloaded")]
)
def test_an_endpoint_that_refuses_the_first_request_is_told_in_words(tmp_path, capsys, status, hint):
    """Oracle: exit code 2, the status and what to do about it; no report is left."""
    with service(status=status) as found:
        assert load(found.url + "/predict", tmp_path / "a") == 2
    told = capsys.readouterr().err
    assert f"answered {status} to POST /predict, expected 200" in told
    assert "as asked" in told
    assert hint in told
    assert not (tmp_path / "a" / "load.json").exists()


def test_an_endpoint_that_is_down_is_told(tmp_path, capsys):
    """Oracle: a port that nobody listens on."""
    assert load(f"http://127.0.0.1:{free_port()}/embed", tmp_path) == 2
    assert "nothing answers at http://127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["http://example.org/embed"], "add --i-may-load example.org"),
        (["http://example.org/embed", "--i-may-load", "example.com"], "add --i-may-load example.org"),
        (["127.0.0.1:3000"], "not the address of a service"),
        (["ftp://127.0.0.1/embed"], "not the address of a service"),
        (["http://127.0.0.1:99999/embed"], "not the address of a service"),
        (["http://me:secret@127.0.0.1/embed"], "--key-env"),
        (["http://127.0.0.1/embed", "--path", "/generate"], "no body is known for the route /embed/generate"),
        (["http://127.0.0.1/embed", "--rates", "10,-5"], "--rates holds -5"),
        (["http://127.0.0.1/embed", "--rates", "10,nan"], "rates"),
        (["http://127.0.0.1/embed", "--seconds", "0"], "seconds"),
        (["http://127.0.0.1/embed", "--closed", "0"], "closed"),
        (["http://127.0.0.1/embed", "--texts", "nowhere.txt"], "cannot read nowhere.txt"),
        (["http://127.0.0.1/embed", "--header", "nothing"], "is not a header"),
        (["http://127.0.0.1/embed", "--header", "A: b\r\nC: d"], "none that HTTP allows"),
        (["http://127.0.0.1/embed", "--key-env", "UNDERSTUDY_UNSET"], "UNDERSTUDY_UNSET is not set"),
    ],
    ids=lambda found: found[-1] if isinstance(found, list) else None,
)
def test_bad_options_are_one_clear_error(tmp_path, capsys, options, problem):
    """Oracle: exit code 2 before anything is sent or written."""
    assert main(["load", *options, "--out", str(tmp_path / "a")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert problem in told
    assert not (tmp_path / "a").exists()


def test_only_this_machine_may_be_loaded_unasked():
    """Oracle: the addresses that RFC 1122 and RFC 4291 call loopback; names are not looked up."""
    assert all(is_loopback(host) for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"))
    others = ("localhost.example.org", "127.0.0.1.example.org", "0.0.0.0", "10.0.0.1", "2130706433", "")  # noqa: S104 - refused
    assert not any(is_loopback(host) for host in others)
    check_allowed("Example.org", "example.ORG")


@pytest.mark.parametrize(
    ("pages", "path"),
    [
        (EMBEDDING, "/embed"),
        ({"/info": {"model_type": {"classifier": {}}}}, "/predict"),
        ({"/info": {"model_type": {"reranker": {}}}}, "/rerank"),
        ({"/v1/models": {"data": [{"id": "first"}, {"id": "second"}]}}, "/v1/embeddings"),
        ({"/info": {"version": "of something else"}, "/v1/models": {"data": []}}, "/v1/embeddings"),
    ],
)
def test_the_route_is_what_the_service_says_of_itself(pages, path):
    """Oracle: the `/info` of text-embeddings-inference, and OpenAI's `/v1/models`."""
    with service(pages=pages) as found:
        endpoint = find_endpoint(found.url + "/", path=None, model=None, headers={})
    assert endpoint.path == path
    assert endpoint.model == ("first" if "first" in str(pages) else None)
    assert endpoint.url == found.url + path


def test_a_service_that_says_nothing_of_itself_needs_a_route():
    """Oracle: a service of which every page is 404; told the route, nobody asks."""
    with service() as found:
        with pytest.raises(BenchError, match="does not say what it answers"):
            find_endpoint(found.url, path=None, model=None, headers={})
        assert find_endpoint(found.url + "/base", path="embed", model=None, headers={}).path == "/base/embed"


def test_bodies_are_those_of_the_routes():
    """Oracle: the documented bodies of text-embeddings-inference and OpenAI."""
    bodies = {}
    for path in ("/embed", "/predict", "/rerank", "/v1/embeddings"):
        endpoint = find_endpoint(f"http://[::1]:9{path}", path=None, model="m" if "v1" in path else None, headers={})
        first = endpoint.requests(["a", "b", "c"])[0]
        head, _, body = first.partition(b"\r\n\r\n")
        assert head.startswith(f"POST {path} HTTP/1.1\r\nHost: [::1]:9\r\n".encode())
        bodies[path] = json.loads(body)
    assert bodies == {
        "/embed": {"inputs": "a"},
        "/predict": {"inputs": "a"},
        "/rerank": {"query": "a", "texts": ["b", "c", "a", "b"]},
        "/v1/embeddings": {"input": "a", "model": "m"},
    }


def test_texts_are_lines_plain_or_json(tmp_path):
    """Oracle: the lines."""
    file = tmp_path / "texts"
    file.write_text('plain, as it is\n\n{"text": "one", "label": "x"}\n"two"\n3\n{"other": 1}\n')
    assert read_texts(file, "text", 1) == ["plain, as it is", "one", "two", "3"]
    with pytest.raises(DataError, match="holds no text"):
        read_texts(_write(tmp_path / "empty", "\n\n"), "text", 1)
    with pytest.raises(DataError, match="--field"):
        read_texts(_write(tmp_path / "json", '{"text": "a"}\n'), "question", 1)
    assert len(read_texts(None, "text", 1)) == 512


def _write(path, text):
    path.write_text(text)
    return path


def point(rate, latency_ms, *, failed=0, fault=""):
    failures = {"429": failed} if failed else {}
    return Point(rate_per_second=rate, seconds=10, latency_ms=tuple(latency_ms), failures=failures,
                 client_cpu_share=0.2, late_p99_ms=0.3, fault=fault)  # fmt: skip


def report_of(points, **more):
    found = judge(points, 100.0)
    return LoadReport(
        url="http://127.0.0.1:1/<embed>", model=None, texts="2 made", objective_p99_ms=100, seconds=10, connections=8,
        seed=1, points=[make_point(one, 100.0) for one in points], knee_per_second=found.knee_per_second,
        bounded=found.bounded, machine={"processor": "a"}, load_average={"before": 0, "after": 0},
        **{"closed": None, "ended": "complete", "reason": "", **more},
    )  # fmt: skip


def test_failures_are_slower_than_all_others():
    """Oracle: the samples sorted with infinities behind: a percentile among them has no value."""
    samples = list(np.linspace(1, 50, 2000))
    assert percentile_with_failures(samples, 0, 0.99).value == pytest.approx(np.quantile(samples, 0.99))
    some = percentile_with_failures(samples, 4, 0.99)
    assert some.value == pytest.approx(np.quantile([*samples, *[1e9] * 4], 0.99))
    assert percentile_with_failures(samples, 40, 0.99) is None
    assert percentile_with_failures(samples, 40, 0.9) is not None
    assert percentile_with_failures(samples[:999], 0, 0.99) is None
    assert percentile_with_failures([], 50, 0.5) is None


def test_a_knee_is_told_as_far_as_it_was_seen():
    """Oracle: sweeps by hand: found, not bounded, bounded by the client, none."""
    fast, slow = [5.0] * 1000, [500.0] * 1000
    assert describe_knee(report_of([point(10, fast), point(20, slow)])).startswith("up to 10 requests a second")
    assert "higher rates were not measured" in describe_knee(report_of([point(10, fast)]))
    assert "this client was the limit" in describe_knee(report_of([point(10, fast), point(20, slow, fault="late")]))
    assert describe_knee(report_of([point(10, slow)])).startswith("none of the rates")
    assert describe_point(make_point(point(10, fast, failed=3), 100)).endswith(
        "1,003 requests, 3 failed, p50 5.00 ms, p99 5.00 ms, kept"
    )


def test_the_page_shows_what_there_is_and_escapes_the_rest():
    """Oracle: the report: each rate once, the reason it ended, and an address with HTML in it as it reads."""
    random = np.random.default_rng(1)
    points = [point(10, random.exponential(5, 1200)), point(20, random.exponential(90, 1200), failed=300),
              point(40, random.exponential(9, 50), fault="the client took 90%")]  # fmt: skip
    closed = make_closed(Closed([Reply(200, b"", 0.0, 0.004)] * 100, 0.4), 1)
    page = render_page(report_of(points, closed=closed, ended="interrupted", reason="stopped by hand"))
    assert "&lt;embed&gt;" in page
    assert "<embed>" not in page
    assert "was interrupted" in page
    assert "300 of 429" in page
    assert "the client took 90%" in page
    assert "1 connection, each asking again" in page
    assert page.count("<svg") == 2
    assert page.count("<tr>") + page.count('<tr class="candidate">') == 1 + 3
    assert render_page(report_of([point(40, [1.0] * 5), point(80, [1.0] * 35, fault="late")])).count("<svg") == 2
    empty = render_page(report_of([]))
    assert "No knee" in empty
    assert "Nothing was answered" in empty


def test_the_server_scenario_is_a_sweep_of_each_row():
    """Oracle: the rates of the recipe, the seeded arrivals, and who the service says was asked."""
    with service() as found:
        targets = [Target(name=name, port=found.server_port, headers={"X-Model": name}) for name in ("a", "b")]
        told = []
        rows = measure_server(
            targets, ["one", "two"], ServerConfig(rates=(30.0, 60.0), seconds=0.3, objective_p99_ms=1e6),
            keep=lambda name, one: told.append((name, one.rate_per_second)),
        )  # fmt: skip
    assert told == [("a", 30), ("a", 60), ("b", 30), ("b", 60)]
    for row in rows.values():
        assert row.objective_p99_ms == 1e6
        assert [len(one.latency_ms) for one in row.points] == [
            len(poisson_schedule(one.rate_per_second, 0.3, 1 + number)) for number, one in enumerate(row.points)
        ]
    assert {headers["X-Model"] for _, headers, _ in found.posts} == {"a", "b"}


@pytest.mark.slow
def test_who_stops_it_has_what_came(tmp_path):
    """Oracle: SIGINT while the second rate is under way: the first is whole, the second is marked, exit code 130."""
    first, process = len(poisson_schedule(30, 2, 1)), None

    def stop(number: int) -> None:
        if number == 51 + first + 5 and process is not None:
            os.kill(process.pid, signal.SIGINT)

    with service(on_post=stop) as found:
        argv = [sys.executable, "-m", "pipeline", "load", found.url + "/embed", "--rates", "30,31", "--seconds", "2"]
        process = subprocess.Popen([*argv, "--out", str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert json.loads(told.splitlines()[-1])["ended"] == "interrupted"
    report = LoadReport.model_validate_json((tmp_path / "load.json").read_text())
    assert len(report.points[0].latency_ms) == first
    assert report.points[-1].fault == "interrupted"
    assert len((tmp_path / "raw.jsonl").read_text().splitlines()) == len(report.points) == 2
    assert "was interrupted" in (tmp_path / "load.html").read_text()
