"""Rates of an open loop, one after the other, up to the knee: the highest that keeps to the objective.

    found = sweep(Address(3000), requests, SweepConfig(objective_p99_ms=100))
    found.knee_per_second

Left to itself it doubles the rate until the objective is missed, then halves what is left, by ratio, until it is within
ten per cent. A point at which the client itself was the limit counts for nothing: no knee is called at it or beyond.
Such a point, and one that misses by little, is measured again: one hiccup of the machine should not halve a knee.
"""

import asyncio
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from artifact.errors import BenchError
from artifact.progress import progress
from serve.load.client import ACCEPTED, BROKEN, Address, Reply, dial
from serve.load.clock import run_on_time
from serve.load.probe import explain, probe
from serve.load.rate import FEWEST_REQUESTS, INTERRUPTED, TOO_FEW, KeepPoint, Limits, Point, measure_rate

WARM_UP_REQUESTS = 50
WARM_UP_SECONDS = 1.0
START_SHARE = 0.25
"""First rate, as a share of what one connection gets answered one after the other."""
EXPECTED_REQUESTS = 2 * FEWEST_REQUESTS
"""Of the lowest rate that is tried."""
CLOSE_ENOUGH = 1.1
"""Lowest rate that misses over highest that keeps, at which the search ends."""
SECONDS_BETWEEN_LOOKS = 0.05
LATE_SHARE = 0.1
"""Of the objective."""
NEAR_MISS = 0.1
"""Share of requests beyond the objective up to which a missed rate is measured again."""
SAYS_NOTHING = (INTERRUPTED, TOO_FEW)
"""Faults of points that are not the client's either."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """How a sweep goes."""

    objective_p99_ms: float = 100.0
    """From the scheduled start."""
    seconds: float = 5.0
    """Of arrivals at each rate."""
    rates: tuple[float, ...] = ()
    """Requests a second, measured in this order; left empty, they are found."""
    connections: int = 256
    """At most; what comes when all are taken waits in the client, and its clock runs."""
    patience_seconds: float = 10.0
    """After the last arrival of a rate; what is not answered then has failed."""
    most_points: int = 14
    seed: int = 1
    limits: Limits = field(default_factory=Limits)
    """A client that is late by less than a tenth of the objective may be later than these say."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep found."""

    points: tuple[Point, ...]
    """In the order measured."""
    knee_per_second: float | None
    """Highest rate that kept to the objective; None when none did."""
    bounded: bool
    """Whether a higher rate missed it; if not, the service may do more than was tried, or than the client can ask."""


def sweep(
    address: Address, requests: Sequence[bytes], config: SweepConfig, keep: KeepPoint = lambda _point: None
) -> Sweep:
    """Measure rates of `requests`, taken in a circle; `keep` is told of every point the moment it is there.

    Raises `BenchError` when the endpoint does not answer the first request, or no longer answers between two rates.
    """
    return run_on_time(sweep_rates(address, requests, config, keep))


async def sweep_rates(address: Address, requests: Sequence[bytes], config: SweepConfig, keep: KeepPoint) -> Sweep:
    """As `sweep`, in a running loop."""
    await probe(address, requests[0], config.patience_seconds)
    alone_seconds = await _warm_up(address, requests, config.patience_seconds)
    late_ms = max(config.limits.most_late_ms, LATE_SHARE * config.objective_p99_ms)
    limits = replace(config.limits, most_late_ms=late_ms)
    start = max(START_SHARE / alone_seconds, EXPECTED_REQUESTS / config.seconds)
    points: list[Point] = []
    total = len(config.rates) or config.most_points
    with progress("rates", total=total) as advance:
        while (rate := _next_rate(points, start, config)) is not None:
            if points and not points[-1].keeps(config.objective_p99_ms):
                await _settle(address, requests[0], config, 3e3 * alone_seconds)
            point = await measure_rate(
                address, requests, rate, config.seconds, seed=config.seed + len(points), connections=config.connections,
                patience_seconds=config.patience_seconds, limits=limits, keep=keep,
            )  # fmt: skip
            points.append(point)
            advance(1, f"{rate:g}/s")
    return judge(points, config.objective_p99_ms)


def judge(points: Sequence[Point], objective_p99_ms: float) -> Sweep:
    """The knee of points: below the lowest rate at which the client was the limit, the highest that kept."""
    last = last_by_rate(points)
    limit = min((rate for rate, point in last.items() if not point.valid), default=math.inf)
    kept = {rate: point.keeps(objective_p99_ms) for rate, point in last.items() if rate < limit}
    knee = max((rate for rate, good in kept.items() if good), default=None)
    bounded = any(rate > (knee or 0) for rate, good in kept.items() if not good)
    return Sweep(points=tuple(points), knee_per_second=knee, bounded=bounded)


def last_by_rate(points: Sequence[Point]) -> dict[float, Point]:
    """The point that decides of each rate: the last, if it was measured twice."""
    return {point.rate_per_second: point for point in points if point.fault not in SAYS_NOTHING}


def choose_rate(kept: Mapping[float, bool], start: float, slowest: float) -> float | None:
    """The rate to try next, None when the knee is close enough; `kept` says of each tried whether it kept.

    Doubled while all keep, halved while none does and `slowest` allows, then the geometric middle of the two around
    the knee.
    """
    if not kept:
        return _rounded(start)
    high = min((rate for rate, good in kept.items() if not good), default=None)
    if high is None:
        return _rounded(2 * max(kept))
    low = max((rate for rate, good in kept.items() if good and rate < high), default=None)
    if low is None:
        return _rounded(high / 2) if high / 2 >= slowest else None
    return _rounded(math.sqrt(low * high)) if high / low > CLOSE_ENOUGH else None


def _next_rate(points: Sequence[Point], start: float, config: SweepConfig) -> float | None:
    if config.rates:
        return config.rates[len(points)] if len(points) < len(config.rates) else None
    if len(points) >= config.most_points:
        return None
    last = last_by_rate(points)
    kept = {rate: point.keeps(config.objective_p99_ms) for rate, point in last.items()}
    if points and _is_worth_another(points, config.objective_p99_ms):
        return points[-1].rate_per_second
    if points and not points[-1].valid and not any(kept.values()):
        return None  # whatever holds the client up at the lowest rate is no load of ours
    return choose_rate(kept, start, EXPECTED_REQUESTS / config.seconds)


def _is_worth_another(points: Sequence[Point], objective_p99_ms: float) -> bool:
    """Whether the last rate was measured once, and one hiccup may have been all: it missed by little, or is void."""
    last = points[-1]
    first = all(point.rate_per_second != last.rate_per_second for point in points[:-1])
    beyond = last.count_beyond(objective_p99_ms)
    return first and (not last.valid or 0 < beyond <= NEAR_MISS * last.requests) and not last.keeps(objective_p99_ms)


async def _warm_up(address: Address, requests: Sequence[bytes], patience_seconds: float) -> float:
    """Requests one after the other; the median of their seconds. What fails here is the sweep's to find."""
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    begun = loop.time()
    async with dial(address, 1) as (line,):
        for number in range(WARM_UP_REQUESTS):
            if not line.alive or (seconds and loop.time() - begun > WARM_UP_SECONDS):
                break
            reply = await _within(line.ask(requests[number % len(requests)]), patience_seconds)
            seconds.append(reply.ended - reply.sent)
    return max(statistics.median(seconds), 1e-6) if seconds else patience_seconds


async def _settle(address: Address, request: bytes, config: SweepConfig, alone_ms: float) -> None:
    """Wait until the backlog of the rate before is gone: a lone request keeps to the objective again.

    Bounded by the patience; `BenchError` when nothing answered at all in that time.
    """
    loop = asyncio.get_running_loop()
    begun, last = loop.time(), Reply(BROKEN, b"", 0.0, 0.0)
    heard = False
    while loop.time() - begun < config.patience_seconds:
        async with dial(address, 1) as (line,):
            last = await _within(line.ask(request), config.patience_seconds)
        heard = heard or last.status != BROKEN
        if last.status in ACCEPTED and last.milliseconds <= max(config.objective_p99_ms, alone_ms):
            return
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
    if not heard:
        raise BenchError(f"{explain(address)} no longer answers", "the samples so far are kept; look at its log")


async def _within(coming: "asyncio.Future[Reply]", seconds: float) -> Reply:
    """The answer, or one of status `BROKEN` when it does not come in time."""
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(seconds):
            return await coming
    except TimeoutError:
        return Reply(BROKEN, b"", begun, begun + seconds)


def _rounded(rate: float) -> float:
    """To three digits, so that a rate reads well."""
    return float(f"{rate:.3g}")
