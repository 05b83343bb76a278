"""A random candidate as serving would run it: its memory in a process of its own, its speed in turns with all others.

Runs inside `pipeline.processes`; nothing here may import torch, or the memory measured would be torch's.
"""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from serve.bundle import Bundle, BundleInfo
from serve.engine import Outputs, Tokens
from serve.latency.memory import peak_memory_bytes
from serve.latency.plan import Asked, Round, Task
from serve.latency.timing import settle, time_calls
from serve.latency.worker import work
from serve.runtime import BATCH_TOKENS, Runtime
from serve.session import open_session, open_tokenizer

OPEN_BYTES = 2_000_000_000
"""Graphs of so many bytes in all stay open while candidates take turns, the smallest first: some 3 GB in memory.
A larger one is opened anew for each of its turns, outside the clock."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """All it takes to open one candidate in one precision."""

    graph: Path
    tokenizer: Path
    """The teacher's `tokenizer.json`."""
    info: BundleInfo
    pieces: int | None
    """Rows of the token table where the tokenizer has more; its ids are then folded into them."""
    threads: int

    @property
    def size_bytes(self) -> int:
        """Weights and graph as stored."""
        return self.graph.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A candidate that answers; satisfies `serve.latency.worker.Measurable`."""

    runtime: Runtime
    pieces: int | None

    @property
    def threads(self) -> int:
        """Intra-op threads, read back from the session."""
        return self.runtime.threads

    @property
    def size_bytes(self) -> int:
        """Weights and graph as stored."""
        return self.runtime.size_bytes

    def run(self, texts: Sequence[Any]) -> Outputs:
        """Answers to `texts`, of the time and memory that a trained model of this shape would take, and no meaning."""
        tokens = self.runtime.tokenize(texts)
        return self.runtime.infer(tokens if self.pieces is None else fold(tokens, self.pieces))


@dataclass(frozen=True)
class _Folded:
    """As much of an encoding as the runtime reads."""

    ids: Sequence[int]
    type_ids: Sequence[int]

    def __len__(self) -> int:
        return len(self.ids)


def fold(tokens: Tokens, pieces: int) -> Tokens:
    """The same texts with every id below `pieces`: as many tokens, other ones."""
    folded = [_Folded([i % pieces for i in e.ids], e.type_ids) for e in tokens.encodings]
    return replace(tokens, encodings=folded)


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """The same small work, done again and again: what it takes says how fast the machine is just now."""

    opening: Opening
    task: Task


@dataclass(frozen=True, kw_only=True)
class PacedRound:
    """Samples of one turn, and how fast the machine was meanwhile."""

    round: Round
    yardstick_ms: float
    """Median latency of the yardstick before the turn or after it, whichever was slower."""


def open_engine(opening: Opening) -> Engine:
    """The candidate, opened with the session options of serving; one tokenizer serves all of a process."""
    info = opening.info
    runtime = Runtime(
        name=info.name,
        bundle=Bundle(directory=opening.graph.parent, info=info, digest=""),
        size_bytes=opening.size_bytes,
        batch_tokens=BATCH_TOKENS,
        session=open_session(opening.graph, info, opening.threads),
        tokenizer=_tokenizer(opening.tokenizer, info.max_tokens),
    )
    return Engine(runtime=runtime, pieces=opening.pieces)


def measure_memory(opening: Opening, task: Task) -> int:
    """Peak resident bytes of this process after one turn; meant for a process that does nothing else."""
    work(open_engine(opening), task)
    return peak_memory_bytes(os.getpid())


def take_turn(opening: Opening, task: Task, *, stays: bool) -> Round:
    """One turn's samples; the engine is opened first where it is not open yet, and kept open where it `stays`."""
    return work(_warm(opening, task, stays=stays), task)


def take_paced_turn(opening: Opening, task: Task, yardstick: Yardstick, *, stays: bool) -> PacedRound:
    """One turn's samples between two looks at the `yardstick`."""
    engine = _warm(opening, task, stays=stays)
    before = _time(yardstick)
    taken = work(engine, task)
    return PacedRound(round=taken, yardstick_ms=max(before, _time(yardstick)))


def _warm(opening: Opening, task: Task, *, stays: bool) -> Engine:
    """The engine, opened and warmed up unless it is open already."""
    if opening.graph in _OPEN:
        return _OPEN[opening.graph]
    engine = open_engine(opening)
    settle(lambda text: engine.run([text]), task.singles, task.settle_ms)
    engine.run(task.batches[0])  # the allocator grows here, not while the clock runs
    if stays:
        _OPEN[opening.graph] = engine
    return engine


def _time(yardstick: Yardstick) -> float:
    """Milliseconds of a text at the median."""
    engine = _warm(yardstick.opening, yardstick.task, stays=True)

    def single(text: Asked) -> object:
        return engine.run([text])

    settle(single, yardstick.task.singles, yardstick.task.settle_ms)
    return statistics.median(time_calls(single, yardstick.task.singles))


def staying(sizes: Mapping[str, int], limit_bytes: int = OPEN_BYTES) -> frozenset[str]:
    """Names that may stay open together: the smallest first, while they are at most `limit_bytes` in all."""
    total, names = 0, set()
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        total += size
        if total <= limit_bytes:
            names.add(name)
    return frozenset(names)


_OPEN: dict[Path, Engine] = {}
"""Engines of this process. A process pool hands its workers functions, not objects: what they keep lives here."""


@cache
def _tokenizer(path: Path, max_tokens: int) -> Any:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return open_tokenizer(path, max_tokens)
