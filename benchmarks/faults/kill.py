"""`kill -9` of a worker while it answers: who fails, whether anyone is answered wrongly, and when it is back."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from artifact.errors import BenchError
from benchmarks.faults.service import (
    OK,
    Setup,
    ask_each,
    is_same,
    keep_asking,
    make_asking,
    read_numbers,
    serving,
    workers_of,
)
from serve.latency.server import Server
from serve.load.client import Reply

SECONDS_TO_RETURN = 30.0
RIGHT_IN_A_ROW = 20
"""Answers after which the service counts as back."""


class Event(NamedTuple):
    """One request as it went."""

    sent: float
    ended: float
    status: int
    right: bool


def kill(
    setup: Setup, *, times: int = 10, connections: int = 8, settle: float = 1.0, texts: int = 200
) -> dict[str, Any]:
    """Kill a worker so many times; of each time what happened to which requests."""
    with serving(setup) as server:
        return asyncio.run(_kill(setup, server, times, (connections, settle, texts)))


async def _kill(setup: Setup, server: Server, times: int, load_of: tuple[int, float, int]) -> dict[str, Any]:
    connections, settle, texts = load_of
    port = server.service.port
    requests = [make_asking(one.text, setup) for one in setup.texts(texts)]
    expected = await ask_each(port, requests)
    events: list[Event] = []

    def keep(which: int, reply: Reply) -> None:
        right = reply.status == OK and is_same(read_numbers(reply.body), expected[which])
        events.append(Event(reply.sent, reply.ended, reply.status, right))

    stop = asyncio.Event()
    load = asyncio.create_task(keep_asking(port, requests, keep, stop=stop, connections=connections))
    kills = []
    try:
        for number in range(times):
            await asyncio.sleep(settle)
            kills.append(await _kill_one(server, events, random.Random(number)))  # noqa: S311 - no secret
    finally:
        stop.set()
        await load
    wrong = sum(event.status == OK and not event.right for event in events)
    return {"kills": [describe_kill(events, *each) for each in kills], "answers": len(events), "wrong": wrong}


async def _kill_one(server: Server, events: list[Event], order: random.Random) -> tuple[float, float]:
    """When a worker was killed, and when the service was back."""
    workers = workers_of(server)
    if not workers:
        raise BenchError("the service has no worker process of its own that could be killed")
    at, before = time.monotonic(), len(events)
    os.kill(order.choice(workers), signal.SIGKILL)
    while time.monotonic() - at < SECONDS_TO_RETURN:
        await asyncio.sleep(0.02)
        later = [event for event in events[before:] if event.sent > at]
        if len(later) >= RIGHT_IN_A_ROW and all(event.right for event in later[-RIGHT_IN_A_ROW:]):
            return at, later[-RIGHT_IN_A_ROW].ended
    raise BenchError(f"the service was not back {SECONDS_TO_RETURN:.0f} s after a worker was killed")


def describe_kill(events: Sequence[Event], at: float, back: float) -> dict[str, Any]:
    """What failed: of the requests under way at that moment, and of those sent later."""
    under_way = [event for event in events if event.sent <= at < event.ended]
    later = [event for event in events if at < event.sent <= back and not event.right]
    return {
        "under_way": len(under_way),
        "under_way_failed": _by_status(event for event in under_way if not event.right),
        "later_failed": _by_status(later),
        "seconds_to_last_failure": round(max((event.ended - at for event in later), default=0.0), 3),
        "seconds_to_return": round(back - at, 3),
    }


def _by_status(events: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for event in events:
        found[str(event.status)] = found.get(str(event.status), 0) + 1
    return found
