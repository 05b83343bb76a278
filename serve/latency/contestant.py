"""A contestant of a measurement, and its process: what it is given, what it is asked, and how it ends."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import IO, TypeVar

from artifact.errors import BenchError
from serve.huge_pages import with_huge_pages
from serve.latency.plan import Round, Task
from serve.latency.timing import WarmUp
from serve.latency.worker import Farewell, Measurable, Opened, Preparation, Setup

SECONDS_TO_EXIT = 5.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ORT_INTRA_OP_NUM_THREADS")
WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Set by our own command for training; a contestant runs with its library's default."""
WORKER = "import sys; from serve.latency.worker import main; main(int(sys.argv[1]))"
"""Not `-m serve.latency.worker`: messages must be of the classes we import, not of their doubles in `__main__`."""

Answer = TypeVar("Answer", Opened, WarmUp, Round, Farewell)


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Something to measure, still unopened."""

    name: str
    factory: Callable[[], Measurable]
    """Opens the engine, in the contestant's own process. Picklable: a `functools.partial` of an importable function."""
    threads: int
    """Threads it may use; set in its environment before Python starts, and what its engine must then say it has."""
    max_tokens: int | None = None
    """Longest text it reads whole; fixed lengths beyond it are not asked of it. None: any."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of its process, over what all have (`child_environment`)."""


def last_error(log: str) -> str:
    """The message that ends a log: its last line that is not indented, with the indented lines below it."""
    lines = [line for line in log.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if not line[0].isspace()]
    return "\n".join(lines[starts[-1] if starts else 0 :][:5])


def child_environment(threads: int) -> dict[str, str]:
    """The environment of a child: ours, with every thread pool held to `threads` and the import path handed on.

    It imports what we import, whatever folders are called where it is started. Its memory is in huge pages, as that of
    the service.
    """
    ours = {name: value for name, value in os.environ.items() if name not in WAITING_VARIABLES}
    return with_huge_pages(
        ours | thread_environment(threads) | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    )


def thread_environment(threads: int) -> dict[str, str]:
    """What holds every thread pool to `threads`.

    How OpenMP's threads wait is left to its default, which is how people run PyTorch: on idle cores it answers a text
    in 4.8 ms, and in 11.6 ms when its threads must not spin. Beside a busy neighbour the default is far slower; the
    load average of a run is in its facts, and a busy machine is announced.
    """
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}


class Worker:
    """The parent's end of one contestant; the process starts with it."""

    def __init__(self, contestant: Contestant, log: IO[bytes]) -> None:
        self._name, self._log = contestant.name, log
        self._pipe, theirs = Pipe()
        with theirs:
            self.started_ns = time.perf_counter_ns()
            self._process = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(theirs.fileno())],
                env=child_environment(contestant.threads) | dict(contestant.environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def ask(self, question: Setup | Preparation | Task | None, kind: type[Answer]) -> Answer:
        """Send a message and wait for the answer; `BenchError` when the contestant dies instead."""
        try:
            self._pipe.send(question)
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise BenchError(f"{self._name} died while it was measured: {self._last_words()}") from None
        if not isinstance(answer, kind):
            raise TypeError(f"{self._name} answered {type(answer).__name__}, expected {kind.__name__}")
        return answer

    def stop(self) -> None:
        """Close the pipe, at which it exits; end it when it does not."""
        self._pipe.close()
        try:
            self._process.wait(SECONDS_TO_EXIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        code = self._process.wait()
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._log.seek(0)
        return "; ".join(filter(None, (ended, last_error(self._log.read().decode(errors="replace")))))


def check_threads(contestant: Contestant, said: Opened) -> Opened:
    """What it said when it opened; `BenchError` when it runs on other threads than it was given."""
    if said.threads != contestant.threads:
        given = f"{contestant.name} was given {contestant.threads} threads and says that it runs on {said.threads}"
        raise BenchError(given, "rows on unequal threads cannot be compared; set bench.threads to what it takes")
    return said


@contextlib.contextmanager
def running(contestant: Contestant) -> Iterator[Worker]:
    """Its process, stopped at the end."""
    with tempfile.TemporaryFile() as log:
        worker = Worker(contestant, log)
        try:
            yield worker
        finally:
            worker.stop()
