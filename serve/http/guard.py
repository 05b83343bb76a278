"""Who may ask: by the name under which the service was called, and by API key.

The name matters on a loopback address: a page in a browser can make its own name mean 127.0.0.1, and then read what
the service answers, but it cannot make the browser send another name than its own ("DNS rebinding").
"""

from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.config import ServiceConfig
from serve.http.replies import reply_problem
from serve.keys import ApiKey, find_key
from serve.problem import Problem, quote

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""On every answer: read as what it says it is, in no frame, by no page of another origin, and kept nowhere."""
KEY = "understudy.key"
"""Where the scope holds the `ApiKey` that came with the request; None without one."""
PROBE = "/health"
"""Asks for no key: orchestrators have none, and it tells nothing but that the service is up."""

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="understudy"'}


class Guard:
    """ASGI middleware: passes on what may be answered, and answers the rest."""

    def __init__(self, app: ASGIApp, config: ServiceConfig) -> None:
        self._app = app
        self._keys = config.api_keys
        self._open = frozenset({PROBE, *config.open_routes})
        self._hosts = None if config.hosts is None else frozenset(map(_normalize, config.hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        if scope["type"] == "http" and (self._keys or self._hosts is not None):
            problem = self._check(scope)
            if problem is not None:
                await reply_problem(problem, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> Problem | None:
        headers = dict(reversed(scope["headers"]))  # of a header sent twice, the first counts
        if self._hosts is not None:
            host = headers.get(b"host", b"").decode("latin-1")
            if _normalize(name_of(host)) not in self._hosts:
                message = f"this service is not called {quote(name_of(host))}; its config lists its names under `hosts`"
                return Problem(421, "Validation", message)
        presented = list(keys_in(headers))
        found = next(filter(None, (find_key(self._keys, key) for key in presented)), None)
        scope[KEY] = found
        if found or not self._keys or (scope["method"] in ("GET", "HEAD") and scope["path"] in self._open):
            return None
        message = "this API key is not accepted" if presented else "send an API key: `Authorization: Bearer KEY`"
        return Problem(401, "Unauthorized", message, CHALLENGE, code="invalid_api_key")


def keys_in(headers: Mapping[bytes, bytes]) -> Iterable[bytes]:
    """The keys that a request presents: `Authorization: Bearer`, as OpenAI's clients do, or `X-API-Key`."""
    scheme, _, key = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() == b"bearer":
        yield key.strip()
    if b"x-api-key" in headers:
        yield headers[b"x-api-key"].strip()


def name_of(host: str) -> str:
    """A Host header without its port; the brackets of an IPv6 address stay."""
    name, colon, port = host.strip().rpartition(":")
    return (
        name if colon and (not port or port.isdigit()) and (":" not in name or name.startswith("[")) else host.strip()
    )


def check_admin(scope: Scope, keys: tuple[ApiKey, ...]) -> ApiKey:
    """The admin key that came with a request; `Problem` 403 when none did."""
    found: ApiKey | None = scope.get(KEY)
    if found is not None and found.role == "admin":
        return found
    if any(key.role == "admin" for key in keys):
        raise Problem(403, "Forbidden", "this takes an API key of role admin")
    raise Problem(403, "Forbidden", "this takes an API key of role admin, and the config of this service has none")


def _normalize(name: str) -> str:
    return name.lower().removesuffix(".")
