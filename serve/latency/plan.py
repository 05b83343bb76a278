"""What a measurement is made of: on which texts and in which order; and the records that come out.

Every contestant gets the same texts in the same order, so rounds can be compared pair by pair. Nothing here looks at
a clock or starts a process.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from serve.latency.timing import SETTLE_MS

Asked: TypeAlias = str | tuple[str, ...]
"""What one call is about: a text, a pair of texts, or a query followed by the texts to put in order."""


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
    openings: int = 2
    """So often all contestants are opened in the rounds asked for, each time in the reverse order of the last: a
    process keeps the memory that it happened to get, and who is opened early is slower (`docs/log.md`, 2026-11-30).
    As often again whenever the rounds have doubled."""
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

    def opening(self, index: int) -> int:
        """In which of them round `index` is, from 0.

        To open costs as much as some rounds, so further ones are stretches as long as all before them together.
        """
        stretch = (index // self.rounds).bit_length()
        begin, length = (self.rounds << stretch - 1,) * 2 if stretch else (0, self.rounds)
        return stretch * self.openings + (index - begin) // math.ceil(length / self.openings)

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


Keep = Callable[[str, Round], None]
"""Told of each contestant's turn as soon as it is over."""
