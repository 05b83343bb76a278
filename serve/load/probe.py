"""The first request: whatever is wrong with an endpoint shows there, and is told in words."""

import asyncio

from artifact.errors import BenchError
from serve.load.client import ACCEPTED, BROKEN, Address, Reply, dial

BODY_SHOWN = 200

HINTS = {
    400: "the endpoint wants another body; name its route with --path, or its model with --model",
    401: "name the variable that holds an API key with --key-env",
    403: "name the variable that holds an API key with --key-env",
    404: "name the route with --path, such as /embed or /v1/embeddings, or another model with --model",
    405: "name the route with --path, such as /embed, /predict, /rerank or /v1/embeddings",
    413: "the texts are too long for it; give shorter ones with --texts",
    422: "the endpoint wants another body; name its route with --path, or its model with --model",
    429: "it is overloaded or limits this client already; wait, or ask for another limit",
}
"""By status."""


def explain(address: Address) -> str:
    """The address as a person writes it."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{'https' if address.tls else 'http'}://{host}:{address.port}"


async def probe(address: Address, request: bytes, patience_seconds: float, *, any_status: bool = False) -> Reply:
    """The answer to one request.

    Raises `BenchError`: nobody listens, the connection ends, nothing comes in time; and, but for `any_status`, when
    the status is not 2xx, with the head of the body.
    """
    where = explain(address)
    try:
        async with asyncio.timeout(patience_seconds), dial(address, 1) as (line,):
            if not line.alive:
                raise BenchError(f"nothing answers at {where} ({line.fault})", "start the service, or check the URL")
            reply = await line.ask(request)
    except TimeoutError:
        raise BenchError(f"{where} did not answer within {patience_seconds:g} s", "look at its log") from None
    if reply.status == BROKEN:
        raise BenchError(f"{where} hung up before it had answered", "is it HTTP, and not HTTPS?")
    if not any_status and reply.status not in ACCEPTED:
        route = request.partition(b" HTTP/1.1")[0].decode()
        shown = reply.body[:BODY_SHOWN].decode(errors="replace")
        problem = f"{where} answered {reply.status} to {route}, expected 200: {shown}"
        raise BenchError(problem, HINTS.get(reply.status, "look at its log"))
    return reply
