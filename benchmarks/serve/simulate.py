"""The order of runs on paper: the service's own schedule, and threads that take as long as their padded tokens.

    python -m benchmarks.serve.simulate

No clock and no model: a run takes (padded tokens + 8) / 3,500 s, as all-MiniLM-L6-v2 does on one core of our machine,
so that a minute shows what an hour of measuring would drown in noise. Not a result, but a way to choose constants.
"""

import heapq
import itertools
from collections import deque
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np

from serve.batching.cut import RUN_TOKENS, THREAD_TOKENS
from serve.batching.schedule import Schedule
from serve.batching.ticket import Ticket
from serve.load.texts import draw_lengths

TOKENS_PER_SECOND = 3500.0
THREADS = 2
TEXTS = 6000
CONNECTIONS = 32
RATES = (132.0, 160.0)


class Simulated(NamedTuple):
    """What came out."""

    texts_per_second: float
    latency_ms: np.ndarray
    """Of every text, in the order of their answers."""


def simulate(*, rate: float | None, window: int, budget: int = THREAD_TOKENS, seed: int = 1) -> Simulated:
    """Texts at random times of `rate` a second; without one, over `CONNECTIONS` that each wait for their answer."""
    random = np.random.default_rng(seed)
    texts = iter(draw_lengths(TEXTS, seed))
    times = np.zeros(CONNECTIONS) if rate is None else np.cumsum(random.exponential(1 / rate, TEXTS))
    numbers = itertools.count()
    events: list[tuple[float, int, list[Any]]] = [(float(at), next(numbers), []) for at in times]
    waiting, free, now, found = Schedule(budget, window), THREADS, 0.0, []
    while events:
        now, _, done = heapq.heappop(events)
        free += bool(done)
        found += [(now - ticket.arrived) * 1e3 for ticket in done]
        # An arrival, or in a closed loop one for each answer.
        for length in itertools.islice(texts, len(done) if rate is None and done else not done):
            waiting.add(_ticket(length, now))
        while free and waiting.count_rows(1):
            places = waiting.take(now, min(THREADS, waiting.count_rows(THREADS)))
            seconds = (max(place.tokens for place in places) * len(places) + RUN_TOKENS) / TOKENS_PER_SECOND
            heapq.heappush(events, (now + seconds, next(numbers), [place.ticket for place in places]))
            free -= 1
    return Simulated(len(found) / now, np.array(found))


def _ticket(length: int, now: float) -> Ticket:
    """As much of a ticket as a schedule looks at."""
    fields = {"tokens": SimpleNamespace(lengths=[length]), "arrived": now, "served": now, "waiting": deque([0])}
    return cast("Ticket", SimpleNamespace(**fields))


def main() -> None:
    """A table of windows and loads."""
    print("load                 window  texts/s   p50 ms   p99 ms")  # noqa: T201 - what it is for
    for rate, window in itertools.product((None, *RATES), (64, 32, 16, 8)):
        found = simulate(rate=rate, window=window)
        p50, p99 = np.quantile(found.latency_ms, [0.5, 0.99])
        load = f"{CONNECTIONS} connections" if rate is None else f"open at {rate:.0f}/s"
        print(f"{load:<20} {window:>6} {found.texts_per_second:>8.0f} {p50:>8.0f} {p99:>8.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
