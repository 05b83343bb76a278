"""A cheap HTTP/1.1 client: requests made of bytes before the clock runs, one under way on each connection.

    async with dial(port, 32) as lines:
        replies = await closed_loop(lines, requests)

It reads a status, headers and a `Content-Length`, and nothing else: whatever it cost would count as the service's.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from artifact.errors import BenchError

HOST = "127.0.0.1"
BROKEN = 0
"""Status of a request whose connection ended, or could not be made, before there was an answer."""
HEAD_END = b"\r\n\r\n"


class Reply(NamedTuple):
    """An answer, and when its request was sent and it was complete, in seconds of `time.perf_counter`."""

    status: int
    body: bytes
    sent: float
    ended: float
    head: bytes = b""

    @property
    def milliseconds(self) -> float:
        """From sending to the last byte."""
        return (self.ended - self.sent) * 1e3

    def header(self, name: str) -> str | None:
        """The value of a header, None where there is none."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None


@dataclass(frozen=True, kw_only=True)
class Head:
    """What the head of an answer says."""

    status: int
    length_bytes: int
    """Of the body."""
    closes: bool
    """Whether the service ends the connection after it."""


def make_request(path: str, body: Any, headers: Mapping[str, str] | None = None, *, method: str = "POST") -> bytes:
    """A whole request; `body` is sent as it is when it is bytes, as JSON when it is not."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    fields = {"Host": HOST, "Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(content))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + content


def read_head(head: bytes) -> Head:
    """The head of an answer, without the empty line that ends it.

    `BenchError` when it has no `Content-Length`: such an answer ends where this client cannot see it.
    """
    lines = head.split(b"\r\n")
    status, length, closes = int(lines[0].split(b" ", 2)[1]), None, lines[0].startswith(b"HTTP/1.0")
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        key = name.lower()
        if key == b"content-length":
            length = int(value)
        elif key == b"connection":
            closes = value.strip().lower() == b"close"
    if status in {204, 304}:
        length = 0
    if length is None:
        raise BenchError("an answer has no Content-Length, which this client needs")
    return Head(status=status, length_bytes=length, closes=closes)


class Line(asyncio.Protocol):
    """One connection; `ask` again once it has answered."""

    def __init__(self) -> None:
        self.alive = False
        """Whether it may be asked."""
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._received = b""
        self._head: Head | None = None
        self._text = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what TCP is given
        self._transport, self.alive = transport, True

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        self._received += data
        if self._head is None:
            text, end, rest = self._received.partition(HEAD_END)
            if not end:
                return
            try:
                self._head = read_head(text)
            except (BenchError, ValueError, IndexError) as error:
                self._fail(error)
                return
            self._received, self._text = rest, text
        if len(self._received) >= self._head.length_bytes:
            self._finish(self._head)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Of `asyncio.Protocol`."""
        self.alive = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Reply(BROKEN, b"", self._sent, time.perf_counter()))

    def ask(self, request: bytes) -> "asyncio.Future[Reply]":
        """The answer to come: with status `BROKEN` where the connection ends first."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._sent = time.perf_counter()
        if self.alive and self._transport is not None:
            self._transport.write(request)
        else:
            self._waiting.set_result(Reply(BROKEN, b"", self._sent, self._sent))
        return self._waiting

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()
        self.alive = False

    def _finish(self, head: Head) -> None:
        body, text = self._received[: head.length_bytes], self._text
        self._received, self._head = b"", None
        if head.closes:
            self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Reply(head.status, body, self._sent, time.perf_counter(), text))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BenchError(f"an answer could not be read: {error}"))


async def connect(port: int) -> Line:
    """A new connection; a dead one, which answers `BROKEN`, when nobody listens."""
    try:
        _, line = await asyncio.get_running_loop().create_connection(Line, HOST, port)
    except OSError:
        return Line()
    return line


@contextlib.asynccontextmanager
async def dial(port: int, connections: int) -> AsyncIterator[list[Line]]:
    """So many connections, closed at the end."""
    lines = [await connect(port) for _ in range(connections)]
    try:
        yield lines
    finally:
        for line in lines:
            line.close()


async def ask_once(port: int, request: bytes) -> Reply:
    """One request on a connection of its own."""
    async with dial(port, 1) as (line,):
        return await line.ask(request)
