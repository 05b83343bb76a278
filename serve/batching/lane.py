"""A model as requests see it: texts in, an answer out, refused at once where too much waits already."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from serve.batching.answer import Answer, Lane
from serve.batching.crew import Crew
from serve.batching.errand import Post, Run
from serve.batching.pace import Pace
from serve.batching.ticket import Ticket
from serve.engine import Servable, Side, Text, Token, Tokens, outputs_of
from serve.limits import Limits
from serve.metrics import Meters, Metrics
from serve.problem import Problem

__all__ = ["Answer", "Lane", "ModelLane", "estimate_tokens"]

BYTES_PER_TOKEN = 3
"""English has four to five UTF-8 bytes a token, Chinese three: a guess on the safe side of both."""
INLINE_TOKENS = 512
"""Texts of so many tokens in all, by that guess, are cut into tokens where they arrive: handing over costs as much."""

Result = TypeVar("Result")
Given = TypeVar("Given")


class ModelLane:
    """Calls to one engine; its counters are touched by the event loop alone."""

    def __init__(self, engine: Servable, crew: Crew, limits: Limits, metrics: Metrics) -> None:
        self.engine = engine
        self.queued_tokens = 0
        """Of requests that wait or are being computed, estimated."""
        self._crew = crew
        self._limits = limits
        self._meters = Meters(metrics, engine.name)
        self.pace = Pace()
        self._post = Post(engine, self)
        self._futures: dict[Ticket, asyncio.Future[Ticket]] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retired = False
        crew.join(self._post)

    async def run(self, texts: Sequence[Text], *, cut: Side | None = None) -> Answer:
        """The engine's answer, each text's own; `Problem` 429 at once when too much waits.

        What the engine raises comes out here and touches no other call. Cancelled, it frees what was not begun.
        """
        cost = estimate_tokens(texts, self.engine.max_tokens)
        return await self.run_tokens(partial(self.engine.tokenize, texts, **({"cut": cut} if cut else {})), cost)

    async def run_tokens(self, tokenize: Callable[[], Tokens], cost: int) -> Answer:
        """As `run`, of tokens that `tokenize` makes on any thread; `cost` is a guess of how many."""
        arrived = time.perf_counter()
        self._admit(cost)
        self._count(1, cost)
        try:
            tokens = tokenize() if cost <= INLINE_TOKENS else await self._do(tokenize)
            known = int(tokens.lengths.sum())
            self._count(0, known - cost)
            cost = known
            ticket = await self._wait_for(Ticket(tokens, arrived))
        finally:
            self._count(-1, -cost)
        return self._answer(ticket)

    async def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The engine's tokens, of whole texts."""
        cost = estimate_tokens(texts, self.engine.max_tokens)
        self._admit(cost)
        self._count(1, cost)
        try:
            return await self._do(partial(self.engine.show_tokens, texts, special=special))
        finally:
            self._count(-1, -cost)

    async def work_out(self, job: Callable[[], Result], cost: int) -> Result:
        """What `job` makes of an answer of `cost` tokens: here where that is little, else on a thread of the crew."""
        return job() if cost <= INLINE_TOKENS else await self._do(job)

    async def warm_up(self, texts: Sequence[Text]) -> None:
        """Run each text alone in both ways there are, so that no request is the first of either."""
        for text in texts:
            tokens = self.engine.tokenize([text])
            for wide in (False, True):
                await self._do(partial(self.engine.compute, tokens.encodings, wide=wide))

    async def drain(self) -> None:
        """Once all that was admitted is answered, leave the crew.

        A request that chose this lane before it was replaced may still ask it once more, as one of several steps: it
        is answered, the lane being at the crew for as long as that takes.
        """
        while self.queued_tokens:
            await self._empty.wait()
        if not self._retired:
            self._retired = True
            self._crew.leave(self._post)

    def refuse_when_full(self) -> None:
        """`Problem` 429 when no request would be admitted, at whatever lane of the crew: before its body is read."""
        crew, limits = self._crew, self._limits
        backlog = crew.backlog_seconds
        # However slow the model, no thread goes idle for an overload.
        spare = crew.requests <= crew.threads and backlog <= limits.queue_seconds
        if backlog <= crew.overload.longest_wait(limits) or spare:
            return
        if crew.overload.refuse():
            crew.shed(limits.overload_seconds)
        raise _overloaded(backlog)

    async def _wait_for(self, ticket: Ticket) -> Ticket:
        self._loop = asyncio.get_running_loop()
        future = self._loop.create_future()
        self._futures[ticket] = future
        self._crew.submit(self._post, ticket)
        try:
            return await future  # type: ignore[no-any-return]  # a future knows no type of its own
        finally:
            del self._futures[ticket]
            if not future.done() or future.cancelled():
                self._crew.drop(self._post, ticket)

    async def _do(self, job: Callable[[], Result]) -> Result:
        """`job` on a thread of the crew."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def do() -> None:
            if future.cancelled():
                return
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - it is raised where the job was asked for
                loop.call_soon_threadsafe(_settle, future, future.set_exception, error)
            else:
                loop.call_soon_threadsafe(_settle, future, future.set_result, result)

        self._crew.do(do)
        return await future

    def hand_over(self, run: Run, finished: Sequence[Ticket]) -> None:
        """From a thread of the crew to the event loop."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._deliver, run, finished)

    def _deliver(self, run: Run, finished: Sequence[Ticket]) -> None:
        for ticket in finished:
            future = self._futures.get(ticket)
            if future is not None and not future.done():
                if ticket.error:
                    future.set_exception(ticket.error)
                else:
                    future.set_result(ticket)
        if run.seconds:
            self._observe(run)

    def _answer(self, ticket: Ticket) -> Answer:
        outputs = outputs_of(self.engine, ticket.tokens, ticket.columns, ticket.padded_tokens)
        begun = ticket.begun or ticket.ended
        answer = Answer(
            outputs=outputs,
            tokenization=ticket.tokens.seconds,
            queue=max(0.0, begun - ticket.arrived - ticket.tokens.seconds),
            inference=ticket.ended - begun,
        )
        for phase, meter in self._meters.phases.items():
            meter.observe(getattr(answer, phase))
        return answer

    def _admit(self, cost: int) -> None:
        self.refuse_when_full()
        # An idle lane takes any request: one larger than the bound could otherwise never be answered.
        if self.queued_tokens and self.queued_tokens + cost > self._limits.queue_tokens:
            raise _overloaded(self._crew.backlog_seconds)
        self._crew.overload.admit()

    def shed(self, excess: float) -> float:
        """Refuse what nobody has begun, the latest first, until so many seconds are gone; returns how many are."""
        gone = 0.0
        for ticket, future in reversed(list(self._futures.items())):
            if gone >= excess:
                break
            if future.done() or ticket.is_begun:
                continue
            self._crew.drop(self._post, ticket)
            future.set_exception(_overloaded(excess))
            gone += self._seconds_of(int(ticket.tokens.lengths.sum()))
        return gone

    def _seconds_of(self, tokens: int) -> float:
        return tokens * self.pace.seconds_per_token / self._crew.threads

    def _count(self, requests: int, tokens: int) -> None:
        before = self.queued_tokens
        self.queued_tokens += tokens
        if self._retired and bool(before) != bool(self.queued_tokens):
            (self._crew.join if self.queued_tokens else self._crew.leave)(self._post)
        (self._empty.clear if self.queued_tokens else self._empty.set)()
        self._post.backlog_seconds = self._seconds_of(self.queued_tokens)
        if requests:
            self._post.requests += requests
            self._meters.queued.inc(requests)
        self._meters.queued_tokens.inc(tokens)

    def _observe(self, run: Run) -> None:
        meters = self._meters
        meters.batch_texts.observe(len(run.places))
        meters.batch_tokens.observe(run.tokens)
        meters.tokens.inc(run.tokens)
        meters.padded_tokens.inc(run.padded_tokens)
        self.pace.learn(run.seconds * (self._crew.threads if run.wide else 1), run.tokens)


def _overloaded(backlog: float) -> Problem:
    wait = str(max(1, math.ceil(backlog)))
    return Problem(429, "Overloaded", "the model is overloaded, try again later", {"Retry-After": wait})


def _settle(future: "asyncio.Future[Result]", settle: Callable[[Given], None], given: Given) -> None:
    """Give `future` a result or a fault, unless nobody waits for it."""
    if not future.done():
        settle(given)


def estimate_tokens(texts: Sequence[Text], max_tokens: int) -> int:
    """Tokens that `texts` will cost, guessed from their bytes before they are tokenized."""
    whole = (text if isinstance(text, str) else "".join(text) for text in texts)
    sizes = (len(text.encode("utf-8", "surrogatepass")) for text in whole)
    return sum(min(max_tokens, 2 + size // BYTES_PER_TOKEN) for size in sizes)
