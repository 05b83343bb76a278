"""When more is asked for, and for longer, than the threads can do: then little may wait.

A long queue serves a burst: what came at once is answered one after the other, and then it is empty. While more comes
than can be answered it never is, and makes everybody wait as long as it may get. So the first request that finds it
full begins an overload: what waits is cut short, and from then on so little may wait that what is accepted is answered
as soon as if there were none.

It is over when few enough are refused that a long queue would empty. Few clients who ask again at once, instead of
waiting as they are told, are refused as often as many are; so now and then a longer queue is tried. If it holds all
that is asked for, there was no overload but impatience.
"""

import time
from collections import deque
from collections.abc import Callable

from serve.limits import Limits

WATCHED_SECONDS = 1.0
"""Of which the refused share is taken, and how long a longer queue is tried."""
REFUSED_SHARE = 0.25
"""Of requests, below which an overload is over: a short queue refuses some of what the threads could do."""
FIRST_TRIAL_SECONDS, LONGEST_TRIAL_SECONDS = 10.0, 300.0
"""From the beginning of an overload to the first trial of a longer queue, which doubles with each that fails."""
TRIED_SHARE = 0.25
"""Of the longest queue."""


class Overload:
    """Whether there is one, told of each request by the event loop alone."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._since: float | None = None
        """When it began; None while there is none."""
        self._patience = FIRST_TRIAL_SECONDS
        self._seen: deque[tuple[float, bool]] = deque()
        """When a request came, while there is an overload, and whether it was refused."""
        self._refused = 0
        """Of those."""

    def longest_wait(self, limits: Limits) -> float:
        """Seconds that what waits may be expected to take, now."""
        if self._since is None:
            return limits.queue_seconds
        now = self._now()
        self._forget(now)
        few = self._refused <= REFUSED_SHARE * len(self._seen)
        trial = self._since + self._patience
        if (few and now - self._since >= WATCHED_SECONDS) or now >= trial + WATCHED_SECONDS:
            self._since = None
            return limits.queue_seconds
        shortest = min(limits.overload_seconds, limits.queue_seconds)
        return max(shortest, TRIED_SHARE * limits.queue_seconds) if now >= trial else shortest

    def admit(self) -> None:
        """A request was let in."""
        self._see(refused=False)

    def refuse(self) -> bool:
        """A request was sent away because too much waits; whether what waits is to be cut short."""
        now = self._now()
        begins = self._since is None
        failed = self._since is not None and now >= self._since + self._patience
        if begins or failed:
            self._patience = FIRST_TRIAL_SECONDS if begins else min(2 * self._patience, LONGEST_TRIAL_SECONDS)
            self._since, self._refused = now, 0
            self._seen.clear()
        self._see(refused=True)
        return begins or failed

    def _see(self, *, refused: bool) -> None:
        if self._since is not None:
            now = self._now()
            self._seen.append((now, refused))
            self._refused += refused
            self._forget(now)

    def _forget(self, now: float) -> None:
        while self._seen and self._seen[0][0] < now - WATCHED_SECONDS:
            self._refused -= self._seen.popleft()[1]
