"""Work that ends when nobody waits for it any more: the client hung up, or said how long it would wait."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from serve.problem import Problem

TIMEOUT = "x-request-timeout"
"""Header: how many seconds the client waits."""

Result = TypeVar("Result")


def read_timeout(request: Request) -> float | None:
    """Seconds the client waits, None when it does not say; `Problem` 400 when that is no positive number."""
    text = request.headers.get(TIMEOUT)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise Problem(400, "Validation", "the X-Request-Timeout header is not a positive number of seconds")
    return seconds


async def while_wanted(request: Request, work: Awaitable[Result], seconds: float | None) -> Result:
    """What `work` gives, which is cancelled when the client hangs up or `seconds` are over; the body must be read.

    Raises `ClientDisconnect`, or `Problem` 504.
    """
    task = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        if task is not None:
            gone = True
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        async with asyncio.timeout(seconds) as timeout:
            return await work
    except TimeoutError:
        if not timeout.expired():
            raise
        message = f"not answered within the {seconds:g} s of the X-Request-Timeout header"
        raise Problem(504, "Timeout", message) from None
    except asyncio.CancelledError:
        if not gone or task is None or task.uncancel():
            raise
        raise ClientDisconnect from None
    finally:
        watcher.cancel()
        if gone:  # hung up just as the work was done: the cancellation is still to come, and is taken here
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
