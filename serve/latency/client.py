"""The cheapest HTTP/1.1 client that can wait for an answer: one socket kept alive, requests made before the clock runs.

It understands what a JSON service answers (a status line, headers, `Content-Length`) and refuses the rest, since a
general client costs a good part of a millisecond, and a benchmark would count that as the service's.
"""

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from artifact.errors import BenchError
from serve.latency.plan import Asked

HOST = "127.0.0.1"
SECONDS_TO_ANSWER = 60.0
BODY_SHOWN = 200


def _write_ranking(asked: Asked) -> dict[str, Any]:
    return {"query": asked[0], "texts": list(asked[1:])}


BODIES: Mapping[str, Callable[[Asked], dict[str, Any]]] = {
    "/predict": lambda asked: {"inputs": asked},
    "/embed": lambda asked: {"inputs": asked},
    "/tag": lambda asked: {"inputs": asked},
    "/answer": lambda asked: {"inputs": {"question": asked[0], "context": asked[1]}},
    "/rerank": _write_ranking,
}
"""By route, what is posted of one text, pair or query."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One row over HTTP: where texts are posted, and the headers that choose who answers."""

    name: str
    port: int
    path: str = "/predict"
    """The route of the model's kind, which says how a body is written: one of `BODIES`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    """Longest text it reads whole; fixed lengths beyond it are not asked of it. None: any."""

    def request(self, asked: Asked) -> bytes:
        """The whole request, ready to be sent: a text, a pair, or a query with what is to be put in order."""
        return self._write(BODIES[self.path](asked))

    def request_all(self, texts: Sequence[Asked]) -> bytes:
        """As `request`, of several texts or pairs in one."""
        # Each text in a list of its own: a flat list of two would be read as one pair.
        if self.path == "/predict":
            return self._write({"inputs": [[text] if isinstance(text, str) else list(text) for text in texts]})
        return self._write({"inputs": [BODIES[self.path](text)["inputs"] for text in texts]})

    def _write(self, content: Mapping[str, Any]) -> bytes:
        body = json.dumps(content, ensure_ascii=False).encode()
        headers = {"Host": f"{HOST}:{self.port}", "Content-Type": "application/json", **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Connection:
    """One connection to a target, kept alive over any number of requests; a context manager."""

    def __init__(self, target: Target) -> None:
        self._name = target.name
        try:
            self._socket = socket.create_connection((HOST, target.port), timeout=SECONDS_TO_ANSWER)
        except OSError as error:
            raise BenchError(f"{self._name}: cannot connect to {HOST}:{target.port} ({error})") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """The body of the answer; `BenchError` when it is not 200, or when there is none."""
        try:
            self._socket.sendall(request)
            head, body = self._receive_head()
            length = self._content_length(head)
            while len(body) < length:
                body += self._receive()
        except OSError as error:
            raise BenchError(f"{self._name}: no answer from the service ({error})") from None
        status = head.split(b" ", 2)[1]
        if status != b"200":
            shown = body[:BODY_SHOWN].decode(errors="replace")
            raise BenchError(f"{self._name}: the service answered {status.decode()}, expected 200: {shown}")
        return body

    def _receive_head(self) -> tuple[bytes, bytes]:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        return head, body

    def _receive(self) -> bytes:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise BenchError(f"{self._name}: the service closed the connection before it had answered")
        return chunk

    def _content_length(self, head: bytes) -> int:
        for line in head.lower().split(b"\r\n")[1:]:
            if line.startswith(b"content-length:"):
                return int(line.removeprefix(b"content-length:"))
        raise BenchError(f"{self._name}: the answer has no Content-Length, which this client needs")
