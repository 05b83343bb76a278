"""Who is told of every answer: the watch over domains, and the shadow where the service's file asks for one."""

from collections.abc import Sequence

from prometheus_client import Gauge

from serve.batching.lane import Answer, Lane
from serve.config import ServiceConfig
from serve.engine import Text
from serve.http.desk import Desk, Watcher
from serve.http.domain import out_of_domain, threshold_of
from serve.trust.check import reference_of
from serve.trust.metrics import TrustMetrics
from serve.trust.shadow import Shadow
from serve.trust.window import Share

WINDOW = 1000
"""Answers that the out-of-domain rate looks back on."""


def watchers_of(desk: Desk, config: ServiceConfig, metrics: TrustMetrics) -> list[Watcher]:
    """For `desk`, whose lanes they read anew each time, since these may be replaced."""
    watchers: list[Watcher] = [DomainWatch(metrics)]
    if config.shadow:
        reference = reference_of(config.shadow.calibration)
        watchers.append(Shadow(config.shadow, lambda: desk.roster.lanes, metrics, reference))
    return watchers


class DomainWatch:
    """How many of each model's last texts were unlike those it knows."""

    def __init__(self, metrics: TrustMetrics, window: int = WINDOW) -> None:
        self._metrics = metrics
        self._window = window
        self._known: dict[str, tuple[Share, Gauge]] = {}
        """By model; the gauge is looked up once, since that costs as much as setting it."""

    def __call__(self, lane: Lane, _: Sequence[Text], answer: Answer) -> None:
        """Count one answer, if its model measures distances and has a threshold for them."""
        threshold = threshold_of(lane.engine)
        distances = answer.outputs.domain
        if threshold is None or distances is None:
            return
        name = lane.engine.name
        if name not in self._known:
            self._known[name] = Share(self._window), self._metrics.out_of_domain.labels(name)
        share, gauge = self._known[name]
        share.add(out_of_domain(distances, threshold).tolist())
        if len(share):
            gauge.set(share.count / len(share))
