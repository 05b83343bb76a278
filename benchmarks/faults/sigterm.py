"""SIGTERM while it answers: whatever had been sent is answered."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from artifact.progress import progress
from benchmarks.faults.service import OK, Setup, keep_asking, make_asking, serving
from serve.latency.server import Server
from serve.load.client import Reply

SECONDS_TO_END = 30.0


def sigterm(setup: Setup, *, times: int = 50, connections: int = 8, texts: int = 100) -> dict[str, Any]:
    """Start it, ask, and end it, so many times; of each what became of the requests sent before and after."""
    requests = [make_asking(one.text, setup) for one in setup.texts(texts)]
    ends = []
    with progress("SIGTERM", total=times) as advance:
        for number in range(times):
            wait = random.Random(number).uniform(0.3, 1.0)  # noqa: S311 - no secret
            with serving(setup) as server:
                ends.append(asyncio.run(_end(server, requests, connections, wait)))
            advance(1, f"lost {sum(end['lost'] for end in ends)}")
    return {"ends": ends}


async def _end(server: Server, requests: Sequence[bytes], connections: int, wait: float) -> dict[str, Any]:
    """A request counts as accepted when it was sent, over a connection that had been made, before the signal."""
    replies: list[Reply] = []
    stop = asyncio.Event()
    load = asyncio.create_task(
        keep_asking(
            server.service.port,
            requests,
            lambda _, reply: replies.append(reply),
            stop=stop,
            connections=connections,
            reconnect=False,
        )
    )
    await asyncio.sleep(wait)
    at = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    status = await asyncio.to_thread(server.process.wait, SECONDS_TO_END)
    seconds = time.monotonic() - at
    stop.set()
    await load
    return {**describe_end(replies, at), "exit_status": status, "seconds_to_end": round(seconds, 3)}


def describe_end(replies: Sequence[Reply], at: float) -> dict[str, Any]:
    """Requests sent before the signal and not answered with 200 are lost; those sent later may be turned away."""
    before, after = ([reply for reply in replies if (reply.sent < at) == early] for early in (True, False))
    under_way = [reply for reply in before if reply.ended >= at]
    return {
        "answered_before": len(before) - len(under_way),
        "under_way": len(under_way),
        "lost": sum(reply.status != OK for reply in under_way),
        "statuses_after": dict(Counter(str(reply.status) for reply in after)),
    }
