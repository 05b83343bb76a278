"""Our service as the scenarios see it: started, asked, and looked at from outside."""

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from artifact.errors import BenchError
from benchmarks.serve.contestants import ROOT
from benchmarks.serve.texts import Sized, mixed_texts
from serve.latency.contestant import child_environment
from serve.latency.server import Server, Service, free_port, running
from serve.load.client import BROKEN, Address, Line, Reply, ask_once, connect, dial, make_request
from serve.load.loops import closed_loop
from serve.load.texts import LONGEST_TOKENS

OK = 200
TOLERANCE = 1e-4
"""Largest difference of any number of an answer from the same text's answer without load."""
PAUSE_SECONDS = 0.01
"""Between a connection that broke and the next."""
CAPACITY_REQUESTS = 800
"""Asked to measure a capacity."""
RUNTIME = "onnxruntime"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What to serve, and how."""

    bundle: Path
    precision: str = "float32"
    """The default; an answer of float32 does not depend on whose company its text was in."""
    options: Sequence[str] = ()
    """More options of `python -m serve`."""
    threads: int = 2

    @property
    def about(self) -> dict[str, Any]:
        """The bundle's `understudy.json`."""
        found: dict[str, Any] = json.loads((self.bundle / "understudy.json").read_text(encoding="utf-8"))
        return found

    def texts(self, count: int, seed: int = 11) -> list[Sized]:
        """So many of mixed lengths, as long as the model takes."""
        return mixed_texts(self.bundle, count, seed, min(LONGEST_TOKENS, self.about["max_tokens"]))


@contextlib.contextmanager
def serving(setup: Setup, bundle: Path | None = None, *, more: Sequence[str] = ()) -> Iterator[Server]:
    """The service of one bundle, ready; ended on the way out."""
    port, name = free_port(), setup.about["name"]
    directory = (bundle or setup.bundle).resolve()
    command = [sys.executable, "-m", "serve", f"{name}={directory}", "--default", f"{name}/{setup.precision}"]
    service = Service(
        name="ours",
        argv=[*command, "--port", str(port), *setup.options, *more],
        environment=child_environment(setup.threads),
        port=port,
        directory=ROOT,
    )
    with running(service) as server:
        yield server


def family_of(server: Server) -> list[psutil.Process]:
    """The process we started and all below it, as they are now."""
    try:
        main = psutil.Process(server.process.pid)
        return [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def workers_of(server: Server) -> list[int]:
    """Ids of the processes that answer: those with ONNX Runtime loaded that supervise no other such process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        loaded = [process for process in family_of(server)[1:] if _has_runtime(process.pid)]
        supervisors = {parent.pid for process in loaded for parent in process.parents()}
        return sorted({process.pid for process in loaded} - supervisors)
    return []


def resident_bytes(server: Server) -> int:
    """Memory of all its processes together, now."""
    found = 0
    for process in family_of(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.memory_info().rss
    return found


def ask_body(text: str | Sequence[str], setup: Setup) -> Any:
    """The body of `POST /predict` or `/embed` for a text or a batch."""
    if isinstance(text, str):
        return {"inputs": text}
    return {"inputs": list(text) if _is_embedding(setup) else [[one] for one in text]}


def make_asking(text: str | Sequence[str], setup: Setup, headers: Mapping[str, str] | None = None) -> bytes:
    """The request for the answer to a text, or to a batch."""
    return make_request("/embed" if _is_embedding(setup) else "/predict", ask_body(text, setup), headers)


def read_numbers(body: bytes) -> NDArray[np.float64]:
    """The numbers of an answer, one row a text: an embedding, or the scores of the labels in the labels' order."""
    tree = json.loads(body)
    if tree and isinstance(tree[0], dict):
        tree = [tree]
    rows = [[one["score"] for one in sorted(row, key=lambda one: one["label"])] if row and isinstance(row[0], dict)
            else row for row in tree]  # fmt: skip
    return np.asarray(rows, float)


def is_same(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    """Whether an answer is that answer."""
    return found.shape == expected.shape and bool(np.abs(found - expected).max(initial=0) <= TOLERANCE)


async def ask_each(port: int, requests: Sequence[bytes]) -> list[NDArray[np.float64]]:
    """The answers one after the other; `BenchError` when one is refused."""
    async with dial(Address(port), 1) as lines:
        replies = (await closed_loop(lines, requests)).replies
    for reply in replies:
        if reply.status != OK:
            raise BenchError(f"the service answered {reply.status}: {reply.body[:200].decode(errors='replace')}")
    return [read_numbers(reply.body) for reply in replies]


async def measure_capacity(port: int, requests: Sequence[bytes], connections: int = 8) -> float:
    """Requests answered a second, over so few connections that even a short queue refuses hardly any."""
    asked = requests[:CAPACITY_REQUESTS]
    async with dial(Address(port), connections) as lines:
        await closed_loop(lines, asked[: len(asked) // 4])
        found = await closed_loop(lines, asked)
    return sum(reply.status == OK for reply in found.replies) / found.seconds


async def keep_asking(
    port: int,
    requests: Sequence[bytes],
    keep: Callable[[int, Reply], None],
    *,
    stop: asyncio.Event,
    connections: int,
    reconnect: bool = True,
) -> None:
    """Requests at random over so many connections until told to stop; a connection that broke is made anew.

    With `reconnect` false, whoever's connection broke stops.
    """

    async def work(number: int) -> None:
        order, line = random.Random(number), Line()  # noqa: S311 - no secret
        while not stop.is_set():
            if not line.alive:
                line = await connect(Address(port))
            which = order.randrange(len(requests))
            reply = await line.ask(requests[which])
            keep(which, reply)
            if reply.status == BROKEN:
                if not reconnect:
                    return
                await asyncio.sleep(PAUSE_SECONDS)
        line.close()

    await asyncio.gather(*(work(number) for number in range(connections)))


def count_answers(port: int) -> Counter[str]:
    """Answers the service says it gave, by status: of `/metrics`."""
    reply = asyncio.run(ask_once(Address(port), make_request("/metrics", b"", method="GET")))
    return count_statuses(reply.body.decode())


def count_statuses(metrics: str) -> Counter[str]:
    """`understudy_requests_total` by status, over all routes."""
    found: Counter[str] = Counter()
    for line in metrics.splitlines():
        if line.startswith("understudy_requests_total{"):
            labels, _, value = line.rpartition(" ")
            found[labels.partition('status="')[2].partition('"')[0]] += round(float(value))
    return found


def _is_embedding(setup: Setup) -> bool:
    return bool(setup.about["task"] == "embedding")


def _has_runtime(pid: int) -> bool:
    try:
        return RUNTIME in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
