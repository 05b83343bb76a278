"""A cheap HTTP/1.1 client: requests made of bytes before the clock runs, one under way on each connection.

    async with dial(Address(port), 32) as lines:
        replies = await closed_loop(lines, requests)

It reads a status, headers, and a body of known length or in chunks, and nothing else: whatever it cost would count as
the service's. It follows no redirect and knows no proxy. Times are of the event loop's clock, `time.monotonic`, so that
a loop with a clock of its own can simulate a service exactly.
"""

import asyncio
import contextlib
import functools
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from artifact.errors import BenchError
from serve.latency.client import HOST

BROKEN = 0
"""Status of a request whose connection ended, or could not be made, before there was an answer."""
ACCEPTED = range(200, 300)
"""Statuses of an answer; redirects are none."""
HEAD_END = b"\r\n\r\n"
LINE_END = b"\r\n"


class Address(NamedTuple):
    """Where a service listens."""

    port: int
    host: str = HOST
    tls: bool = False
    """Whether connections are encrypted; certificates are then verified."""


class Reply(NamedTuple):
    """An answer, and when its request was sent and it was complete, in seconds of the loop's clock."""

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
    length_bytes: int | None
    """Of the body; None when it comes in chunks."""
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

    `BenchError` when it has neither a `Content-Length` nor chunks: such an answer ends where the connection does.
    """
    lines = head.split(LINE_END)
    status, length, closes = int(lines[0].split(b" ", 2)[1]), None, lines[0].startswith(b"HTTP/1.0")
    chunked = False
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        key = name.lower()
        if key == b"content-length":
            length = int(value)
        elif key == b"connection":
            closes = value.strip().lower() == b"close"
        elif key == b"transfer-encoding":
            chunked = value.strip().lower() == b"chunked"
    if status in {204, 304}:
        length, chunked = 0, False
    if length is None and not chunked:
        raise BenchError("an answer has no Content-Length, which this client needs")
    return Head(status=status, length_bytes=None if chunked else length, closes=closes)


def take_body(received: bytes, length_bytes: int | None) -> tuple[bytes, bytes] | None:
    """A whole body and what comes after it, None while some of it is missing; `length_bytes` None means chunks.

    `ValueError` when what should be a chunk is none. Trailers are read over.
    """
    if length_bytes is not None:
        return (received[:length_bytes], received[length_bytes:]) if len(received) >= length_bytes else None
    body, rest = b"", received
    while True:
        size, found, rest = rest.partition(LINE_END)
        if not found:
            return None
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            return _after_trailers(body, rest)
        if len(rest) < length + len(LINE_END):
            return None
        body, rest = body + rest[:length], rest[length + len(LINE_END) :]


def _after_trailers(body: bytes, rest: bytes) -> tuple[bytes, bytes] | None:
    while True:
        line, found, rest = rest.partition(LINE_END)
        if not found:
            return None
        if not line:
            return body, rest


class Line(asyncio.Protocol):
    """One connection; `ask` again once it has answered."""

    def __init__(self) -> None:
        self.alive = False
        """Whether it may be asked."""
        self.free_since = 0.0
        """When it was made, or last answered."""
        self.fault = ""
        """Why it could not be made."""
        self._now = asyncio.get_running_loop().time
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._received = b""
        self._head: Head | None = None
        self._text = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what TCP is given
        self._transport, self.alive, self.free_since = transport, True, self._now()

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        self._received += data
        try:
            if self._head is None:
                text, end, rest = self._received.partition(HEAD_END)
                if not end:
                    return
                self._head, self._received, self._text = read_head(text), rest, text
            taken = take_body(self._received, self._head.length_bytes)
        except (BenchError, ValueError, IndexError) as error:
            self._fail(error)
            return
        if taken is not None:
            self._finish(self._head, *taken)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Of `asyncio.Protocol`."""
        self.alive = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Reply(BROKEN, b"", self._sent, self._now()))

    def ask(self, request: bytes) -> "asyncio.Future[Reply]":
        """The answer to come: with status `BROKEN` where the connection ends first."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._sent = self._now()
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

    def _finish(self, head: Head, body: bytes, rest: bytes) -> None:
        text, now = self._text, self._now()
        self._received, self._head, self.free_since = rest, None, now
        if head.closes:
            self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Reply(head.status, body, self._sent, now, text))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BenchError(f"an answer could not be read: {error}"))


async def connect(address: Address) -> Line:
    """A new connection; a dead one, which answers `BROKEN` and says why in `fault`, when it cannot be made."""
    tls = _trust() if address.tls else None
    try:
        _, line = await asyncio.get_running_loop().create_connection(Line, address.host, address.port, ssl=tls)
    except OSError as error:
        line = Line()
        line.fault = str(error)
    return line


@functools.cache
def _trust() -> ssl.SSLContext:
    """Made once: reading the system's certificates takes longer than many a request."""
    return ssl.create_default_context()


@contextlib.asynccontextmanager
async def dial(address: Address, connections: int) -> AsyncIterator[list[Line]]:
    """So many connections, closed at the end."""
    lines = [await connect(address) for _ in range(connections)]
    try:
        yield lines
    finally:
        for line in lines:
            line.close()


async def ask_once(address: Address, request: bytes) -> Reply:
    """One request on a connection of its own."""
    async with dial(address, 1) as (line,):
        return await line.ask(request)
