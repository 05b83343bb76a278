"""One model's waiting rows, and which of them run next.

Some rows of each request, the first come first, make a window. It is cut into runs of like lengths, and that of the
shortest texts goes first, unless some request has had no row run for `AGE_SECONDS`: then a run of its rows does.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from serve.batching.cut import cut
from serve.batching.ticket import Ticket

AGE_SECONDS = 0.05
"""How long short texts may overtake a long one."""
WINDOW_ROWS = 16
"""Rows looked at to fill one run. More would find more of like lengths, and make those of rare lengths wait longer
for them (docs/log.md)."""
ROUND_ROWS = 8
"""Rows of one request that enter a window before the next request has its turn."""


class Place(NamedTuple):
    """One row of one ticket."""

    ticket: Ticket
    row: int
    tokens: int


class Schedule:
    """Tickets in order of arrival; not for two threads at once."""

    def __init__(self, batch_tokens: int, window_rows: int = WINDOW_ROWS) -> None:
        self._batch_tokens = batch_tokens
        self._window_rows = window_rows
        self._tickets: list[Ticket] = []

    def add(self, ticket: Ticket) -> None:
        """Let it wait with the others."""
        self._tickets.append(ticket)

    def drop(self, ticket: Ticket) -> None:
        """Forget what of it still waits; what runs goes on, unwanted."""
        ticket.dropped = True
        self.remove(ticket)

    def remove(self, ticket: Ticket) -> None:
        """None of its rows waits any more."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    @property
    def oldest(self) -> float:
        """Since when some request has had no row run; infinity when none waits."""
        return min((ticket.served for ticket in self._tickets), default=math.inf)

    def count_rows(self, most: int) -> int:
        """Rows that wait, counted no further than `most`."""
        rows = 0
        for ticket in self._tickets:
            rows += len(ticket.waiting)
            if rows >= most:
                return most
        return rows

    def take(self, now: float, threads: int) -> list[Place]:
        """The rows that run next, no longer waiting; none when there are none.

        Few rows are shared out among `threads` rather than run together on one.
        """
        window = sorted(self._window(), key=lambda place: place.tokens)
        if not window:
            return []
        tokens = sum(place.tokens for place in window)
        budget = min(self._batch_tokens, max(window[-1].tokens, -(-tokens // threads)))
        runs = [[window[place] for place in run] for run in cut([place.tokens for place in window], budget)]
        chosen = self._choose(runs, now)
        for place in chosen:
            place.ticket.waiting.remove(place.row)
            place.ticket.served = now
        self._tickets = [ticket for ticket in self._tickets if ticket.waiting]
        return chosen

    def _choose(self, runs: list[list[Place]], now: float) -> list[Place]:
        oldest = min(self._tickets, key=lambda ticket: ticket.served)
        if now - oldest.served < AGE_SECONDS:
            return runs[0]
        return next((run for run in runs if any(place.ticket is oldest for place in run)), runs[0])

    def _window(self) -> Iterator[Place]:
        """The first rows of every ticket, then the next of each, until there are enough."""
        rows, begin = 0, 0
        waiting = [list(islice(ticket.waiting, self._window_rows)) for ticket in self._tickets[: self._window_rows]]
        while rows < self._window_rows and any(begin < len(each) for each in waiting):
            for ticket, each in zip(self._tickets, waiting, strict=False):
                share = each[begin : begin + ROUND_ROWS][: self._window_rows - rows]
                for row in share:
                    yield Place(ticket, row, int(ticket.tokens.lengths[row]))
                rows += len(share)
            begin += ROUND_ROWS
