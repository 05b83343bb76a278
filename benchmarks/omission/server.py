"""A service that stands still once: `python -m benchmarks.omission.server PORT AFTER_SECONDS STALL_SECONDS`.

Each request is answered 4 ms after it came, any number at a time. So long after the first POST the whole process
sleeps, as one does whose disk, lock or garbage collector holds it.
"""

import asyncio
import sys
import time

from serve.latency.client import HOST

SERVICE_SECONDS = 0.004
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
END = b"\r\n\r\n"


class Stall:
    """One for all connections."""

    def __init__(self, after_seconds: float, stall_seconds: float) -> None:
        self.after_seconds, self.stall_seconds = after_seconds, stall_seconds
        self._planned = False

    def plan(self) -> None:
        """From the first POST on, the stall is so many seconds away."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_later(self.after_seconds, time.sleep, self.stall_seconds)


class Answering(asyncio.Protocol):
    """One connection; a request is whatever ends its head, its body is read over."""

    def __init__(self, stall: Stall) -> None:
        self._stall = stall

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what TCP is given
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`; our client's requests are small enough to come in one piece."""
        if END not in data:
            return
        if data.startswith(b"POST"):
            self._stall.plan()
        asyncio.get_running_loop().call_later(SERVICE_SECONDS, self._transport.write, ANSWER)


async def serve(port: int, stall: Stall) -> None:
    """Until it is killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Answering(stall), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Stall(float(sys.argv[2]), float(sys.argv[3]))))
