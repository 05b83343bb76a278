"""What `understudy load` found, as `load.json` keeps it: every sample, and the figures that were made of them."""

from collections.abc import Sequence
from typing import Any, Literal

from artifact.config import Config
from pipeline.bench_server import make_rate_point
from pipeline.results import Interval, RatePoint
from pipeline.statistics import percentile, wilson
from serve.load.client import ACCEPTED
from serve.load.histogram import Bucket, count_buckets
from serve.load.loops import Closed
from serve.load.rate import Point

Ended = Literal["complete", "interrupted", "failed"]

FOREVER_MS = 1e12
"""Stands for what never came, while samples are sorted."""


class LoadFigures(Config):
    """Percentiles of one run, each None where its samples do not support it, or where failures reach into it."""

    p50_ms: Interval | None
    p90_ms: Interval | None
    p99_ms: Interval | None
    histogram: tuple[Bucket, ...]
    """Of the requests answered: buckets as wide as a sixteenth of their power of two."""


class LoadPoint(RatePoint):
    """One rate with all there is to say of it."""

    failures: dict[str, int]
    """By status; `0` is a connection that broke, or no answer in time."""
    late_p99_ms: float
    """How late the client got round to its requests."""
    fault: str
    """Why the point says nothing of the service; empty where it does."""
    kept: bool
    """Whether at most one request in a hundred was slower than the objective; a failed one is."""
    beyond: Interval | None
    """Share of requests slower than the objective, with Wilson's interval; None of no requests."""
    figures: LoadFigures


class ClosedRun(Config):
    """The closed loop beside it: each connection one request after the other."""

    connections: int
    seconds: float
    latency_ms: tuple[float, ...]
    """Of each request answered, from when it was sent."""
    failed: int
    requests_per_second: float
    """Answered."""
    figures: LoadFigures


class LoadReport(Config):
    """`load.json`."""

    schema_version: Literal[1] = 1
    url: str
    model: str | None
    texts: str
    """Where they are from, and how many."""
    objective_p99_ms: float
    seconds: float
    connections: int
    seed: int
    points: tuple[LoadPoint, ...]
    """In the order measured."""
    knee_per_second: float | None
    bounded: bool
    """Whether a higher rate missed the objective."""
    closed: ClosedRun | None
    ended: Ended
    reason: str
    """Why it ended early; empty when it did not."""
    machine: dict[str, Any]
    """The client's."""
    load_average: dict[str, float]
    """`before` and `after`, on the client's machine."""


def make_point(point: Point, objective_p99_ms: float) -> LoadPoint:
    """All there is to say of a point."""
    beyond = wilson(point.count_beyond(objective_p99_ms), point.requests) if point.requests else None
    if beyond is not None:
        beyond = beyond.model_copy(update={"low": max(0.0, beyond.low)})  # rounding may leave -1e-17
    return LoadPoint(
        **make_rate_point(point).model_dump(),
        failures=dict(point.failures),
        late_p99_ms=point.late_p99_ms,
        fault=point.fault,
        kept=point.keeps(objective_p99_ms),
        beyond=beyond,
        figures=make_figures(point.latency_ms, point.failed),
    )


def make_closed(closed: Closed, connections: int) -> ClosedRun:
    """All there is to say of a closed loop."""
    latency_ms = tuple(round(reply.milliseconds, 4) for reply in closed.replies if reply.status in ACCEPTED)
    failed = len(closed.replies) - len(latency_ms)
    return ClosedRun(
        connections=connections,
        seconds=round(closed.seconds, 3),
        latency_ms=latency_ms,
        failed=failed,
        requests_per_second=round(len(latency_ms) / closed.seconds, 3),
        figures=make_figures(latency_ms, failed),
    )


def make_figures(latency_ms: Sequence[float], failed: int) -> LoadFigures:
    """Percentiles with their intervals, and the histogram."""
    return LoadFigures(
        p50_ms=percentile_with_failures(latency_ms, failed, 0.5),
        p90_ms=percentile_with_failures(latency_ms, failed, 0.9),
        p99_ms=percentile_with_failures(latency_ms, failed, 0.99),
        histogram=count_buckets(latency_ms),
    )


def percentile_with_failures(latency_ms: Sequence[float], failed: int, share: float) -> Interval | None:
    """As `percentile`, where each failure is slower than all others; None when it, or its upper limit, is one."""
    found = percentile([*latency_ms, *[FOREVER_MS] * failed], share)
    return None if found is None or max(found.value, found.high) > max(latency_ms, default=0.0) else found
