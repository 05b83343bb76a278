"""What is asked of an endpoint: its address, its route, and the body that such a route takes.

    endpoint = find_endpoint("http://127.0.0.1:3000", path=None, model=None, headers={})
    requests = endpoint.requests(texts)

The routes are those of text-embeddings-inference and OpenAI. A host other than this machine has to be named twice: a
load test of somebody else's service is an attack.
"""

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from artifact.errors import BenchError
from serve.load.client import Address, Reply, make_request
from serve.load.clock import run_on_time
from serve.load.probe import explain, probe

PORTS = {"http": 80, "https": 443}
RERANKED = 4
"""Texts of one request to `/rerank`."""
SECONDS_TO_ANSWER = 10.0

Body = Callable[[Sequence[str], int, str | None], Any]
"""The body for text number so and so of the texts, with the model's name where one was given."""


def _inputs(texts: Sequence[str], number: int, model: str | None) -> Any:
    return {"inputs": texts[number]} | ({"model": model} if model else {})


def _rerank(texts: Sequence[str], number: int, model: str | None) -> Any:
    others = [texts[(number + step) % len(texts)] for step in range(1, RERANKED + 1)]
    return {"query": texts[number], "texts": others} | ({"model": model} if model else {})


def _openai(texts: Sequence[str], number: int, model: str | None) -> Any:
    return {"input": texts[number], "model": model or "default"}


ROUTES: dict[str, Body] = {
    "/v1/embeddings": _openai,
    "/embeddings": _openai,
    "/embed": _inputs,
    "/predict": _inputs,
    "/rerank": _rerank,
}
"""End of a path to the body it takes; the first that fits."""

TYPES = {"embedding": "/embed", "classifier": "/predict", "reranker": "/rerank"}
"""`model_type` of text-embeddings-inference's `/info` to the route that suits it."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A route of a service."""

    address: Address
    path: str
    host: str
    """As the `Host` header has it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None

    @property
    def url(self) -> str:
        """As a person writes it."""
        return explain(self.address) + self.path

    def requests(self, texts: Sequence[str]) -> list[bytes]:
        """One request for each text, ready to be sent."""
        body = _body_of(self.path)
        fields = {"Host": self.host, **self.headers}
        return [make_request(self.path, body(texts, number, self.model), fields) for number in range(len(texts))]


def find_endpoint(
    url: str, *, path: str | None, model: str | None, headers: Mapping[str, str], allowed: str | None = None
) -> Endpoint:
    """The endpoint that a URL means: its path says which route, else `path`, else what the service says of itself.

    Raises `BenchError`: not an address, a host that is neither this machine nor `allowed`, a route we cannot fill,
    headers that are none, nobody there.
    """
    parts = _parse(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    check_allowed(host, allowed)
    for name, value in headers.items():
        if not name or not (name + value).isascii() or not (name + value).isprintable() or ":" in name:
            raise BenchError(f"the header {name!r} is none that HTTP allows", "write it as --header 'Name: value'")
    address = Address(port, host, parts.scheme == "https")
    base, named = parts.path.rstrip("/"), parts.netloc
    if path is not None:
        path = "/" + path.strip("/")
    elif _fits(base):
        base, path = "", base
    else:
        path = _ask_for_route(address, base, {"Host": named, **headers})
    path = base + path
    if _body_of(path) is _openai and model is None:
        model = _first_model(address, path.removesuffix("/embeddings") + "/models", {"Host": named, **headers})
    return Endpoint(address=address, path=path, host=named, headers=headers, model=model)


def check_allowed(host: str, allowed: str | None) -> None:
    """`BenchError` for a host other than this machine, unless it was named as one that may be loaded."""
    if is_loopback(host) or (allowed is not None and allowed.lower() == host.lower()):
        return
    raise BenchError(
        f"{host} is not this machine: under load it serves nobody else, and its owner may take it for an attack",
        f"if it is yours, or its owner has agreed, add --i-may-load {host}",
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or its digits; no other name is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse(url: str) -> SplitResult:
    hint = "write it as http://127.0.0.1:3000 or http://127.0.0.1:3000/embed"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits or not url.isascii() or not url.isprintable() or " " in url:
        raise BenchError(f"{url!r} is not the address of a service", hint)
    if parts.username is not None or parts.query or parts.fragment:
        raise BenchError(f"{url!r} holds more than an address and a path", f"{hint}; a key goes into --key-env")
    return parts


def _fits(path: str) -> bool:
    return any(path.endswith(end) for end in ROUTES)


def _body_of(path: str) -> Body:
    for end, body in ROUTES.items():
        if path.endswith(end):
            return body
    raise BenchError(f"no body is known for the route {path}", f"a route ends in one of {', '.join(ROUTES)}")


def _ask_for_route(address: Address, base: str, headers: Mapping[str, str]) -> str:
    """The route that `/info` or `/v1/models` speaks for."""
    info = _get(address, base + "/info", headers)
    if isinstance(info, dict) and isinstance(info.get("model_type"), dict):
        route = next((TYPES[kind] for kind in info["model_type"] if kind in TYPES), None)
        if route is not None:
            return route
    if isinstance(_get(address, base + "/v1/models", headers), dict):
        return "/v1/embeddings"
    raise BenchError(
        f"{explain(address)}{base} does not say what it answers (neither at /info nor at /v1/models)",
        f"name the route with --path: one of {', '.join(ROUTES)}",
    )


def _first_model(address: Address, path: str, headers: Mapping[str, str]) -> str | None:
    """The first that the service lists; None where it lists none."""
    found = _get(address, path, headers)
    try:
        return str(found["data"][0]["id"])
    except (TypeError, KeyError, IndexError):
        return None


def _get(address: Address, path: str, headers: Mapping[str, str]) -> Any:
    """The JSON there; None where there is none. `BenchError` when nobody listens, or answers in time."""
    reply = run_on_time(_fetch(address, make_request(path, b"", headers, method="GET")))
    try:
        return json.loads(reply.body) if reply.status == 200 else None
    except ValueError:
        return None


async def _fetch(address: Address, request: bytes) -> Reply:
    return await probe(address, request, SECONDS_TO_ANSWER, any_status=True)
