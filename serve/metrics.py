"""What operators watch: requests, errors, where the time goes, what waits, and how much is padding.

Under several workers every value is also kept in a file of its process (`PROMETHEUS_MULTIPROC_DIR`, which BentoML
sets), so that each worker can answer for all of them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = CONTENT_TYPE_LATEST

Mode = Literal["livesum", "livemax"]
"""What the workers' values of a gauge come to."""

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
PHASES = ("tokenization", "queue", "inference")
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Variable that names the folder of the workers' files."""
RATIOS = (0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Meters:
    """One model's own counters, looked up once: a lookup by label costs as much as counting."""

    def __init__(self, metrics: "Metrics", model: str) -> None:
        self.phases = {phase: metrics.phases.labels(model, phase) for phase in PHASES}
        self.batch_texts = metrics.batch_texts.labels(model)
        self.batch_tokens = metrics.batch_tokens.labels(model)
        self.tokens = metrics.tokens.labels(model)
        self.padded_tokens = metrics.padded_tokens.labels(model)
        self.queued = metrics.queued.labels(model)
        self.queued_tokens = metrics.queued_tokens.labels(model)


class Metrics:
    """The counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "understudy_requests", "Requests answered.", ("route", "status"), registry=self._registry
        )
        self.errors = Counter(
            "understudy_errors", "Requests answered with an error.", ("status",), registry=self._registry
        )
        self.seconds = self._histogram("request_seconds", "Whole request, body to answer.", ("route",), SECONDS)
        self.phases = self._histogram("phase_seconds", "Time in one phase of a call.", ("model", "phase"), SECONDS)
        self.batch_texts = self._histogram("batch_texts", "Texts of one call.", ("model",), TOKENS[:8])
        self.batch_tokens = self._histogram("batch_tokens", "Tokens of one call, padding left out.", ("model",), TOKENS)
        self.tokens = self._counter("tokens", "Tokens read, padding left out.")
        self.padded_tokens = self._counter("padded_tokens", "Token slots computed; the surplus over tokens is padding.")
        self.out_of_domain = self._counter(
            "out_of_domain_texts", "Texts farther from what the model knows than allowed."
        )
        self.domain_ratio = self._histogram(
            "domain_distance_ratio", "Distance of a text from what the model knows, over its limit.", ("model",), RATIOS
        )
        self.queued = self._gauge("queued_requests", "Requests that wait or are being computed.")
        self.queued_tokens = self._gauge("queued_tokens", "Tokens of those, estimated.")
        self.workers = self._gauge("workers", "Worker processes that live.", ())
        self.workers.set(1)
        self._threads = self._gauge("threads", "The thread plan, of the whole service.", ("kind",), "livemax")
        self.swaps = Counter(
            "understudy_swaps", "Swaps asked for or followed.", ("model", "outcome"), registry=self._registry
        )
        self.bundle_info = self._gauge(
            "bundle_info", "Workers that serve the model from the bundle of that digest.", ("model", "digest")
        )

    def show_plan(self, plan: Mapping[str, int]) -> None:
        """Cores, workers, and the threads that compute in each (`intra_op`)."""
        for kind, count in plan.items():
            self._threads.labels(kind.removesuffix("_threads")).set(count)

    @property
    def registry(self) -> CollectorRegistry:
        """Where others may add theirs."""
        return self._registry

    def render(self) -> bytes:
        """The text format of Prometheus, of all workers where there are several."""
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        forget_the_dead(Path(os.environ[SHARED]))
        gathered = CollectorRegistry()
        MultiProcessCollector(gathered)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(gathered)

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(f"understudy_{name}", text, labels, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"understudy_{name}", text, ("model",), registry=self._registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ("model",), mode: Mode = "livesum") -> Gauge:
        return Gauge(f"understudy_{name}", text, labels, registry=self._registry, multiprocess_mode=mode)


def forget_the_dead(directory: Path) -> None:
    """Delete the gauges of workers that have ended: what a killed one had queued would be counted for ever."""
    for path in directory.glob("gauge_live*_*.db"):
        number = re.fullmatch(r"gauge_live\w*_(\d+)\.db", path.name)
        if number and not psutil.pid_exists(int(number[1])):
            mark_process_dead(int(number[1]), str(directory))  # type: ignore[no-untyped-call]  # as above
