"""A share of the student's texts goes to the teacher too, after they were answered and when nobody waits.

A live agreement needs no label: it says on today's traffic what a calibration said on held-out text. The teacher is
asked one text at a time, and only while no request waits or is computed, so that what a shadow can cost a request is
the rest of one run of one text. Texts are drawn by a seeded generator, kept in memory until they are asked, at most
`PENDING`, and never logged.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from serve.batching.lane import Answer, Lane
from serve.engine import Text
from serve.trust.bound import wilson
from serve.trust.confidence import confidence_of
from serve.trust.config import ShadowConfig
from serve.trust.metrics import TrustMetrics
from serve.trust.window import Drift, Share

PENDING = 64
"""Texts that may wait for a quiet moment; one more and it is dropped."""


class Shadow:
    """A watcher of the desk; it is told on the event loop, and works there."""

    def __init__(
        self,
        config: ShadowConfig,
        lanes: Callable[[], Mapping[str, Lane]],
        metrics: TrustMetrics,
        reference: Sequence[float] | None = None,
    ) -> None:
        self._config = config
        self._lanes = lanes
        self._metrics = metrics
        self._given = reference
        self._random = random.Random(0)  # noqa: S311 - a sample to be repeated, no secret
        self._pending: deque[tuple[Text, int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._pair = (config.student, config.teacher)
        self._engines: tuple[object, object] | None = None
        self._begin()

    def __call__(self, lane: Lane, texts: Sequence[Text], answer: Answer) -> None:
        """Draw from an answer of the student's, and ask the teacher if nobody waits."""
        if lane.engine.name != self._config.student:
            return
        self._follow(lane)
        logits = answer.outputs.logits
        self._tell_drift(confidence_of(logits).tolist())
        for text, label in zip(texts, logits.argmax(axis=1).tolist(), strict=True):
            if self._random.random() >= self._config.share:
                continue
            if len(self._pending) < PENDING:
                self._pending.append((text, label))
            else:
                self._drop("busy")
        if self._pending and self._quiet() and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        while self._pending and self._quiet():
            text, label = self._pending.popleft()
            teacher = self._lanes()[self._config.teacher]
            engines = self._engines
            try:
                answer = await teacher.run([text])
            except Exception:  # noqa: BLE001 - whatever it is, nobody asked for this answer; it is counted
                self._drop("failed")
                continue
            if engines is self._engines:
                self._tell_agreement(agreed=int(answer.outputs.logits[0].argmax()) == label)

    def _quiet(self) -> bool:
        return not any(lane.queued_tokens for lane in self._lanes().values())

    def _follow(self, student: Lane) -> None:
        """Begin anew where either model was replaced: what was seen is of another pair."""
        engines = (student.engine, self._lanes()[self._config.teacher].engine)
        known = self._engines
        if known is None or known[0] is not engines[0] or known[1] is not engines[1]:
            if known is not None:
                self._begin()
            self._engines = engines

    def _begin(self) -> None:
        self._agreement = Share(self._config.window)
        self._drift = Drift(self._config.window, self._given)
        self._pending.clear()

    def _tell_drift(self, confidences: Iterable[float]) -> None:
        found = self._drift.add(confidences)
        if found is not None:
            self._metrics.drift.labels(self._config.student).set(found)

    def _tell_agreement(self, *, agreed: bool) -> None:
        metrics, share = self._metrics, self._agreement
        metrics.shadow_texts.labels(*self._pair).inc()
        if agreed:
            metrics.shadow_agreed.labels(*self._pair).inc()
        share.add([agreed])
        low, high = wilson(share.count, len(share))
        metrics.agreement.labels(*self._pair).set(share.count / len(share))
        metrics.agreement_low.labels(*self._pair).set(low)
        metrics.agreement_high.labels(*self._pair).set(high)

    def _drop(self, reason: str) -> None:
        self._metrics.shadow_dropped.labels(*self._pair, reason).inc()
