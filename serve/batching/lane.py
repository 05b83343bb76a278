"""One engine's queue: bounded in tokens, full at once rather than late, computed one call at a time off the loop."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from serve.engine import Engine, Outputs, Text, Token
from serve.http.replies import Problem
from serve.metrics import Metrics

BYTES_PER_TOKEN = 3
"""English has four to five UTF-8 bytes a token, Chinese three: a guess on the safe side of both."""


Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came out of a lane, and how long each phase took, in seconds."""

    outputs: Outputs
    tokenization: float
    queue: float
    inference: float


class Lane:
    """Calls to one engine, in order of arrival; its counters are touched by the event loop alone."""

    def __init__(self, engine: Engine, max_queued_tokens: int, metrics: Metrics) -> None:
        self.engine = engine
        self._max_queued_tokens = max_queued_tokens
        self._metrics = metrics
        self._queued_tokens = 0
        self._seconds_per_token = 0.0001
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"lane-{engine.name}")

    async def run(self, texts: Sequence[Text]) -> Answer:
        """The engine's answer once the calls before it are done; `Problem` 429 at once when too much waits.

        What the engine raises comes out here and touches no other call.
        """
        cost = estimate_tokens(texts, self.engine.max_tokens)
        answer = await self._take_turn(cost, partial(self._call, texts, time.perf_counter()))
        self._observe(answer, cost)
        return answer

    async def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The engine's tokens, in the same queue: the tokenizer is the engine's too, and takes one call at a time."""
        cost = estimate_tokens(texts, self.engine.max_tokens)
        return await self._take_turn(cost, partial(self.engine.show_tokens, texts, special=special))

    def close(self) -> None:
        """Finish what was admitted, then end the thread."""
        self._executor.shutdown(wait=True)

    async def _take_turn(self, cost: int, work: Callable[[], Result]) -> Result:
        self._admit(cost)
        self._count(1, cost)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._count(-1, -cost)

    def _admit(self, cost: int) -> None:
        # An idle lane takes any request: one larger than the bound could otherwise never be answered.
        if self._queued_tokens and self._queued_tokens + cost > self._max_queued_tokens:
            wait = max(1, math.ceil(self._queued_tokens * self._seconds_per_token))
            raise Problem(429, "Overloaded", "the model is overloaded, try again later", {"Retry-After": str(wait)})

    def _call(self, texts: Sequence[Text], arrived: float) -> Answer:
        begun = time.perf_counter()
        outputs = self.engine.run(texts)
        computed = time.perf_counter() - begun
        tokenization = outputs.tokenization_seconds
        return Answer(
            outputs=outputs, tokenization=tokenization, queue=begun - arrived, inference=computed - tokenization
        )

    def _count(self, requests: int, tokens: int) -> None:
        self._queued_tokens += tokens
        self._metrics.queued.labels(self.engine.name).inc(requests)
        self._metrics.queued_tokens.labels(self.engine.name).inc(tokens)

    def _observe(self, answer: Answer, cost: int) -> None:
        name, metrics, tokens = self.engine.name, self._metrics, int(answer.outputs.tokens.sum())
        for phase in ("tokenization", "queue", "inference"):
            metrics.phases.labels(name, phase).observe(getattr(answer, phase))
        metrics.batch_texts.labels(name).observe(len(answer.outputs.tokens))
        metrics.batch_tokens.labels(name).observe(tokens)
        metrics.tokens.labels(name).inc(tokens)
        metrics.padded_tokens.labels(name).inc(answer.outputs.padded_tokens or tokens)
        latest = (answer.tokenization + answer.inference) / cost
        self._seconds_per_token += 0.2 * (latest - self._seconds_per_token)


def estimate_tokens(texts: Sequence[Text], max_tokens: int) -> int:
    """Tokens that `texts` will cost, guessed from their bytes before they are tokenized."""
    whole = (text if isinstance(text, str) else "".join(text) for text in texts)
    sizes = (len(text.encode("utf-8", "surrogatepass")) for text in whole)
    return sum(min(max_tokens, 2 + size // BYTES_PER_TOKEN) for size in sizes)
