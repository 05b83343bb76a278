"""`understudy swap` as an operator meets it, and a service of real processes that is swapped under load."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from serve_bundles import LABELS, make_bundle
from serve_client import serving

from artifact.errors import ServeError
from artifact.manifest import open_artifact
from pipeline.__main__ import main
from serve.keys import make_key
from serve.runtime import Runtime
from serve.swap.client import ask_swap

ADMIN, ADMIN_ENTRY = make_key("operator", "admin")
TEXT = "wake me at seven"


class Elsewhere(BaseHTTPRequestHandler):
    """Sends every request on to another place, and notes what came."""

    seen: list[tuple[str, str]] = []
    status = 302

    def do_POST(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.seen.append((self.command, self.path))
        self.send_response(self.status)
        self.send_header("Location", "/trap")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    Elsewhere.seen.clear()
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_key_is_not_taken_elsewhere(elsewhere, status):
    """Oracle: the requests that arrive: one, and none where the answer pointed to."""
    Elsewhere.status = status
    with pytest.raises(ServeError, match=f"refused with {status}"):
        ask_swap(elsewhere, "student", "two", environment={"UNDERSTUDY_KEY": ADMIN})
    assert Elsewhere.seen == [("POST", "/admin/swap")]


def test_faults_before_anything_is_sent(capsys, monkeypatch):
    """Oracle: exit 2 and two lines, which name the variable or the address, and never the key."""
    monkeypatch.delenv("UNDERSTUDY_KEY", raising=False)
    assert main(["swap", "http://127.0.0.1:1", "student", "two"]) == 2
    assert "UNDERSTUDY_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("UNDERSTUDY_KEY", "two\nlines")
    assert main(["swap", "http://127.0.0.1:1", "student", "two"]) == 2
    assert "holds no API key" in capsys.readouterr().err
    monkeypatch.setenv("OTHER", ADMIN)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address in ("student", "file:///etc/hostname", "ftp://x", "http://", f"http://127.0.0.1:{port}"):
        assert main(["swap", address, "student", "two", "--key-env", "OTHER"]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert ADMIN not in captured.err
        assert captured.out == ""


@pytest.mark.slow
def test_a_real_service_is_swapped_under_load(tmp_path, capsys, monkeypatch):
    """Oracle: each bundle's own scores: every answer during six swaps is of one of the two.

    Workers that are killed after a swap are replaced by ones that serve what was swapped to.
    """
    for seed, name in enumerate(("one", "two")):
        make_bundle(tmp_path / "shelf" / name, seed=10 * seed)
    entry = f"{{name: operator, role: admin, sha256: {ADMIN_ENTRY.sha256}}}"
    (tmp_path / "service.yaml").write_text(f"swap_from: shelf\napi_keys: [{entry}]\n")
    monkeypatch.setenv("UNDERSTUDY_KEY", ADMIN)
    workers = min(2, len(os.sched_getaffinity(0)))
    arguments = [f"student={tmp_path / 'shelf/one'}", "--config", str(tmp_path / "service.yaml")]
    expected = {name: scores_of(tmp_path / "shelf" / name) for name in ("one", "two")}
    answers: list[httpx.Response] = []
    with serving(*arguments, "--workers", str(workers), log=tmp_path / "log") as url:
        done = threading.Event()
        threads = [threading.Thread(target=ask_until, args=(url, done, answers)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for name in ("two", "previous", "two", "original", "two", "two"):
            assert main(["swap", url, "student", name]) == 0
            told = json.loads(capsys.readouterr().out)
            assert told["to"] == {"previous": "original"}.get(name, name)
            seen = len(answers)
            wait_until(lambda seen=seen: len(answers) >= seen + 4)
        done.set()
        for thread in threads:
            thread.join()
        assert main(["swap", url, "student", "../one"]) == 2
        assert "there is no bundle '../one'" in capsys.readouterr().err
        digest = open_artifact(tmp_path / "shelf/two").digest
        wait_for_workers(url, digest, workers)
        victims = find_workers()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not set(victims) & set(find_workers()) and len(find_workers()) == workers)
        wait_for_workers(url, digest, workers)
    assert len(answers) >= 24
    assert {answer.status_code for answer in answers} == {200}
    found = [{item["label"]: item["score"] for item in answer.json()} for answer in answers]
    assert all(any(is_like(each, scores) for scores in expected.values()) for each in found)
    log = (tmp_path / "log").read_text()
    assert "from original to two, asked by operator" in log
    assert TEXT not in log
    assert ADMIN not in log


def scores_of(directory: Path) -> dict[str, float]:
    scores = Runtime.open(directory, "int8", threads=1).scores([TEXT])[0]
    return dict(zip(LABELS, scores.tolist(), strict=True))


def is_like(left: dict[str, float], right: dict[str, float]) -> bool:
    return all(abs(left[label] - right[label]) < 1e-4 for label in LABELS)


def ask_until(url: str, done: threading.Event, answers: list[httpx.Response]) -> None:
    with httpx.Client(headers={"x-api-key": ADMIN}) as client:
        while not done.is_set():
            answers.append(client.post(f"{url}/predict", json={"inputs": TEXT}))


def wait_for_workers(url: str, digest: str, workers: int) -> None:
    """Until that many requests in a row, each over a connection of its own, are answered by that bundle."""
    row = [0]

    def look() -> bool:
        try:
            info = httpx.get(f"{url}/info", headers={"x-api-key": ADMIN}).json()
        except httpx.TransportError:
            return False
        row[0] = row[0] + 1 if info["model_sha"] == digest else 0
        return row[0] >= 10 * workers

    wait_until(look)


def find_workers() -> list[int]:
    """Processes below this one that BentoML supervises."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "--worker-id" in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to be in a minute")
