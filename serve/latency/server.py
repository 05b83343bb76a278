"""A service in processes of its own: started, waited for until healthy, and ended with all it started.

with running(Service(name="bundles", argv=["bentoml", "serve", ...], port=port)) as server: ...
"""

import contextlib
import http.client
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from artifact.errors import BenchError
from serve.latency.client import HOST
from serve.latency.memory import peak_memory_bytes

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_STOP = 10.0
LOG_LINES_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Service:
    """What to start."""

    name: str
    argv: Sequence[str]
    """The command; it must listen on `port` of the loopback interface."""
    environment: Mapping[str, str]
    """The whole environment, not additions to ours."""
    port: int
    directory: Path | None = None
    """Where it starts; left out, where we are."""
    health_path: str = "/health"
    seconds_to_ready: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A healthy service."""

    service: Service
    process: subprocess.Popen[bytes]
    family: frozenset[psutil.Process]
    """Descendants of the process when it was healthy: known even if it should die before them."""
    ready_seconds: float
    """From its start to the first 200 on the health path."""

    def read_json(self, path: str) -> Any:
        """What the service answers to GET `path`; `BenchError` when that is not 200."""
        with contextlib.closing(http.client.HTTPConnection(HOST, self.service.port, timeout=10.0)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise BenchError(f"service {self.service.name} answered {answer.status} to GET {path}, expected 200")
        return json.loads(body)

    def peak_memory_bytes(self) -> int:
        """Sum of the peak resident memories of its processes: at least what they ever had together."""
        pids = {self.process.pid, *(process.pid for process in self.family | _family(self.process))}
        return sum(peak_memory_bytes(pid) for pid in pids)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(service: Service) -> Iterator[Server]:
    """The service, healthy; ended on the way out.

    Raises `BenchError` with the tail of its log when it ends, or is not healthy within `seconds_to_ready`.
    """
    with tempfile.TemporaryFile() as log:
        begun = time.perf_counter()
        process = subprocess.Popen(
            list(service.argv),
            env=dict(service.environment),
            cwd=service.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is ours alone: we end it in order
        )
        family: frozenset[psutil.Process] = frozenset()
        try:
            _wait_until_healthy(service, process, log)
            ready_seconds = time.perf_counter() - begun
            family = _family(process)
            yield Server(service=service, process=process, family=family, ready_seconds=ready_seconds)
        finally:
            _stop(process, family)


def _wait_until_healthy(service: Service, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    deadline = time.monotonic() + service.seconds_to_ready
    while not _healthy(service):
        if process.poll() is not None:
            raise BenchError(f"service {service.name} ended with exit code {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            waited = f"{service.seconds_to_ready:.0f} s"
            raise BenchError(f"service {service.name} was not healthy after {waited}:\n{_tail(log)}")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _healthy(service: Service) -> bool:
    connection = http.client.HTTPConnection(HOST, service.port, timeout=2.0)
    try:
        connection.request("GET", service.health_path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes], family: frozenset[psutil.Process]) -> None:
    """SIGTERM to the one we started, which ends its own; what then is left of the family is killed, each by its id."""
    family |= _family(process)
    process.terminate()
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for survivor in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(family, timeout=SECONDS_TO_STOP)


def _family(process: subprocess.Popen[bytes]) -> frozenset[psutil.Process]:
    """The descendants of a process, which may be in other process groups: BentoML's workers are."""
    try:
        return frozenset(psutil.Process(process.pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return frozenset()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"
