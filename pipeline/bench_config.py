"""What of a recipe says how speed is measured: scenarios, inputs, rounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from artifact.config import Config
from pipeline.gate_config import Gate
from serve.latency.timing import SETTLE_MS

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
    """In process each; over HTTP too, where `http` says so. `Server` is over HTTP only. `SingleStream` has to be there,
    since the table and its speed-ups are of single texts."""
    threads: int = Field(default=2, gt=0)
    """Intra-op threads of every contestant; never more than the cores this process may use."""
    rounds: int = Field(default=10, gt=1)
    """Rounds in which every contestant takes its turn, in random order."""
    max_rounds: int = Field(default=80, gt=1)
    """While a gate on speed is inconclusive, as many rounds again are measured as there are, up to so many in all."""
    calls_per_round: int = Field(default=40, gt=0)
    """Single texts per contestant and round."""
    parts: int = Field(default=10, gt=0)
    """Parts in which a round's single texts are answered, the contestants in turns part by part: the shorter a turn,
    the less of what the machine does meanwhile falls on one contestant alone."""
    openings: int = Field(default=2, gt=0)
    """So often the contestants are started in these rounds, each time in the reverse order: who is started early
    is slower than its equal where memory is in small pages. As often again whenever the rounds have doubled."""
    settle_ms: float = Field(default=SETTLE_MS, ge=0)
    """Milliseconds at the start of each turn in which a contestant answers untimed, for 8 calls at least unless those
    take over six times as long: who was idle while others had their turns is slow at first."""
    batch_size: int = Field(default=32, gt=0)
    """Texts per batch of the throughput measurement."""
    streams: int = Field(default=8, gt=0, le=128)
    """Texts of one MultiStream query; the service takes no more than 128 in one request."""
    queries_per_round: int = Field(default=10, gt=0)
    """MultiStream queries per contestant and round, and single texts of each of `lengths`; 10 rounds of 10 are enough
    for a 90th percentile."""
    texts: int = Field(default=256, gt=0)
    """Test texts measured, drawn once with the seed, the same for every contestant."""
    lengths: tuple[int, ...] = ()
    """SingleStream is also measured at these lengths in tokens, such as 16, 64, 128, 512, on texts made for it. A row
    that would cut such a text is not measured at its length."""
    histogram: Path | None = None
    """JSON that maps tokens to counts, such as `{"16": 120, "64": 30}`: texts of lengths drawn from it, made with the
    seed, are measured instead of the test split's."""
    http: bool = True
    """Also measure through the service, over loopback."""
    http_rounds: int = Field(default=4, gt=1)
    """Over HTTP, where no gate judges, as many rounds as in process but no more than so many, each in one part."""
    server: ServerConfig = ServerConfig()
    seed: int = Field(default=1, ge=0)

    @field_validator("scenarios")
    @classmethod
    def _single_stream_is_there(cls, scenarios: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
        if "SingleStream" not in scenarios:
            raise ValueError("the table and its speed-ups are of single texts: add SingleStream")
        return scenarios


class BenchRequest(BenchConfig):
    """What is measured of which rows, and which gates may ask for more of it."""

    rows: tuple[str, ...]
    """As the report names them, such as `student/int8` or `teacher/pytorch`."""
    candidate: str | None = None
    """Row that the gates judge."""
    gates: dict[str, Gate] = {}
    """Those on speed: while one is inconclusive, the measurement goes on."""

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many rounds the gates may look at the samples, as `looks_of` has it."""
        return looks_of(self.rounds, self.max_rounds)


def looks_of(rounds: int, max_rounds: int) -> tuple[int, ...]:
    """Rounds after which gates look: `rounds`, twice as many, four times as many, up to `max_rounds`; one at least.

    Each look is worth its share of the 5 %: to double gives the fewest looks for the last sample, and no sample between
    is more than twice what would have decided.
    """
    return tuple(rounds << look for look in range(max(1, (max_rounds // rounds).bit_length())))


def rounds_to_next(looks: Sequence[int], rounds: int) -> int:
    """Rounds that are missing to the next look after `rounds`; 0 after the last."""
    return next((look - rounds for look in looks if look > rounds), 0)
