"""One rate of an open loop: its samples, whether the client kept up with itself, and whether the service did."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serve.load.client import ACCEPTED, Address
from serve.load.loops import Arrived, open_loop, poisson_schedule

MOST_CPU_SHARE = 0.7
"""Of one core, for the client; beyond it, its own work is in the latencies."""
MOST_LATE_MS = 5.0
"""99th percentile of how late the client got round to a request."""
ALLOWED_SHARE = 0.01
"""Of the requests, for a 99th percentile."""
LATENESS_SHARE = 0.99
READY_SECONDS = 0.1
"""As many connections are made beforehand as there are arrivals in this time."""
INTERRUPTED = "interrupted"
"""Fault of a point that nobody waited for."""
FEWEST_REQUESTS = 10
"""Of a point that says anything."""
TOO_FEW = f"fewer than {FEWEST_REQUESTS} requests fell into so short a time"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a rate point is the client's rather than the service's."""

    most_cpu_share: float = MOST_CPU_SHARE
    most_late_ms: float = MOST_LATE_MS


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one rate gave."""

    rate_per_second: float
    """Asked for; arrivals are random, so it is the mean of what was sent."""
    seconds: float
    """Of arrivals."""
    latency_ms: tuple[float, ...]
    """Of each request answered, from its scheduled start, in the order of arrival."""
    failures: Mapping[str, int]
    """Requests refused (by status) or without an answer (`0`)."""
    client_cpu_share: float
    late_p99_ms: float
    """How late the client got round to its requests, 99th percentile."""
    fault: str = ""
    """Why it says nothing of the service; empty where it does."""

    @property
    def failed(self) -> int:
        """Requests refused or broken, slower than all others."""
        return sum(self.failures.values())

    @property
    def requests(self) -> int:
        """All that arrived."""
        return len(self.latency_ms) + self.failed

    @property
    def valid(self) -> bool:
        """Whether the client kept up, so that what is slow is the service."""
        return not self.fault

    def count_beyond(self, objective_ms: float) -> int:
        """Requests slower than the objective; those that failed are."""
        return sum(ms > objective_ms for ms in self.latency_ms) + self.failed

    def keeps(self, objective_p99_ms: float) -> bool:
        """Whether at most one request in a hundred was slower: what a 99th percentile within the objective means.

        By count, because it holds for any number of requests, where a percentile of fewer than a thousand is a guess
        and one with failures in it has no value. Of fewer than a hundred none may be slower. Never of an invalid one.
        """
        allowed = math.floor(ALLOWED_SHARE * self.requests + 1e-9)
        return self.valid and self.requests > 0 and self.count_beyond(objective_p99_ms) <= allowed


KeepPoint = Callable[[Point], None]
"""Told of every point the moment it is there; of an interrupted one too, with that as its fault."""


async def measure_rate(
    address: Address,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    *,
    seed: int,
    connections: int,
    patience_seconds: float,
    limits: Limits,
    keep: KeepPoint,
) -> Point:
    """Random arrivals at `rate` for so long, and what became of them at most `patience_seconds` later.

    Interrupted, it hands what there is to `keep`. Raises `BenchError` when an answer is not HTTP.
    """
    kept: list[Arrived] = []
    schedule = poisson_schedule(rate, seconds, seed)
    try:
        opened = await open_loop(
            address, requests, schedule, ready=min(connections, 1 + round(rate * READY_SECONDS)), most=connections,
            patience_seconds=patience_seconds, kept=kept,
        )  # fmt: skip
    except asyncio.CancelledError:
        in_order = sorted(kept, key=lambda one: one.scheduled)
        keep(_point(rate, seconds, in_order, 0.0, INTERRUPTED))
        raise
    share, late_ms = opened.client_cpu_share, _late_p99(opened.arrived)
    point = _point(rate, seconds, opened.arrived, share, find_fault(len(schedule), share, late_ms, limits))
    keep(point)
    return point


def find_fault(requests: int, cpu_share: float, late_ms: float, limits: Limits) -> str:
    """Why such a point would not be the service's doing; empty when it is."""
    if requests < FEWEST_REQUESTS:
        return TOO_FEW
    if cpu_share > limits.most_cpu_share:
        return f"the client took {cpu_share:.0%} of a core, more than {limits.most_cpu_share:.0%}"
    if late_ms > limits.most_late_ms:
        return f"the client was {late_ms:.1f} ms late (p99), more than {limits.most_late_ms:g} ms"
    return ""


def _point(rate: float, seconds: float, arrived: Sequence[Arrived], share: float, fault: str) -> Point:
    answered = [one.milliseconds for one in arrived if one.reply.status in ACCEPTED]
    failures = Counter(str(one.reply.status) for one in arrived if one.reply.status not in ACCEPTED)
    return Point(
        rate_per_second=rate,
        seconds=seconds,
        latency_ms=tuple(round(ms, 4) for ms in answered),
        failures=dict(failures),
        client_cpu_share=round(share, 4),
        late_p99_ms=round(_late_p99(arrived), 4),
        fault=fault,
    )


def _late_p99(arrived: Sequence[Arrived]) -> float:
    return float(np.quantile([one.late_ms for one in arrived], LATENESS_SHARE)) if arrived else 0.0
