"""When more is asked for, and for longer, than the threads can do: then little may wait.

A long queue serves a burst: what came at once is answered one after the other, and then it is empty. While more comes
than can be answered it never is, and makes everybody wait as long as it may get. So the first request that finds it
full begins an overload: what waits is cut short, and from then on so little may wait that what is accepted is answered
as soon as if there were none. It is over when few enough are refused that a long queue would empty.
"""

import time
from collections import deque
from collections.abc import Callable

WATCHED_SECONDS = 1.0
"""Of which the refused share is taken: an overload lasts at least so long."""
REFUSED_SHARE = 0.25
"""Of requests, below which an overload is over: a short queue refuses some of what the threads could do."""


class Overload:
    """Whether there is one, told of each request by the event loop alone."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._since: float | None = None
        self._seen: deque[tuple[float, bool]] = deque()
        """When a request came, while there is an overload, and whether it was refused."""
        self._refused = 0
        """Of those."""

    def is_on(self) -> bool:
        """Whether little may wait; forgets an overload that is over."""
        if self._since is not None and self._now() - self._since >= WATCHED_SECONDS:
            self._forget()
            if self._refused <= REFUSED_SHARE * len(self._seen):
                self._since, self._refused = None, 0
                self._seen.clear()
        return self._since is not None

    def admit(self) -> None:
        """A request was let in."""
        self._see(refused=False)

    def refuse(self) -> bool:
        """A request was sent away because too much waits; whether an overload begins with it."""
        begins = self._since is None
        if begins:
            self._since = self._now()
        self._see(refused=True)
        return begins

    def _see(self, *, refused: bool) -> None:
        if self._since is not None:
            self._seen.append((self._now(), refused))
            self._refused += refused
            self._forget()

    def _forget(self) -> None:
        since = self._now() - WATCHED_SECONDS
        while self._seen and self._seen[0][0] < since:
            self._refused -= self._seen.popleft()[1]
