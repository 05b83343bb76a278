"""The process of one contestant: opens an engine, then works when told to over a pipe, and blocks in between.

Started by `serve.latency.in_process`, never by hand. The environment (threads) is set by the parent, before Python
starts. Errors are not caught: the parent reads the last one from this process's stderr.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from serve.latency.memory import peak_memory_bytes
from serve.latency.placement import dealt
from serve.latency.plan import Asked, Round, Task
from serve.latency.timing import WarmUp, WarmUpLimits, settle, time_after, time_calls, warm_up


class Measurable(Protocol):
    """The part of an engine that a measurement needs; `serve.runtime.Runtime` has it."""

    @property
    def threads(self) -> int:
        """Intra-op threads, read back from the runtime."""

    @property
    def size_bytes(self) -> int:
        """Weights and graph as stored."""

    def run(self, texts: Sequence[Any], /) -> object:
        """The answers to `texts`, as one batch: of whatever kind the workload's are."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The first message to a worker."""

    factory: Callable[[], Measurable]
    started_ns: int
    """`time.perf_counter_ns` of the parent when it started this process."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A worker's answer to its setup: what it read back from the engine."""

    threads: int
    size_bytes: int
    ready_seconds: float
    """From the start of the process until the engine was open, imports and all."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The second message, for a worker that has the machine to itself; its answer is a `WarmUp`."""

    task: Task
    """What to warm up with."""
    limits: WarmUpLimits


@dataclass(frozen=True, kw_only=True)
class Farewell:
    """A worker's answer to `None`, the last message."""

    peak_memory_bytes: int


def work(engine: Measurable, task: Task) -> Round:
    """One turn: it settles, on cores that are dealt anew; then come the task's single texts one by one, its queries,
    its lengths, its batches.
    """

    def single(text: Asked) -> object:
        return engine.run([text])

    settle(single, task.singles, task.settle_ms, first=dealt(task.hand))
    begun = time.perf_counter_ns()
    single_ms = time_calls(single, task.singles)
    multi_ms = time_after(engine.run, task.queries, 1)
    by_length_ms = {tokens: time_after(single, texts, 1) for tokens, texts in task.by_length.items()}
    batches_begun = time.perf_counter_ns()
    for batch in task.batches:
        engine.run(batch)
    ended = time.perf_counter_ns()
    return Round(
        index=task.index,
        begun_ns=begun,
        ended_ns=ended,
        single_ms=single_ms,
        multi_ms=multi_ms,
        by_length_ms=by_length_ms,
        batch_texts=sum(len(batch) for batch in task.batches),
        batch_seconds=(ended - batches_begun) / 1e9,
    )


def main(descriptor: int) -> None:
    """Serve the parent at the other end of the pipe `descriptor` until it is done, or gone."""
    with Connection(descriptor) as pipe:
        answer_messages(pipe)


def answer_messages(pipe: Connection) -> None:
    """Open what the setup says, warm up, then answer each task with a round, and `None` with a farewell."""
    setup: Setup = pipe.recv()
    engine = setup.factory()
    seconds = (time.perf_counter_ns() - setup.started_ns) / 1e9
    pipe.send(Opened(threads=engine.threads, size_bytes=engine.size_bytes, ready_seconds=seconds))
    with contextlib.suppress(EOFError):  # the parent is gone: nobody is left to work for
        pipe.send(prepare(engine, pipe.recv()))
        while (task := pipe.recv()) is not None:
            pipe.send(work(engine, task))
        pipe.send(Farewell(peak_memory_bytes=peak_memory_bytes(os.getpid())))


def prepare(engine: Measurable, preparation: Preparation) -> WarmUp:
    """Single texts until they take the same time; then every other shape once, so that the allocator has grown."""
    task = preparation.task
    warmed = warm_up(lambda text: engine.run([text]), task.singles, preparation.limits)
    for texts in (*task.batches[:1], *task.queries[:1], *(texts[:1] for texts in task.by_length.values())):
        engine.run(texts)
    return warmed
