"""Latency in process: contestants, each in a process of its own, take turns in random order on the same texts.

    contestant = Contestant(name="student/int8", factory=partial(Runtime.open, bundle, "int8", threads=2), threads=2)
    for row in measure([contestant, ...], workload, keep=save): ...

Once all are open, only one contestant works at any time; the others block on their pipes. A process of its own gives
each its thread pools, allocator and peak memory, and interleaving gives each the same share of whatever else the
machine does. What a process happens to get, such as where its memory lies, is drawn anew with new processes, in the
other order.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from artifact.errors import BenchError
from artifact.progress import Advance, progress
from serve.latency.contestant import Contestant, Worker, check_threads, running
from serve.latency.plan import Keep, Round, Task, Workload
from serve.latency.timing import WarmUp, WarmUpLimits
from serve.latency.turns import none, take_turns
from serve.latency.worker import Farewell, Opened, Preparation, Setup
from serve.threads import available_cores


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All about one contestant, samples raw."""

    name: str
    rounds: tuple[Round, ...]
    warm_up: WarmUp
    ready_seconds: float
    """From the start of its first process until its engine was open, while others were being opened."""
    threads: int
    """Read back from the engine."""
    size_bytes: int
    peak_memory_bytes: int
    """Of its processes, each at its end, the largest."""


Said = TypeVar("Said")

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

    `keep` sees each turn's samples at once; `more` says how many further rounds there are, as in `serve.latency.turns`.
    All are opened anew as the workload says (`Workload.openings`). `lose` hears of a contestant that died, with its
    last error, or that does not run on the threads it was given; by default that `BenchError` is raised, else the
    contestant is missing in what is returned.
    """
    crew = _Crew(contestants, workload.task(0), limits or WarmUpLimits(), lose)

    def turn(name: str, task: Task) -> Round | None:
        crew.open(workload.opening(task.index))
        return crew.ask(name, task)

    with crew.processes:
        with progress("open and warm up", total=2 * len(contestants)) as advance:
            crew.open(0, advance)
        rounds = take_turns(crew.names, workload, turn, keep, "in process", more=more, join=Round.join)
        crew.close()
    return [_measured(name, crew, rounds[name]) for name in crew.names if name in rounds]


def _measured(name: str, crew: "_Crew", rounds: tuple[Round, ...]) -> Measured:
    said = crew.said[name]
    return Measured(
        name=name,
        rounds=rounds,
        warm_up=crew.warm_ups[name],
        ready_seconds=said.ready_seconds,
        threads=said.threads,
        size_bytes=said.size_bytes,
        peak_memory_bytes=crew.peak_memory_bytes[name],
    )


class _Crew:
    """All contestants that are not lost, opened anew from time to time, in one order and then in the other."""

    def __init__(self, contestants: Sequence[Contestant], task: Task, limits: WarmUpLimits, lose: Lose) -> None:
        self._contestants = {contestant.name: contestant for contestant in contestants}
        self._task, self._limits, self._lose = task, limits, lose
        self._opening = -1
        self._workers: dict[str, Worker] = {}
        self.processes = contextlib.ExitStack()
        """Those that run; at its end they are stopped."""
        self.said: dict[str, Opened] = {}
        """What each said when it was first open."""
        self.warm_ups: dict[str, WarmUp] = {}
        """How each first got warm."""
        self.peak_memory_bytes: dict[str, int] = {}
        """Of those that were closed."""

    @property
    def names(self) -> Sequence[str]:
        """Of those that are not lost, in the order given."""
        return list(self._contestants)

    def open(self, opening: int, advance: Advance = lambda _units, _note: None) -> None:
        """Open all, as many at a time as there are cores, since most of that is Python importing on one; then warm up
        one after the other, each with the machine to itself.

        Without effect where that opening is the last one.
        """
        if opening == self._opening:
            return
        self.close()
        self._opening = opening
        names = self.names if opening % 2 == 0 else self.names[::-1]
        with ThreadPoolExecutor(available_cores()) as pool:
            opened = {name: pool.submit(self._open, self._contestants[name]) for name in names}
            for name in names:
                self._try(name, lambda one: opened[one.name].result())
                advance(1, name)
        for name in names:
            self._try(name, self._warm_up)
            advance(1, name)

    def ask(self, name: str, task: Task) -> Round | None:
        """One turn of a contestant; None where it is lost."""
        return self._try(name, lambda one: self._workers[one.name].ask(task.within(one.max_tokens), Round))

    def close(self) -> None:
        """Take leave of all that are open."""
        for name in list(self._workers):
            self._try(name, self._take_leave)
        self._workers.clear()
        self.processes.close()

    def _try(self, name: str, act: Callable[[Contestant], Said]) -> Said | None:
        """What `act` returns; None where the contestant is lost, before or by it."""
        if name not in self._contestants:
            return None
        try:
            return act(self._contestants[name])
        except BenchError as error:
            del self._contestants[name]
            self._lose(name, error)
            return None

    def _open(self, contestant: Contestant) -> None:
        worker = self.processes.enter_context(running(contestant))
        setup = Setup(factory=contestant.factory, started_ns=worker.started_ns)
        said = check_threads(contestant, worker.ask(setup, Opened))
        self._workers[contestant.name] = worker
        self.said.setdefault(contestant.name, said)

    def _warm_up(self, contestant: Contestant) -> None:
        preparation = Preparation(task=self._task.within(contestant.max_tokens), limits=self._limits)
        warm = self._workers[contestant.name].ask(preparation, WarmUp)
        self.warm_ups.setdefault(contestant.name, warm)

    def _take_leave(self, contestant: Contestant) -> None:
        peak = self._workers[contestant.name].ask(None, Farewell).peak_memory_bytes
        self.peak_memory_bytes[contestant.name] = max(peak, self.peak_memory_bytes.get(contestant.name, 0))
