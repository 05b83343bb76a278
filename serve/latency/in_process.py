"""Latency in process: contestants, each in a process of its own, take turns in random order on the same texts.

    contestant = Contestant(name="student/int8", factory=partial(Runtime.open, bundle, "int8", threads=2), threads=2)
    for row in measure([contestant, ...], workload, keep=save): ...

Only one contestant works at any time; the others block on their pipes. A process of its own gives each its thread
pools, allocator and peak memory, and interleaving gives each the same share of whatever else the machine does.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import IO, TypeVar

from artifact.errors import BenchError
from artifact.progress import progress
from serve.latency.plan import Keep, Round, Task, WarmUp, WarmUpLimits, Workload
from serve.latency.turns import none, take_turns
from serve.latency.worker import Farewell, Measurable, Opened, Setup

SECONDS_TO_EXIT = 5.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ORT_INTRA_OP_NUM_THREADS")
WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Set by our own command for training; a contestant runs with its library's default."""
WORKER = "import sys; from serve.latency.worker import main; main(int(sys.argv[1]))"
"""Not `-m serve.latency.worker`: messages must be of the classes we import, not of their doubles in `__main__`."""

Answer = TypeVar("Answer", Opened, Round, Farewell)


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


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All about one contestant, samples raw."""

    name: str
    rounds: tuple[Round, ...]
    warm_up: WarmUp
    ready_seconds: float
    """From the start of its process until its engine was open."""
    threads: int
    """Read back from the engine."""
    size_bytes: int
    peak_memory_bytes: int
    """Of its process, at the end."""


Lose = Callable[[str, BenchError], None]
"""Told of a contestant that cannot be measured; what it does not raise is borne, and the others go on."""


def bear_none(_name: str, error: BenchError) -> None:
    """No contestant may be lost."""
    raise error


def measure(
    contestants: Sequence[Contestant],
    workload: Workload,
    *,
    keep: Keep = lambda _name, _round: None,
    limits: WarmUpLimits | None = None,
    more: Callable[[Mapping[str, Sequence[Round]]], int] = none,
    lose: Lose = bear_none,
) -> list[Measured]:
    """Open and warm up every contestant, let them take turns, and return what each did, in the order given.

    `keep` sees each turn's samples at once; `more` says how many further rounds there are, as in `serve.latency.turns`,
    and all stay open until it says 0. `lose` hears of a contestant that died, with its last error, or that does not run
    on the threads it was given; by default that `BenchError` is raised, else the contestant is missing in what is
    returned.
    """
    longest = {contestant.name: contestant.max_tokens for contestant in contestants}

    def turn(name: str, task: Task) -> Round | None:
        try:
            return opened[name][0].ask(task.within(longest[name]), Round)
        except BenchError as error:
            lose(name, error)
            return None

    with contextlib.ExitStack() as stack:
        opened = _open_all(stack, contestants, workload.task(0), limits or WarmUpLimits(), lose)
        rounds = take_turns(list(opened), workload, turn, keep, "in process", more=more, join=Round.join)
        return [_finish(name, *opened[name], rounds[name]) for name in opened if name in rounds]


def last_error(log: str) -> str:
    """The message that ends a log: its last line that is not indented, with the indented lines below it."""
    lines = [line for line in log.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if not line[0].isspace()]
    return "\n".join(lines[starts[-1] if starts else 0 :][:5])


def child_environment(threads: int) -> dict[str, str]:
    """The environment of a child: ours, with every thread pool held to `threads` and the import path handed on."""
    ours = {name: value for name, value in os.environ.items() if name not in WAITING_VARIABLES}
    return ours | thread_environment(threads) | {"PYTHONPATH": os.pathsep.join(sys.path)}


def thread_environment(threads: int) -> dict[str, str]:
    """What holds every thread pool to `threads`.

    How OpenMP's threads wait is left to its default, which is how people run PyTorch: on idle cores it answers a text
    in 4.8 ms, and in 11.6 ms when its threads must not spin. Beside a busy neighbour the default is far slower; the
    load average of a run is in its facts, and a busy machine is announced.
    """
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}


def _finish(name: str, worker: "_Worker", said: Opened, rounds: tuple[Round, ...]) -> Measured:
    return Measured(
        name=name,
        rounds=rounds,
        warm_up=said.warm_up,
        ready_seconds=said.ready_seconds,
        threads=said.threads,
        size_bytes=said.size_bytes,
        peak_memory_bytes=worker.ask(None, Farewell).peak_memory_bytes,
    )


class _Worker:
    """The parent's end of one contestant; the process starts with it."""

    def __init__(self, contestant: Contestant, log: IO[bytes]) -> None:
        self._name, self._log = contestant.name, log
        self._pipe, theirs = Pipe()
        with theirs:
            self.started_ns = time.perf_counter_ns()
            self._process = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(theirs.fileno())],
                env=child_environment(contestant.threads),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def ask(self, question: Setup | Task | None, kind: type[Answer]) -> Answer:
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


def _open_all(
    stack: contextlib.ExitStack,
    contestants: Sequence[Contestant],
    task: Task,
    limits: WarmUpLimits,
    lose: Lose,
) -> dict[str, tuple[_Worker, Opened]]:
    """One after the other, so that the time each takes to be ready is its own."""
    opened = {}
    with progress("open and warm up", total=len(contestants)) as advance:
        for contestant in contestants:
            worker = stack.enter_context(_running(contestant))
            own = task.within(contestant.max_tokens)
            setup = Setup(factory=contestant.factory, task=own, limits=limits, started_ns=worker.started_ns)
            try:
                opened[contestant.name] = worker, _check_threads(contestant, worker.ask(setup, Opened))
            except BenchError as error:
                lose(contestant.name, error)
            advance(1, contestant.name)
    return opened


def _check_threads(contestant: Contestant, said: Opened) -> Opened:
    if said.threads != contestant.threads:
        given = f"{contestant.name} was given {contestant.threads} threads and says that it runs on {said.threads}"
        raise BenchError(given, "rows on unequal threads cannot be compared; set bench.threads to what it takes")
    return said


@contextlib.contextmanager
def _running(contestant: Contestant) -> Iterator[_Worker]:
    with tempfile.TemporaryFile() as log:
        worker = _Worker(contestant, log)
        try:
            yield worker
        finally:
            worker.stop()
