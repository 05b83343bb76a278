"""Calls and a clock: until when a contestant is warm, until when its turn has settled, and how long each call takes."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import cycle
from typing import TypeVar

Input = TypeVar("Input")
"""A text, or a request made from it."""

SETTLE_MS = 10.0
"""Of a turn, by default: who was idle while others had theirs is slow at first (`docs/results/latency.md` holds the
curve)."""
SETTLE_CALLS, SETTLE_TIMES = 8, 6
"""At least so many calls, which bring weights back into caches, unless they take so many times `settle_ms`."""


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
