"""The Server scenario: each row's service under random arrivals at rising rates, up to its knee.

One row after the other, because what is measured is how much a service takes before it falls behind, and that only
shows when it has the machine to itself.
"""

from collections.abc import Callable, Sequence
from functools import partial

from artifact.errors import BenchError
from artifact.progress import say
from pipeline.bench_config import ServerConfig
from pipeline.results import RatePoint, ServerRow
from serve.latency.client import Target
from serve.latency.plan import Asked
from serve.load.client import Address
from serve.load.rate import Point
from serve.load.sweep import Sweep, SweepConfig, sweep

KeepRate = Callable[[str, Point], None]
"""Told of each point of a row the moment it is there."""


def measure_server(
    targets: Sequence[Target],
    texts: Sequence[Asked],
    config: ServerConfig,
    *,
    seed: int = 1,
    keep: KeepRate = lambda _name, _point: None,
) -> dict[str, ServerRow]:
    """A sweep of each target, by its name, with the texts in a circle.

    Raises `BenchError` naming what does not answer.
    """
    rows = {}
    plan = SweepConfig(objective_p99_ms=config.objective_p99_ms, seconds=config.seconds, rates=config.rates, seed=seed)
    for target in targets:
        say(f"  Server: {target.name}")
        requests = [target.request(text) for text in texts]
        try:
            found = sweep(Address(target.port), requests, plan, partial(keep, target.name))
        except BenchError as error:
            raise BenchError(f"{target.name}: {error.problem}", "the samples so far are kept") from None
        rows[target.name] = make_server_row(found, config.objective_p99_ms)
    return rows


def make_server_row(found: Sweep, objective_p99_ms: float) -> ServerRow:
    """A sweep as the report keeps it."""
    return ServerRow(
        objective_p99_ms=objective_p99_ms,
        points=tuple(make_rate_point(point) for point in found.points),
        knee_per_second=found.knee_per_second,
        bounded=found.bounded,
    )


def make_rate_point(point: Point) -> RatePoint:
    """A point as the report keeps it."""
    return RatePoint(
        rate_per_second=point.rate_per_second,
        seconds=point.seconds,
        latency_ms=point.latency_ms,
        failed=point.failed,
        client_cpu_share=point.client_cpu_share,
        valid=point.valid,
    )
