"""What a measurement is made of: on which texts, in which order, until when it is warm; and the records that come out.

Every contestant gets the same texts in the same order, so rounds can be compared pair by pair. Nothing here looks at
a clock of its own accord or starts a process.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import cycle, pairwise
from typing import TypeAlias, TypeVar

import numpy as np

Input = TypeVar("Input")
"""A text, or a request made from it."""

Asked: TypeAlias = str | tuple[str, ...]
"""What one call is about: a text, a pair of texts, or a query followed by the texts to put in order."""


SETTLE_MS = 10.0
"""Of a turn, by default: who was idle while others had theirs is slow at first (`docs/results/latency.md` holds the
curve)."""
SETTLE_CALLS, SETTLE_TIMES = 8, 6
"""At least so many calls, which bring weights back into caches, unless they take so many times `settle_ms`."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The texts of a measurement and how they are dealt out to rounds."""

    texts: tuple[Asked, ...]
    """What is measured, in the order of use; rounds walk through it in a circle."""
    rounds: int
    """Rounds in which every contestant takes one turn."""
    calls_per_round: int
    """Single texts of one round, each timed alone."""
    parts: int = 1
    """In so many parts each contestant answers them, all in turns, part by part: how fast a machine is changes from one
    tenth of a second to the next, and a call should be compared with one that was not long ago."""
    settle_ms: float = SETTLE_MS
    """Of each turn, in which nothing is timed (`settle`): others had the caches and the cores before."""
    batch_size: int
    """Texts of one batch."""
    batches_per_round: int = 2
    """Full batches of one turn, timed together; 0 for none."""
    streams: int = 8
    """Texts of one query."""
    queries_per_round: int = 0
    """Queries of one turn, each timed alone."""
    by_length: Mapping[int, tuple[Asked, ...]] = field(default_factory=dict)
    """Texts of fixed lengths, by tokens."""
    calls_per_length: int = 0
    """Single texts of each of these lengths in one turn, each timed alone."""
    seed: int = 1
    """Of the order of the turns."""

    def order(self, names: Sequence[str], index: int, part: int = 0) -> list[str]:
        """`names` in the random order of a part of round `index`; the same for the same seed."""
        seed = [self.seed, index, *([part] if part else [])]
        return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]

    def tasks(self, index: int) -> tuple["Task", ...]:
        """The parts of round `index`: its single texts in runs, as even as can be; all else is in the last."""
        whole = self.task(index)
        parts = max(1, min(self.parts, len(whole.singles)))  # none is without a text
        cuts = [len(whole.singles) * part // parts for part in range(parts + 1)]
        *before, last = (whole.singles[begin:end] for begin, end in pairwise(cuts))
        alone = Task(index=index, singles=(), batches=(), settle_ms=self.settle_ms)
        runs = *(replace(alone, singles=singles) for singles in before), replace(whole, singles=last)
        return tuple(replace(run, hand=index * parts + part) for part, run in enumerate(runs))

    def task(self, index: int) -> "Task":
        """What every contestant does in round `index`.

        Rounds beyond those asked for are there to decide gates, which are on single texts and batches: no more of
        the rest.
        """
        asked_for = index < self.rounds
        return Task(
            index=index,
            settle_ms=self.settle_ms,
            singles=_deal(self.texts, index, self.calls_per_round),
            batches=self._groups(index, self.batches_per_round, self.batch_size),
            queries=self._groups(index, self.queries_per_round if asked_for else 0, self.streams),
            by_length={
                tokens: _deal(texts, index, self.calls_per_length)
                for tokens, texts in self.by_length.items()
                if asked_for and self.calls_per_length
            },
        )

    def _groups(self, index: int, count: int, size: int) -> tuple[tuple[Asked, ...], ...]:
        return tuple(_deal(self.texts, index * count + number, size) for number in range(count))


def _deal(texts: Sequence[Asked], hand: int, count: int) -> tuple[Asked, ...]:
    """The next `count` texts after `hand` such hands, in a circle."""
    return tuple(texts[(hand * count + offset) % len(texts)] for offset in range(count))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One turn's work."""

    index: int
    settle_ms: float = SETTLE_MS
    """At its start, untimed."""
    hand: int = 0
    """Which turn of the measurement it is: all contestants begin it on the same cores (`serve.latency.placement`)."""
    singles: tuple[Asked, ...]
    batches: tuple[tuple[Asked, ...], ...]
    queries: tuple[tuple[Asked, ...], ...] = ()
    by_length: Mapping[int, tuple[Asked, ...]] = field(default_factory=dict)

    def within(self, max_tokens: int | None) -> "Task":
        """The same without the lengths that a model of `max_tokens` would cut; all of it for None."""
        kept = {tokens: texts for tokens, texts in self.by_length.items() if max_tokens is None or tokens <= max_tokens}
        return replace(self, by_length=kept)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Raw samples of one turn of one contestant."""

    index: int
    """Of the round, from 0."""
    begun_ns: int
    """`time.perf_counter_ns` before the first call; on Linux one clock for all processes."""
    ended_ns: int
    single_ms: tuple[float, ...]
    """Latency of each single text, in the order of the task."""
    batch_texts: int
    batch_seconds: float
    """Time that `batch_texts` texts took together."""
    multi_ms: tuple[float, ...] = ()
    """Latency of each query."""
    by_length_ms: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Latency of each single text of a fixed length, by tokens."""

    @classmethod
    def join(cls, parts: "Sequence[Round]") -> "Round":
        """One round of its parts, in order; what is measured once stands in the last."""
        singles = tuple(ms for part in parts for ms in part.single_ms)
        return replace(parts[-1], begun_ns=parts[0].begun_ns, single_ms=singles)

    @property
    def texts_per_second(self) -> float:
        """Throughput of the turn's batches, of which there must be some."""
        return self.batch_texts / self.batch_seconds


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """How a contestant got warm, or that it did not."""

    flat: bool
    """Whether the last blocks agreed before the limits were reached."""
    calls: int
    seconds: float
    first_ms: float
    """Latency of the very first call."""


@dataclass(frozen=True, kw_only=True)
class WarmUpLimits:
    """When a contestant counts as warm, and when waiting for that ends."""

    tolerance: float = 0.03
    """Largest spread of the medians of consecutive blocks, relative to the smallest."""
    blocks: int = 3
    """Consecutive blocks that must agree."""
    calls_per_block: int = 16
    """Single texts of one block, the same ones in every block."""
    max_calls: int = 800
    max_seconds: float = 3.0


Keep = Callable[[str, Round], None]
"""Told of each contestant's turn as soon as it is over."""


def is_flat(medians_ms: Sequence[float], limits: WarmUpLimits) -> bool:
    """Whether the last `limits.blocks` block medians agree within `limits.tolerance`."""
    last = medians_ms[-limits.blocks :]
    return len(last) == limits.blocks and max(last) - min(last) <= limits.tolerance * min(last)


def warm_up(call: Callable[[Input], object], inputs: Sequence[Input], limits: WarmUpLimits) -> WarmUp:
    """Call with blocks of the same first `inputs` until their medians are flat, or a limit is reached."""
    begun = time.perf_counter()
    block = inputs[: limits.calls_per_block]
    medians: list[float] = []
    first_ms = None
    while not is_flat(medians, limits):
        seconds, calls = time.perf_counter() - begun, len(medians) * len(block)
        if medians and (seconds >= limits.max_seconds or calls + len(block) > limits.max_calls):
            break
        latencies = time_calls(call, block)
        first_ms = latencies[0] if first_ms is None else first_ms
        medians.append(statistics.median(latencies))
    return WarmUp(
        flat=is_flat(medians, limits),
        calls=len(medians) * len(block),
        seconds=time.perf_counter() - begun,
        first_ms=first_ms or 0.0,
    )


def time_calls(call: Callable[[Input], object], inputs: Sequence[Input]) -> tuple[float, ...]:
    """Latency in milliseconds of `call` with each input, one after the other."""
    latencies = []
    for one in inputs:
        begun = time.perf_counter_ns()
        call(one)
        latencies.append((time.perf_counter_ns() - begun) / 1e6)
    return tuple(latencies)


def settle(
    call: Callable[[Input], object],
    inputs: Sequence[Input],
    milliseconds: float,
    first: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it holds nothing
) -> None:
    """Call with `inputs` in a circle until `is_settled`, once at least, for nothing: others had the caches and cores.

    The first call is inside the context `first`.
    """
    begun, rest, calls = time.perf_counter_ns(), cycle(inputs), 1
    with first:
        call(next(rest))
    while not is_settled(calls, (time.perf_counter_ns() - begun) / 1e6, milliseconds):
        call(next(rest))
        calls += 1


def is_settled(calls: int, spent_ms: float, settle_ms: float) -> bool:
    """Whether a turn of so many calls and milliseconds has settled, where `settle_ms` are asked for."""
    return spent_ms >= settle_ms * (1 if calls >= SETTLE_CALLS else SETTLE_TIMES)


def time_after(call: Callable[[Input], object], inputs: Sequence[Input], untimed: int) -> tuple[float, ...]:
    """As `time_calls`, after the first `untimed` inputs once for nothing: their shape is another than before."""
    for one in inputs[:untimed]:
        call(one)
    return time_calls(call, inputs)
