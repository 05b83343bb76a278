"""How soon an int8 bundle is served, and in how much memory."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serve.contestants import ROOT, name_alone
from benchmarks.serve.texts import Sized
from serve.bundle import open_bundle, size_of
from serve.latency.contestant import child_environment
from serve.latency.memory import peak_memory_bytes
from serve.latency.server import Server, Service, free_port, running
from serve.load.client import Address, dial, make_request
from serve.load.loops import closed_loop


def measure_footprint(
    bundle: Path, texts: Sequence[Sized], *, precision: str, starts: int, threads: int, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Seconds from start to ready of each start, and, under load, the peak memory of each process."""
    ready, peaks = [], []
    requests = [make_request("/embed", {"inputs": one.text}) for one in texts]
    for _ in range(starts):
        port = free_port()
        command = [sys.executable, "-m", "serve", name_alone(bundle, precision), "--port", str(port), *options]
        service = Service(name="ours", argv=command, environment=child_environment(threads), port=port, directory=ROOT)
        with running(service) as server:
            asyncio.run(_load(port, requests))
            ready.append(server.ready_seconds)
            peaks.append(sorted(_peaks(server), reverse=True))
    _, graph = open_bundle(bundle).graph(precision)
    return {"precision": precision, "ready_seconds": ready, "peak_bytes": peaks, "weights_bytes": size_of(graph)}


async def _load(port: int, requests: Sequence[bytes]) -> None:
    async with dial(Address(port), 32) as lines:
        await closed_loop(lines, requests)


def _peaks(server: Server) -> list[int]:
    return [peak_memory_bytes(pid) for pid in (server.process.pid, *(each.pid for each in server.family))]
