"""Two models that answer as one: the student where it is sure, the teacher where it is not.

    cascades:
      cascade: {student: student/int8, teacher: teacher/float32, calibration: calibration.json}

The promise is the calibration's: what the cascade says agrees with what the teacher would have said, at the level that
was asked for. It holds for text like that of the calibration, and for the two bundles it was made with, which is why
their digests have to match. Where the teacher cannot take a request, the cascade refuses it too: an answer of lower
standing would look no different (unless `degrade` is set).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serve.batching.lane import Answer, Lane
from serve.engine import Computed, Floats, Outputs, Piece, Problem, Servable, Side, Text, Token, Tokens
from serve.passages.passage import Passage
from serve.problem import Problem as Refusal
from serve.trust.confidence import confidence_of
from serve.trust.metrics import TrustMetrics

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class CascadeEngine:
    """What the two are together; `tokenize` and `compute` are the student's alone."""

    name: str
    student: Servable
    teacher: Servable
    threshold: float
    """The student answers alone where its confidence is above it."""
    embedding_size: int = 0
    """None: vectors of two models lie in different spaces."""

    @property
    def labels(self) -> Sequence[str]:
        """The same of both."""
        return self.student.labels

    @property
    def problem(self) -> Problem | None:
        """The same of both."""
        return self.student.problem

    @property
    def max_tokens(self) -> int:
        """Longest input that neither cuts."""
        return min(self.student.max_tokens, self.teacher.max_tokens)

    @property
    def pooling(self) -> str:
        """The student's."""
        return self.student.pooling

    @property
    def batch_tokens(self) -> int:
        """The student's."""
        return self.student.batch_tokens

    @property
    def domain_threshold(self) -> float | None:
        """The student's, which measures the distance of every text."""
        found: float | None = getattr(self.student, "domain_threshold", None)
        return found

    def describe(self) -> dict[str, str | float]:
        """What it is made of, for `/info`."""
        return {"student": self.student.name, "teacher": self.teacher.name, "threshold": self.threshold}

    def run(self, texts: Sequence[Text]) -> Outputs:
        """The answers, and where they are from is not said: for measurements."""
        first = self.student.run(texts)
        rows = self.unsure(first.logits)
        return merge(first, self.teacher.run([texts[row] for row in rows]), rows) if len(rows) else first

    def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The student's."""
        return self.student.show_tokens(texts, special=special)

    def tokenize(self, texts: Sequence[Text], *, cut: Side | None = None) -> Tokens:
        """The student's."""
        return self.student.tokenize(texts, cut=cut)

    def read(self, texts: Sequence[Text]) -> tuple[list[Passage], float]:
        """The student's."""
        return self.student.read(texts)

    def compute(self, encodings: Sequence[Piece], *, wide: bool) -> Computed:
        """The student's."""
        return self.student.compute(encodings, wide=wide)

    def unsure(self, logits: Floats) -> NDArray[np.intp]:
        """Rows of the student's `logits` that are the teacher's to answer."""
        return np.flatnonzero(confidence_of(logits) <= self.threshold)


def merge(first: Outputs, second: Outputs, rows: NDArray[np.intp]) -> Outputs:
    """`first` with the logits of `second` at `rows`; a text counts as cut where either model cut it.

    Tokens and the distance from the domain are those of `first`, which read every text.
    """
    logits = first.logits.copy()
    logits[rows] = second.logits
    truncated = first.truncated
    if truncated is not None and second.truncated is not None:
        truncated = truncated.copy()
        truncated[rows] |= second.truncated
    return replace(
        first,
        logits=logits,
        embeddings=np.zeros((len(logits), 0), dtype=np.float32),
        truncated=truncated,
        padded_tokens=first.padded_tokens + second.padded_tokens,
        tokenization_seconds=first.tokenization_seconds + second.tokenization_seconds,
    )


class Cascade:
    """The lane of a `CascadeEngine`: what it asks waits in the lanes of its two models."""

    queued_tokens = 0
    """They are counted in those two lanes."""

    def __init__(
        self, engine: CascadeEngine, student: Lane, teacher: Lane, metrics: TrustMetrics, *, degrade: bool = False
    ) -> None:
        self._engine = engine
        self._student = student
        self._teacher = teacher
        # Looked up once: a lookup by label costs as much as counting.
        self._texts = {
            lane.engine.name: metrics.cascade_texts.labels(engine.name, lane.engine.name) for lane in (student, teacher)
        }
        self._escalations = metrics.escalations.labels(engine.name)
        self._degraded = metrics.degraded.labels(engine.name)
        self._degrade = degrade
        self._running = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def engine(self) -> CascadeEngine:
        """Both models."""
        return self._engine

    async def run(self, texts: Sequence[Text], *, cut: Side | None = None) -> Answer:
        """The student's answers, and the teacher's where that was unsure; the times of both are added.

        `Problem` 429 when either has no room.
        """
        self._running += 1
        self._empty.clear()
        try:
            answer = await self._run(texts, cut)
        finally:
            self._running -= 1
            if not self._running:
                self._empty.set()
        for name, count in Counter(answer.answered_by).items():
            self._texts[name].inc(count)
        return answer

    async def run_tokens(self, tokenize: Callable[[], Tokens], cost: int) -> Answer:  # noqa: ARG002 - for other lanes
        """`Problem` 422: each model has tokens of its own."""
        message = f"{self.engine.name} answers whole texts, ask one of its models"
        raise Refusal(422, "Validation", message, param="model")

    async def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The student's tokens."""
        return await self._student.show_tokens(texts, special=special)

    async def work_out(self, job: Callable[[], Result], cost: int) -> Result:
        """In the student's lane."""
        return await self._student.work_out(job, cost)

    async def warm_up(self, texts: Sequence[Text]) -> None:
        """Nothing: its models are warmed in their own lanes."""

    async def drain(self) -> None:
        """Return once no request is between the two models; drain this before their lanes."""
        await self._empty.wait()

    def refuse_when_full(self) -> None:
        """As the student's lane."""
        self._student.refuse_when_full()

    async def _run(self, texts: Sequence[Text], cut: Side | None) -> Answer:
        first = await self._student.run(texts, cut=cut)
        rows = self.engine.unsure(first.outputs.logits)
        second = await self._escalate([texts[row] for row in rows], cut) if len(rows) else None
        answered_by = [self._student.engine.name] * len(texts)
        if second is None:
            return replace(first, answered_by=tuple(answered_by), confidence=confidence_of(first.outputs.logits))
        for row in rows:
            answered_by[row] = self._teacher.engine.name
        outputs = merge(first.outputs, second.outputs, rows)
        return Answer(
            outputs=outputs,
            tokenization=first.tokenization + second.tokenization,
            queue=first.queue + second.queue,
            inference=first.inference + second.inference,
            answered_by=tuple(answered_by),
            confidence=confidence_of(outputs.logits),
        )

    async def _escalate(self, texts: Sequence[Text], cut: Side | None) -> Answer | None:
        self._escalations.inc()
        try:
            return await self._teacher.run(texts, cut=cut)
        except Refusal as problem:
            if not self._degrade or problem.status != 429:
                raise
            self._degraded.inc(len(texts))
            return None
