"""What our loop adds to a call: the same calls in it and in a bare `for`, in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artifact.progress import progress
from serve.latency.timing import time_calls

BUSY_MS = 1.0


class Empty:
    """An engine that answers nothing."""

    def run(self, texts: Sequence[str], /) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Busy:
    """An engine that computes for a known time by the clock."""

    ms: float = BUSY_MS
    clock_ns: Callable[[], int] = time.perf_counter_ns

    def run(self, _texts: Sequence[str], /) -> None:
        """Spin until the time is over."""
        until = self.clock_ns() + int(1e6 * self.ms)
        while self.clock_ns() < until:
            pass


Engine = Empty | Busy
Block = Callable[[Engine, Sequence[str]], object]


def ours(engine: Engine, texts: Sequence[str]) -> tuple[float, ...]:
    """As a contestant's process measures (`serve.latency.worker.work`)."""
    return time_calls(lambda text: engine.run([text]), texts)


def bare(engine: Engine, texts: Sequence[str]) -> None:
    """The calls and nothing else."""
    for text in texts:
        engine.run([text])


BLOCKS: Mapping[str, Block] = {"ours": ours, "bare": bare}


def measure_overhead(rounds: int, empty_calls: int = 20_000, busy_calls: int = 50) -> dict[str, Any]:
    """Milliseconds a call of whole blocks, by engine, loop and round; and what our loop said of the busy calls."""
    cases: dict[str, tuple[Engine, int]] = {"empty": (Empty(), empty_calls), "busy": (Busy(), busy_calls)}
    ms: dict[str, dict[str, list[float]]] = {case: {name: [] for name in BLOCKS} for case in cases}
    random = np.random.default_rng(1)
    said: list[float] = []
    with progress("overhead", total=rounds) as advance:
        for _ in range(rounds):
            for case, (engine, calls) in cases.items():
                texts = ("text",) * calls
                for name in random.permutation(list(BLOCKS)):
                    begun = time.perf_counter_ns()
                    samples = BLOCKS[name](engine, texts)
                    ms[case][name].append((time.perf_counter_ns() - begun) / 1e6 / calls)
                    if case == "busy" and isinstance(samples, tuple):
                        said += samples
            advance(1, "")
    return {"busy_ms": BUSY_MS, "calls": {"empty": empty_calls, "busy": busy_calls}, "ms_per_call": ms,
            "busy_said_ms": [round(sample, 5) for sample in said]}  # fmt: skip
