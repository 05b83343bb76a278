"""An engine that is slower by a known share, for a regression that nobody can argue about."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.latency.worker import Measurable
from serve.runtime import Runtime


@dataclass(frozen=True)
class Slowed:
    """After each call it spins for `share` of the time that the call took."""

    engine: Measurable
    share: float
    clock_ns: Callable[[], int] = time.perf_counter_ns

    @property
    def threads(self) -> int:
        """Of the engine."""
        return self.engine.threads

    @property
    def size_bytes(self) -> int:
        """Of the engine."""
        return self.engine.size_bytes

    def run(self, texts: Sequence[str], /) -> object:
        """The engine's answers, late."""
        begun = self.clock_ns()
        answers = self.engine.run(texts)
        ended = self.clock_ns()
        until = ended + self.share * (ended - begun)
        while self.clock_ns() < until:
            pass
        return answers


def open_slowed(bundle: Path, precision: str, threads: int, share: float) -> Slowed:
    """The serving runtime, slowed; a `functools.partial` of this can be pickled."""
    return Slowed(Runtime.open(bundle, precision, threads=threads), share)
