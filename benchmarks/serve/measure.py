"""What is measured of each contestant in each round, raw."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artifact.errors import BenchError
from artifact.progress import say
from benchmarks.serve.contestants import CONTESTANTS, OURS, Contestant, Knobs, Place
from benchmarks.serve.servers import WARM_UP_REQUESTS, Contender, ask_all, check_embeddings, started
from benchmarks.serve.texts import Sized
from serve.load.client import Address, Reply
from serve.load.loops import open_loop, poisson_schedule

CONNECTIONS = 32
CHECKED_TEXTS = 24
UNTIMED_SINGLES = 20
"""Asked first over one connection: whoever was before took the caches."""
OK = 200


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of everyone, the same in every round."""

    singles: Sequence[Sized]
    """Asked one after the other over one connection."""
    mixed: Sequence[Sized]
    """Asked over many connections at once, and, in a circle, in the open loop."""
    open_seconds: float
    seed: int = 7


def collect(replies: Iterable[tuple[float, Reply]]) -> dict[str, Any]:
    """Latencies in the order of the requests, null for those that failed, and the statuses of these."""
    latencies, failures = [], Counter[str]()
    for milliseconds, reply in replies:
        latencies.append(round(milliseconds, 3) if reply.status == OK else None)
        if reply.status != OK:
            failures[str(reply.status)] += 1
    return {"ms": latencies, "failures": dict(failures)}


def take_turn(contender: Contender, load: Load, rates: dict[str, float], index: int) -> dict[str, Any]:
    """One turn: one connection, many connections, and an open loop at each of the rates."""
    contestant = contender.contestant
    singles = [contestant.request(one.text) for one in load.singles]
    mixed = [contestant.request(one.text) for one in load.mixed]
    untimed = singles[:UNTIMED_SINGLES]

    async def work() -> dict[str, Any]:
        await ask_all(contender, mixed[:WARM_UP_REQUESTS], CONNECTIONS)
        found: dict[str, Any] = {}
        with _watch_client() as share:
            one = await ask_all(contender, [*untimed, *singles], 1)
        found["single"] = {**collect((reply.milliseconds, reply) for reply in one.replies[len(untimed) :]), **share}
        with _watch_client() as share:
            many = await ask_all(contender, mixed, CONNECTIONS)
        found["closed"] = {
            **collect((reply.milliseconds, reply) for reply in many.replies), "seconds": many.seconds, **share,
        }  # fmt: skip
        for name, rate in rates.items():
            schedule = poisson_schedule(rate, load.open_seconds, load.seed + index)
            with _watch_client() as share:
                arrived = (await open_loop(Address(contender.port), mixed, schedule)).arrived
            found[name] = {**collect((each.milliseconds, each.reply) for each in arrived), **share}
        return found

    with contender.awake():
        return asyncio.run(work())


def choose_knobs(
    contestant: Contestant, place: Place, texts: Sequence[Sized], ours: list[np.ndarray] | None
) -> tuple[Knobs, list[dict[str, Any]], list[np.ndarray]]:
    """The settings under which it answers most texts a second without a failure; all that was tried; its embeddings.

    Raises `BenchError` when its embeddings are not ours, or none of its settings works.
    """
    tried: list[dict[str, Any]] = []
    vectors: list[np.ndarray] = []
    for knobs in contestant.knobs:
        with started(contestant, place, knobs) as contender:
            vectors = [contestant.read(body) for body in _ask(contender, texts[:CHECKED_TEXTS], 1)]
            found = _try(contender, texts, ours or vectors)
        say(f"  {contestant.name} {dict(knobs)}: {found['texts_per_second']:.0f} texts/s")
        tried.append({"knobs": dict(knobs), **found})
    working = [one for one in tried if not one["failures"]]
    if not working:
        raise BenchError(f"{contestant.name} fails under every setting: {tried}")
    return max(working, key=lambda one: one["texts_per_second"])["knobs"], tried, vectors


def choose_all(names: Sequence[str], place: Place, texts: Sequence[Sized]) -> dict[str, dict[str, Any]]:
    """The chosen settings of each, and what was tried; ours comes first, whose embeddings all others must give."""
    chosen: dict[str, dict[str, Any]] = {}
    ours: list[np.ndarray] | None = None
    for name in [OURS, *(name for name in names if name != OURS)]:
        knobs, tried, vectors = choose_knobs(CONTESTANTS[name], place, texts, ours)
        ours = ours or vectors
        best = max(one["texts_per_second"] for one in tried if one["knobs"] == dict(knobs))
        chosen[name] = {"knobs": dict(knobs), "tried": tried, "texts_per_second": best}
    return chosen


def _try(contender: Contender, texts: Sequence[Sized], ours: list[np.ndarray]) -> dict[str, Any]:
    requests = [contender.contestant.request(one.text) for one in texts]

    async def work() -> dict[str, Any]:
        checked = await ask_all(contender, requests[:CHECKED_TEXTS], 4)
        distance = check_embeddings(contender, checked, ours)
        await ask_all(contender, requests[:WARM_UP_REQUESTS], CONNECTIONS)
        found = await ask_all(contender, requests, CONNECTIONS)
        failures = sum(reply.status != OK for reply in found.replies)
        return {
            "texts_per_second": len(requests) / found.seconds, "failures": failures, "largest_distance": distance,
            "ready_seconds": contender.server.ready_seconds,
        }  # fmt: skip

    return asyncio.run(work())


def _ask(contender: Contender, texts: Sequence[Sized], connections: int) -> list[bytes]:
    requests = [contender.contestant.request(one.text) for one in texts]
    return [reply.body for reply in asyncio.run(ask_all(contender, requests, connections)).replies]


@contextlib.contextmanager
def _watch_client() -> Iterator[dict[str, float]]:
    """A mapping that says afterwards which share of one core this process, the client, took meanwhile."""
    found: dict[str, float] = {}
    begun, cpu = time.perf_counter(), time.process_time()
    yield found
    found["client_cpu_share"] = round((time.process_time() - cpu) / (time.perf_counter() - begun), 3)
