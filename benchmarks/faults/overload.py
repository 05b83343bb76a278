"""More than can be answered: what is accepted stays quick, the rest is told so at once, and then it is over."""

import asyncio
import time
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.faults.service import OK, Setup, make_asking, measure_capacity, serving
from benchmarks.serve.texts import Sized
from serve.latency.server import Server
from serve.load.client import Address, ask_once, dial, make_request
from serve.load.loops import Arrived, closed_loop, open_loop, poisson_schedule

REFUSED = 429
PROBE_SECONDS = 10.0
PROBE_PAUSE_SECONDS = 0.02


def overload(setup: Setup, *, factor: float = 4, seconds: float = 60, texts: int = 1000) -> dict[str, Any]:
    """`factor` times the capacity for so long, in an open loop of single texts; raw milliseconds."""
    with serving(setup) as server:
        return asyncio.run(_overload(setup, server, setup.texts(texts), factor, seconds))


async def _overload(setup: Setup, server: Server, texts: list[Sized], factor: float, seconds: float) -> dict[str, Any]:
    port = server.service.port
    requests = [make_asking(one.text, setup) for one in texts]
    capacity = await measure_capacity(port, requests)
    batch_tokens = int(server.read_json("/info")["max_batch_tokens"])
    batches = [make_asking([one.text for one in batch], setup) for batch in fill_batches(texts, batch_tokens)]
    async with dial(Address(port), 1) as lines:
        alone = (await closed_loop(lines, requests[:200])).replies
        full = (await closed_loop(lines, (batches * 40)[:40])).replies
    schedule = poisson_schedule(factor * capacity, seconds, seed=3)
    begun, cpu = time.monotonic(), time.process_time()
    probes = asyncio.create_task(_probe(port, requests[:50], begun + seconds))
    arrived = (await open_loop(Address(port), requests, schedule)).arrived
    share = (time.process_time() - cpu) / (time.monotonic() - begun)
    return {
        "capacity": capacity,
        "factor": factor,
        "seconds": seconds,
        "batch_tokens": batch_tokens,
        "alone_ms": [round(reply.milliseconds, 3) for reply in alone],
        "batch_ms": [round(reply.milliseconds, 3) for reply in full],
        **sort_out(arrived),
        "probes": await probes,
        "client_cpu_share": round(share, 3),
    }


def fill_batches(texts: list[Sized], batch_tokens: int, most: int = 128) -> list[list[Sized]]:
    """Texts in their order, cut where the next would exceed so many tokens."""
    batches: list[list[Sized]] = [[]]
    for one in texts:
        if batches[-1] and (sum(each.tokens for each in batches[-1]) + one.tokens > batch_tokens
                            or len(batches[-1]) == most):  # fmt: skip
            batches.append([])
        batches[-1].append(one)
    return batches[:-1] or batches


def sort_out(arrived: list[Arrived]) -> dict[str, Any]:
    """Milliseconds of those accepted, from the scheduled time, and of those refused, from sending; how many of each."""
    refused = [each.reply for each in arrived if each.reply.status == REFUSED]
    return {
        "accepted_ms": [round(each.milliseconds, 2) for each in arrived if each.reply.status == OK],
        "refused_ms": [round(reply.milliseconds, 2) for reply in refused],
        "without_retry_after": sum(reply.header("retry-after") is None for reply in refused),
        "statuses": dict(Counter(str(each.reply.status) for each in arrived)),
    }


async def _probe(port: int, requests: list[bytes], after: float) -> list[tuple[float, int, float]]:
    """One text after another from the end of the load: seconds since, status, milliseconds."""
    found = []
    await asyncio.sleep(max(0.0, after - time.monotonic()))
    begun, number = time.monotonic(), 0
    while time.monotonic() - begun < PROBE_SECONDS:
        reply = await ask_once(Address(port), requests[number % len(requests)])
        found.append((round(reply.sent - begun, 4), reply.status, round(reply.milliseconds, 2)))
        number += 1
        await asyncio.sleep(PROBE_PAUSE_SECONDS)
    return found


def seconds_to_normal(found: dict[str, Any]) -> float:
    """From the end of the load until the last text that was refused, or took over twice the slowest one before it."""
    normal_ms = 2 * float(np.max(found["alone_ms"]))
    bad = [at + ms / 1e3 for at, status, ms in found["probes"] if status != OK or ms > normal_ms]
    return max(bad, default=0.0)


def healthy(port: int) -> bool:
    """Whether it says that it is ready."""
    return asyncio.run(ask_once(Address(port), make_request("/health", b"", method="GET"))).status == OK
