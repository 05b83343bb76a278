"""A service on a simulated clock: nothing waits, nothing depends on the machine, and every time is exact.

The event loop's clock stands still while anything can run, and jumps to the next timer when nothing can. Connections
lead to a `Queue`: one server, first come first served, a fixed time for each request, and, if wanted, one stall.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: moves the clock on."""

    now = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits for what will never come")
        if not ready:
            self.now += max(timeout, 0)
        return ready


class Queue:
    """One server: each request takes `seconds`; at `stall_at` seconds of its own it stands still for `stall_seconds`.

    With `most` requests inside, further ones are refused at once. `dead` answers nobody's connection.
    """

    def __init__(self, seconds: float, *, stall_at: float = 1e9, stall_seconds: float = 1.0, most: int = 10**9) -> None:
        self.seconds, self.stall_at, self.stall_seconds, self.most = seconds, stall_at, stall_seconds, most
        self.begun: float | None = None
        self.free_at, self.inside, self.seen = 0.0, 0, 0
        self.dead = False

    def receive(self, loop: asyncio.AbstractEventLoop, send: Callable[[bytes], None]) -> None:
        now = loop.time()
        self.begun = now if self.begun is None else self.begun
        self.seen += 1
        if self.inside >= self.most:
            loop.call_soon(send, REFUSED)
            return
        start = max(now, self.free_at)
        stall_from = self.begun + self.stall_at
        if stall_from <= start < stall_from + self.stall_seconds:
            start = stall_from + self.stall_seconds
        self.free_at, self.inside = start + self.seconds, self.inside + 1
        loop.call_at(self.free_at, self._answer, send)

    def _answer(self, send: Callable[[bytes], None]) -> None:
        self.inside -= 1
        send(OK)


class _Wire(asyncio.Transport):
    """Both ends of a connection without a network."""

    def __init__(self, loop, queue, protocol):
        super().__init__()
        self.loop, self.queue, self.protocol, self.open = loop, queue, protocol, True

    def write(self, _data):
        self.loop.on_write(self.loop)
        self.queue.receive(self.loop, self._send)

    def _send(self, answer):
        if self.open:
            self.protocol.data_received(answer)

    def close(self):
        if self.open:
            self.open = False
            self.loop.call_soon(self.protocol.connection_lost, None)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop for one queue; `on_write` is called for each request sent, and may move the clock on."""

    def __init__(self, queue: Queue, on_write: Callable[["SimulatedLoop"], None] = lambda _loop: None) -> None:
        self.clock = _Jumping()
        self.queue, self.on_write = queue, on_write
        super().__init__(self.clock)

    def time(self):
        return self.clock.now

    async def create_connection(self, factory: Any, *_: Any, **__: Any) -> Any:
        if self.queue.dead:
            raise ConnectionRefusedError("nobody listens")
        protocol = factory()
        wire = _Wire(self, self.queue, protocol)
        protocol.connection_made(wire)
        return wire, protocol


def simulate(work: Any, queue: Queue, on_write: Callable[[SimulatedLoop], None] = lambda _loop: None) -> Any:
    """What `work` returns when its time is simulated and its connections lead to `queue`."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(queue, on_write)) as runner:
        return runner.run(work)
