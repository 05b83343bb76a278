"""An event loop that wakes up on time.

asyncio rounds what it waits up to whole milliseconds, because `epoll_wait` counts in them; an open loop would send
half a millisecond late on average, and count that as the service's. `select` takes microseconds, and can watch it.
"""

import asyncio
import select
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

HIGHEST_SELECTABLE = 1023
"""File descriptors above it are too many for `select`."""


class _PunctualSelector(selectors.DefaultSelector):
    """Waits in `select` until there is something or it is time, and then asks for what there is."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Of `selectors.BaseSelector`."""
        if timeout is not None and timeout > 0 and self.fileno() <= HIGHEST_SELECTABLE:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are late by some ten microseconds, not by a millisecond."""
    punctual = issubclass(selectors.DefaultSelector, getattr(selectors, "EpollSelector", ()))
    return asyncio.SelectorEventLoop(_PunctualSelector() if punctual else None)


def run_on_time(work: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`, on such a loop."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)
