"""The Server scenario for people: percentiles of each rate with the requests that failed, and what stands in a line.

A request that was refused or broke counts as slower than all that were answered, so a percentile that falls among
those has no milliseconds: it is infinite, and written as such.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.results import Interval, RatePoint, ServerRow
from pipeline.statistics import percentile
from pipeline.table import MISSING, Cell, exact, format_ms

_NEVER_MS = 1e15
"""Stands for an answer that never came while percentiles interpolate, which they cannot towards infinity."""


class Latency(NamedTuple):
    """Milliseconds with their 95 % interval, in which `math.inf` is an answer that never came."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class RateLine:
    """One rate of one row, as it is written."""

    rate: str
    """Requests a second offered; the knee is marked."""
    requests: str
    failed: str
    p50: str
    p99: str
    client: str
    """Share of one core that the generator took."""
    note: str
    """What is wrong with the point, or whether it kept to the objective; empty where no p99 can be told."""
    is_knee: bool


@dataclass(frozen=True, kw_only=True)
class ServerView:
    """One row under load, as it is written."""

    row: str
    knee: str
    objective: str
    lines: tuple[RateLine, ...]


def latency_at(point: RatePoint, share: float) -> Latency | None:
    """The `share` quantile of all requests of `point`, failed ones as infinitely slow.

    None where the sample does not carry it.
    """
    found = percentile([*point.latency_ms, *[_NEVER_MS] * point.failed], share)
    if found is None:
        return None
    return Latency(*(math.inf if end > _NEVER_MS / 1e6 else end for end in (found.value, found.low, found.high)))


def by_rate(server: ServerRow) -> list[RatePoint]:
    """Its points from the lowest rate to the highest, and not in the order in which they were searched."""
    return sorted(server.points, key=lambda point: point.rate_per_second)


def view_server(row: str, server: ServerRow) -> ServerView:
    """`server` as it is written: the knee in one phrase, and every rate in a line."""
    objective = f"{server.objective_p99_ms:g} ms"
    return ServerView(
        row=row,
        knee=_knee(server),
        objective=objective,
        lines=tuple(_line(point, server) for point in by_rate(server)),
    )


def sum_up(servers: Mapping[str, ServerRow]) -> tuple[int, int]:
    """How many rates of all rows were measured, and at how many of them the client could not keep up."""
    points = [point for server in servers.values() for point in server.points]
    return len(points), sum(not point.valid for point in points)


def _knee(server: ServerRow) -> str:
    if server.knee_per_second is None:
        return "none: no rate kept to the objective"
    rates = [point.rate_per_second for point in server.points if point.valid]
    top = max(rates, default=0.0)
    more = ", the highest at which the client kept up" if server.knee_per_second >= top else ""
    return f"{_rate(server.knee_per_second)} requests a second{more}"


def _line(point: RatePoint, server: ServerRow) -> RateLine:
    p99 = latency_at(point, 0.99)
    return RateLine(
        rate=_rate(point.rate_per_second),
        requests=f"{len(point.latency_ms) + point.failed:,}",
        failed=f"{point.failed:,}",
        p50=str(_cell(latency_at(point, 0.5))),
        p99=str(_cell(p99)),
        client=f"{100 * point.client_cpu_share:.0f} %",
        note=_note(point, p99, server.objective_p99_ms),
        is_knee=point.rate_per_second == server.knee_per_second,
    )


def _note(point: RatePoint, p99: Latency | None, objective_ms: float) -> str:
    if not point.valid:
        return "not valid: the client did not keep up"
    if p99 is None:
        return "too few requests for a p99"
    return "kept" if p99.value <= objective_ms else "missed"


def _cell(latency: Latency | None) -> Cell:
    if latency is None:
        return Cell(number=MISSING)
    if math.isinf(latency.value):
        return Cell(number="never", unit=" answered")
    if math.isinf(latency.high):
        return Cell(number=format_ms(exact(latency.value)).number, unit=" ms", spread=f"[{latency.low:.3g}, never]")
    return format_ms(Interval(value=latency.value, low=latency.low, high=latency.high))


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.3g}"
