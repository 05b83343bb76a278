"""A request that cannot be answered, in words for its client; `serve.http.replies` gives it its shape."""

from collections.abc import Mapping


class Problem(Exception):  # noqa: N818 - it is what the client gets to read, not a fault of ours
    """A request that is answered with an error: `status`, a message for the client, and TEI's word for its kind.

    `param` is the field at fault, `code` OpenAI's word, where there is one. The message never holds more of the
    request than a shortened, escaped name.
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.headers = dict(headers or {})
        self.param = param
        self.code = code


def quote(text: str) -> str:
    """A name from a request, safe to show and to log: escaped, and cut at 64 characters."""
    return ascii(text if len(text) <= 64 else text[:61] + "...")
