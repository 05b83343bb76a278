"""Two ways to ask: in a closed loop, each connection one request after the other, and open, at times set beforehand.

In the open loop a latency counts from the scheduled time. A service that falls behind cannot slow down its own load.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from serve.load.client import BROKEN, Address, Line, Reply, connect

MOST_CONNECTIONS = 512
"""Of one open loop; what comes when all are taken waits in the client, and its clock runs."""
HEAD_START_SECONDS = 0.0005
"""Between now and the begin of a schedule."""
LONGEST_IDLE_SECONDS = 2.0
"""A connection that was free for longer is not used again: the service may be hanging up on it at this moment."""
PAUSE_SECONDS = 0.01
"""Between a connection that broke and the next, in a closed loop."""


class Closed(NamedTuple):
    """What a closed loop gave."""

    replies: list[Reply]
    """In the order of the requests."""
    seconds: float
    """From the first request to the last answer."""


async def closed_loop(lines: Sequence[Line], requests: Sequence[bytes]) -> Closed:
    """All requests, taken in order by whichever connection is free."""
    now = asyncio.get_running_loop().time
    replies: list[Reply] = [Reply(BROKEN, b"", 0.0, 0.0)] * len(requests)
    waiting = iter(range(len(requests)))

    async def work(line: Line) -> None:
        for number in waiting:
            replies[number] = await line.ask(requests[number])

    begun = now()
    await asyncio.gather(*(work(line) for line in lines))
    return Closed(replies, now() - begun)


async def closed_loop_for(address: Address, requests: Sequence[bytes], connections: int, seconds: float) -> Closed:
    """Requests in a circle for so long, each connection one after the other; a connection that broke is made anew.

    A request counts when it was sent in time. Its replies are in the order of their ends.
    """
    now = asyncio.get_running_loop().time
    replies: list[Reply] = []
    begun, sent = now(), 0

    async def work() -> None:
        nonlocal sent
        line = await connect(address)
        try:
            while now() - begun < seconds:
                sent += 1
                replies.append(await line.ask(requests[(sent - 1) % len(requests)]))
                if not line.alive:
                    await asyncio.sleep(PAUSE_SECONDS)
                    line = await connect(address)
        finally:
            line.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return Closed(replies, now() - begun)


def poisson_schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times within `seconds`, independent of one another, `rate` a second on average."""
    random = np.random.default_rng(seed)
    count = random.poisson(rate * seconds)
    return sorted(random.uniform(0, seconds, size=count).tolist())


class Arrived(NamedTuple):
    """One request of an open loop; times in seconds of the loop's clock."""

    scheduled: float
    woken: float
    """When the client got round to it; the rest until it was sent, it waited for a connection."""
    reply: Reply

    @property
    def milliseconds(self) -> float:
        """From the scheduled time to the last byte."""
        return (self.reply.ended - self.scheduled) * 1e3

    @property
    def late_ms(self) -> float:
        """By how much the client itself was late."""
        return (self.woken - self.scheduled) * 1e3


class Pool:
    """Connections to one address that are made when all others are taken."""

    def __init__(self, address: Address, most: int = MOST_CONNECTIONS) -> None:
        self._address = address
        self._idle: list[Line] = []
        self._slots = asyncio.Semaphore(most)
        self._now = asyncio.get_running_loop().time

    async def ask(self, request: bytes) -> Reply:
        """The answer, on a connection that is free; who is cancelled meanwhile leaves none behind."""
        async with self._slots:
            line = self._take() or await connect(self._address)
            try:
                reply = await line.ask(request)
            except BaseException:
                line.close()
                raise
            if line.alive:
                self._idle.append(line)
            return reply

    async def open(self, count: int) -> None:
        """Make so many connections beforehand."""
        self._idle += [await connect(self._address) for _ in range(count)]

    def close(self) -> None:
        """Hang up all that are idle."""
        for line in self._idle:
            line.close()
        self._idle.clear()

    def _take(self) -> Line | None:
        """The one that was free for the shortest time; those that were for too long are closed on the way."""
        while self._idle:
            line = self._idle.pop()
            if line.alive and self._now() - line.free_since <= LONGEST_IDLE_SECONDS:
                return line
            line.close()
        return None


class Opened(NamedTuple):
    """What an open loop gave."""

    arrived: list[Arrived]
    """In the order of arrival; what was not answered in time ends with status `BROKEN` when it was given up."""
    client_cpu_share: float
    """Processor time of this process over wall time, from the first arrival to the last."""


async def open_loop(
    address: Address,
    requests: Sequence[bytes],
    schedule: Sequence[float],
    *,
    ready: int = 32,
    most: int = MOST_CONNECTIONS,
    patience_seconds: float | None = None,
    kept: list[Arrived] | None = None,
) -> Opened:
    """Request after request at its time after now, in a circle where there are more times than requests.

    It ends when all are answered, or `patience_seconds` after the last arrival; None waits for ever. `kept` is filled
    as answers come: who is interrupted still has those.
    """
    pool = Pool(address, most)
    await pool.open(min(ready, most))
    with _uncollected():
        return await _arrive_all(pool, requests, schedule, patience_seconds, kept)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles, which would stop the client for tenths of a second among so many replies."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _arrive_all(
    pool: Pool,
    requests: Sequence[bytes],
    schedule: Sequence[float],
    patience_seconds: float | None,
    kept: list[Arrived] | None,
) -> Opened:
    now = asyncio.get_running_loop().time
    begun, cpu = now() + HEAD_START_SECONDS, time.process_time()
    found: list[Arrived | None] = [None] * len(schedule)

    async def arrive(number: int, at: float) -> None:
        woken = now()
        found[number] = one = Arrived(at, woken, await pool.ask(requests[number % len(requests)]))
        if kept is not None:
            kept.append(one)

    tasks = []
    try:
        for number, after in enumerate(schedule):
            if (left := begun + after - now()) > 0:
                await asyncio.sleep(left)
            tasks.append(asyncio.create_task(arrive(number, begun + after)))
        share = (time.process_time() - cpu) / max(now() - begun, HEAD_START_SECONDS)
        done, _ = await asyncio.wait(tasks, timeout=patience_seconds) if tasks else (set(), set())
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pool.close()
    given_up = now()
    late = [begun + after for after in schedule]
    return Opened(
        [one or Arrived(at, at, Reply(BROKEN, b"", at, given_up)) for one, at in zip(found, late, strict=True)], share
    )
