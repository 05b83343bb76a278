"""One run, from the schedule to the tickets: what a thread of the crew carries out."""

import threading
import time
import weakref
from collections.abc import Sequence
from typing import Protocol

from serve.batching.cut import THREAD_TOKENS
from serve.batching.schedule import Place, Schedule
from serve.batching.ticket import Ticket
from serve.engine import Servable


class Run:
    """Rows that one call of a model computes together, and what that took."""

    def __init__(self, places: Sequence[Place], *, wide: bool) -> None:
        self.places = places
        self.wide = wide
        """Whether it has all threads to itself."""
        self.tokens = sum(place.tokens for place in places)
        self.padded_tokens = len(places) * max(place.tokens for place in places)
        self.seconds = 0.0


class Owner(Protocol):
    """Who asks at a post."""

    def hand_over(self, run: Run, finished: Sequence[Ticket]) -> None:
        """Hear of a run and of the tickets it finished, on a thread of the crew and without its lock; may not raise."""

    def shed(self, excess: float) -> float:
        """Send away so many seconds of what waits, as far as that goes; returns how many. Asked by the event loop."""


class Post:
    """One model's place at a crew, and what waits for it. It does not keep its owner, who may be gone."""

    def __init__(self, engine: Servable, owner: Owner) -> None:
        self.engine = engine
        self._owner = weakref.ref(owner)
        self.schedule = Schedule(min(engine.batch_tokens, THREAD_TOKENS))
        self.backlog_seconds = 0.0
        """How long what was admitted will take, if nothing else is in the way."""
        self.requests = 0
        """Admitted and not answered."""

    def tell(self, run: Run, finished: Sequence[Ticket]) -> None:
        """Hand over to the owner; gone, it has nobody left who waits."""
        if (owner := self._owner()) is not None:
            owner.hand_over(run, finished)

    def shed(self, excess: float) -> float:
        """As the owner."""
        return 0.0 if (owner := self._owner()) is None else owner.shed(excess)


def carry_out(lock: threading.Condition, post: Post, run: Run) -> None:
    """Compute `run` and hand its rows out.

    Where a run of several tickets fails, each is run again by itself: a fault is told to those who caused it alone.
    """
    begun = time.perf_counter()
    try:
        computed = post.engine.compute(
            [place.ticket.tokens.encodings[place.row] for place in run.places], wide=run.wide
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the requests of this run
        tickets = {id(place.ticket): place.ticket for place in run.places}
        if len(tickets) > 1:
            for ticket in tickets.values():
                carry_out(lock, post, Run([place for place in run.places if place.ticket is ticket], wide=run.wide))
            return
        (ticket,) = tickets.values()
        post.tell(run, _fail(lock, post, ticket, error))
        return
    ended = time.perf_counter()
    run.seconds = ended - begun
    finished = []
    with lock:
        for number, place in enumerate(run.places):
            ticket = place.ticket
            if ticket.error or ticket.dropped:
                continue
            ticket.put(place.row, number, computed)
            ticket.begun = ticket.begun or begun
            ticket.ended = ended
            ticket.padded_tokens += run.padded_tokens // len(run.places)
            if not ticket.left:
                finished.append(ticket)
    post.tell(run, finished)


def _fail(lock: threading.Condition, post: Post, ticket: Ticket, error: Exception) -> list[Ticket]:
    with lock:
        if ticket.error or ticket.dropped:
            return []
        ticket.fail(error)
        post.schedule.remove(ticket)
    return [ticket]
