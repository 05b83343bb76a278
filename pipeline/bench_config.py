"""What of a recipe says how speed is measured: scenarios, inputs, rounds."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from artifact.config import Config

Scenario = Literal["SingleStream", "MultiStream", "Offline", "Server"]
"""MLPerf's names: one text after the other; a query of several texts after the other; full batches; random arrivals."""


class ServerConfig(Config):
    """Random arrivals at rising rates, over HTTP, until the service no longer keeps to the objective."""

    objective_p99_ms: float = Field(default=100.0, gt=0)
    """The knee is the highest rate at which the 99th percentile stays within this, from the scheduled start."""
    seconds: float = Field(default=5.0, gt=0)
    """Of arrivals at each rate."""
    rates: tuple[float, ...] = ()
    """Requests a second; left empty, they are found: doubled until the objective is missed, then halved in between."""


class BenchConfig(Config):
    """What is measured, and for how long."""

    scenarios: tuple[Scenario, ...] = ("SingleStream", "MultiStream", "Offline")
    """In process each; over HTTP too, where `http` says so. `Server` is over HTTP only."""
    threads: int = Field(default=2, gt=0)
    """Intra-op threads of every contestant; never more than the cores this process may use."""
    rounds: int = Field(default=10, gt=1)
    """Rounds in which every contestant takes its turn, in random order."""
    max_rounds: int = Field(default=40, gt=1)
    """While a gate on speed is inconclusive, `rounds` more are measured, up to so many in all."""
    calls_per_round: int = Field(default=40, gt=0)
    """Single texts per contestant and round."""
    batch_size: int = Field(default=32, gt=0)
    """Texts per batch of the throughput measurement."""
    streams: int = Field(default=8, gt=0)
    """Texts of one MultiStream query."""
    texts: int = Field(default=256, gt=0)
    """Test texts measured, drawn once with the seed, the same for every contestant."""
    lengths: tuple[int, ...] = ()
    """SingleStream is also measured at these lengths in tokens, such as 16, 64, 128, 512, on texts made for it."""
    histogram: Path | None = None
    """JSON that maps tokens to counts: texts of these lengths are measured instead of the test split's."""
    http: bool = True
    """Also measure through the service, over loopback."""
    server: ServerConfig = ServerConfig()
    seed: int = Field(default=1, ge=0)
