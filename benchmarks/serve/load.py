"""Two ways to ask: in a closed loop, each connection one request after the other, and open, at times set beforehand.

In the open loop a latency counts from the scheduled time. A service that falls behind cannot slow down its own load.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.serve.client import BROKEN, Line, Reply, connect

MOST_CONNECTIONS = 512
"""Of one open loop; what comes when all are taken waits in the client, and its clock runs."""
SPIN_SECONDS = 0.0005
"""The event loop wakes up late by up to this."""

Keep = Callable[[int, Reply], None]
"""Told of the answer to request number so and so."""


class Closed(NamedTuple):
    """What a closed loop gave."""

    replies: list[Reply]
    """In the order of the requests."""
    seconds: float
    """From the first request to the last answer."""


async def closed_loop(lines: Sequence[Line], requests: Sequence[bytes]) -> Closed:
    """All requests, taken in order by whichever connection is free."""
    replies: list[Reply] = [Reply(BROKEN, b"", 0.0, 0.0)] * len(requests)
    waiting = iter(range(len(requests)))

    async def work(line: Line) -> None:
        for number in waiting:
            replies[number] = await line.ask(requests[number])

    begun = time.perf_counter()
    await asyncio.gather(*(work(line) for line in lines))
    return Closed(replies, time.perf_counter() - begun)


def poisson_schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times within `seconds`, independent of one another, `rate` a second on average."""
    random = np.random.default_rng(seed)
    count = random.poisson(rate * seconds)
    return sorted(random.uniform(0, seconds, size=count).tolist())


class Arrived(NamedTuple):
    """One request of an open loop."""

    scheduled: float
    """In seconds of `time.perf_counter`."""
    reply: Reply

    @property
    def milliseconds(self) -> float:
        """From the scheduled time to the last byte."""
        return (self.reply.ended - self.scheduled) * 1e3


class Pool:
    """Connections to one port that are made when all others are taken."""

    def __init__(self, port: int, most: int = MOST_CONNECTIONS) -> None:
        self._port = port
        self._idle: list[Line] = []
        self._slots = asyncio.Semaphore(most)

    async def ask(self, request: bytes) -> Reply:
        """The answer, on a connection that is free."""
        async with self._slots:
            line = next((line for line in self._take() if line.alive), None) or await connect(self._port)
            reply = await line.ask(request)
            if line.alive:
                self._idle.append(line)
            return reply

    async def open(self, count: int) -> None:
        """Make so many connections beforehand."""
        self._idle += [await connect(self._port) for _ in range(count)]

    def close(self) -> None:
        """Hang up all that are idle."""
        for line in self._idle:
            line.close()
        self._idle.clear()

    def _take(self) -> "_Taken":
        return _Taken(self._idle)


class _Taken:
    """Takes one after the other off a list, as long as there is one."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines

    def __iter__(self) -> "_Taken":
        return self

    def __next__(self) -> Line:
        if not self._lines:
            raise StopIteration
        return self._lines.pop()


async def open_loop(
    port: int, requests: Sequence[bytes], schedule: Sequence[float], *, ready: int = 32, most: int = MOST_CONNECTIONS
) -> list[Arrived]:
    """Request after request at its time after now, in a circle where there are more times than requests."""
    pool = Pool(port, most)
    await pool.open(min(ready, most))
    begun = time.perf_counter() + SPIN_SECONDS

    async def arrive(number: int, at: float) -> Arrived:
        return Arrived(at, await pool.ask(requests[number % len(requests)]))

    tasks = []
    for number, after in enumerate(schedule):
        at = begun + after
        if (left := at - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        tasks.append(asyncio.create_task(arrive(number, at)))
    arrived = await asyncio.gather(*tasks)
    pool.close()
    return list(arrived)
