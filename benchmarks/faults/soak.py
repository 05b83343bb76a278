"""Hours at a steady load: whether it grows, or slows down."""

import asyncio
import time
from typing import Any

import numpy as np

from artifact.progress import progress
from benchmarks.faults.service import OK, Setup, make_asking, measure_capacity, resident_bytes, serving
from serve.latency.server import Server
from serve.load.client import Address
from serve.load.loops import open_loop, poisson_schedule

SHARE = 0.7
"""Of the capacity."""
LOOK_SECONDS = 5.0
SKIPPED = 0.1
"""Share of the run, at its start, that does not count: caches and allocators fill."""


def soak(setup: Setup, *, seconds: float = 3600, window: float = 60, texts: int = 2000) -> dict[str, Any]:
    """An open loop for so long, in windows."""
    with serving(setup) as server:
        return asyncio.run(_soak(setup, server, seconds, window, texts))


async def _soak(setup: Setup, server: Server, seconds: float, window: float, texts: int) -> dict[str, Any]:
    port = server.service.port
    requests = [make_asking(one.text, setup) for one in setup.texts(texts)]
    capacity = await measure_capacity(port, requests)
    begun, stop = time.perf_counter(), asyncio.Event()
    memory: list[tuple[float, int]] = []
    watch = asyncio.create_task(_watch(server, memory, begun, stop))
    windows = []
    count = max(1, round(seconds / window))
    with progress("soak, windows", total=count) as advance:
        for number in range(count):
            at = time.perf_counter() - begun
            schedule = poisson_schedule(SHARE * capacity, window, seed=number)
            turned = requests[number % len(requests) :] + requests[: number % len(requests)]
            arrived = (await open_loop(Address(port), turned, schedule)).arrived
            answered = [each.milliseconds for each in arrived if each.reply.status == OK]
            shares = np.quantile(answered, [0.5, 0.99]) if answered else [float("nan")] * 2
            windows.append(
                {
                    "at_seconds": round(at, 1),
                    "requests": len(arrived),
                    "failures": len(arrived) - len(answered),
                    "p50_ms": round(float(shares[0]), 3),
                    "p99_ms": round(float(shares[1]), 3),
                }
            )
            advance(1, f"p99 {shares[1]:.0f} ms")
    stop.set()
    await watch
    return {"capacity": capacity, "share": SHARE, "window_seconds": window, "windows": windows, "resident": memory}


async def _watch(server: Server, memory: list[tuple[float, int]], begun: float, stop: asyncio.Event) -> None:
    while not stop.is_set():
        memory.append((round(time.perf_counter() - begun, 1), await asyncio.to_thread(resident_bytes, server)))
        with_timeout = asyncio.wait_for(stop.wait(), LOOK_SECONDS)
        await asyncio.gather(with_timeout, return_exceptions=True)


def memory_growth(found: dict[str, Any]) -> float:
    """How much more memory the last tenth of the run held than the tenth after the first, as a share."""
    sizes = np.array([size for _, size in found["resident"]], float)
    tenth = max(1, round(len(sizes) * SKIPPED))
    early = sizes[tenth : 2 * tenth] if len(sizes) >= 2 * tenth + 1 else sizes[:1]
    return float(np.median(sizes[-tenth:]) / np.median(early) - 1)


def tail_drift(found: dict[str, Any]) -> float:
    """Median p99 of the last third of the windows over that of the first third, without the first tenth."""
    tails = [window["p99_ms"] for window in found["windows"]]
    tails = tails[round(len(tails) * SKIPPED) :]
    third = max(1, len(tails) // 3)
    return float(np.median(tails[-third:]) / np.median(tails[:third]))
