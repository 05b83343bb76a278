"""JSON replies in the shapes of text-embeddings-inference: results bare, faults as `error` and `error_type`."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


class Problem(Exception):  # noqa: N818 - it is what the client gets to read, not a fault of ours
    """A request that is answered with an error: `status`, a message for the client, and TEI's word for its kind.

    The message never holds more of the request than a shortened, escaped name.
    """

    def __init__(self, status: int, error_type: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.headers = dict(headers or {})

    def reply(self) -> Response:
        """The response that tells it."""
        return reply({"error": str(self), "error_type": self.error_type}, self.status, self.headers)


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON, in ASCII and without NaN; `ValueError` when it holds one."""
    body = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(body, status, dict(headers or {}), media_type="application/json")


def quote(text: str) -> str:
    """A name from a request, safe to show and to log: escaped, and cut at 64 characters."""
    return ascii(text if len(text) <= 64 else text[:61] + "...")
