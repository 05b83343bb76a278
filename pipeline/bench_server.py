"""The Server scenario of the benchmark: random arrivals at rising rates, row by row."""

from collections.abc import Callable, Sequence

from artifact.errors import BenchError
from pipeline.bench_config import ServerConfig
from pipeline.results import ServerRow
from serve.latency.client import Target


def measure_server(
    targets: Sequence[Target],
    texts: Sequence[str],
    config: ServerConfig,
    *,
    seed: int = 1,  # noqa: ARG001 - a stub
    keep: Callable[[str, object], None],  # noqa: ARG001 - a stub
) -> dict[str, ServerRow]:
    """A rate sweep of each target, with `texts` one a request."""
    raise BenchError(f"nothing offers {len(targets)} rows x {len(texts)} texts at {config.rates or 'any'} rates yet")
