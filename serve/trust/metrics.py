"""What operators watch of a cascade and a shadow.

A share cannot be added up over workers. Of several, the gauges show the most worrying: the lowest agreement and both
its bounds, the highest drift and out-of-domain rate. The counters add up; their rates give the agreement of all.
"""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

PAIR = ("student", "teacher")


class TrustMetrics:
    """The counters and gauges of one application, in the registry of its others."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.cascade_texts = self._counter("cascade_texts", "Texts answered.", "cascade", "answered_by")
        self.escalations = self._counter("cascade_escalations", "Requests in which the teacher was asked.", "cascade")
        self.degraded = self._counter("cascade_degraded_texts", "Unsure answers given as they were.", "cascade")
        self.shadow_texts = self._counter("shadow_texts", "Texts that the teacher was asked too.", *PAIR)
        self.shadow_agreed = self._counter("shadow_agreed", "Those on which both named the same label.", *PAIR)
        self.shadow_dropped = self._counter("shadow_dropped", "Texts drawn and not asked.", *PAIR, "reason")
        self.agreement = self._gauge("shadow_agreement", "Share agreed, of the last texts asked.", "min", *PAIR)
        self.agreement_low = self._gauge("shadow_agreement_low", "Its lower bound, 95 % (Wilson).", "min", *PAIR)
        self.agreement_high = self._gauge("shadow_agreement_high", "Its upper bound.", "min", *PAIR)
        self.drift = self._gauge(
            "score_drift",
            "Largest distance of the confidences' distribution from its reference, 0 to 1.",
            "max",
            "model",
        )
        self.out_of_domain = self._gauge(
            "out_of_domain_rate", "Share of the last texts beyond the domain's threshold.", "max", "model"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"understudy_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, of_several: Literal["min", "max"], *labels: str) -> Gauge:
        mode: Literal["livemin", "livemax"] = "livemin" if of_several == "min" else "livemax"
        return Gauge(f"understudy_{name}", text, labels, registry=self._registry, multiprocess_mode=mode)
