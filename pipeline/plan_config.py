"""What a recipe says about planning: which student shapes are tried before training, and what one may cost."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from artifact.config import Config

PlannedPrecision = Literal["float32", "int8"]
Positive = Annotated[int, Field(gt=0)]

SAMPLES_FOR_A_MEDIAN = 20
"""A percentile is given only where n >= 10 / (1 - p)."""


class PlanConfig(Config):
    """The grid of student shapes that `understudy plan` measures, and how long it measures each.

    What is left out is derived from the teacher; five depths, three widths and two vocabularies make 30 shapes.
    """

    layers: tuple[Positive, ...] | None = Field(default=None, min_length=1)
    """Depths. Left out: all, 2/3, 1/2, 1/3 and 1/6 of the teacher's layers."""
    hidden_sizes: tuple[Positive, ...] | None = Field(default=None, min_length=1)
    """Widths. Left out: the teacher's, a half and a quarter of it, in multiples of `head_size`."""
    intermediate_ratios: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(4.0,), min_length=1)
    """Feed-forward widths, as multiples of the width."""
    head_size: int = Field(default=32, gt=0)
    """Units of one attention head; it must divide every width."""
    vocabulary_sizes: tuple[Literal["full"] | Positive, ...] | None = Field(default=None, min_length=1)
    """Rows of the token table: `full` or a number of pieces. Left out: full, and a quarter where that is 2,000 or
    more."""
    precisions: tuple[PlannedPrecision, ...] = Field(default=("float32", "int8"), min_length=1)
    """What each shape is exported as."""
    threads: int | None = Field(default=None, gt=0)
    """Intra-op threads of every session. Left out: those of `bench`."""
    rounds: int = Field(default=8, gt=1)
    """Rounds in which every shape takes its turn, in random order."""
    calls_per_round: int = Field(default=16, gt=0)
    """Single texts per shape, precision and round."""
    batch_size: int = Field(default=32, gt=0)
    """Texts of the one batch per shape, precision and round."""
    texts: int = Field(default=64, gt=0)
    """Test texts measured, drawn once with the seed, the same for every shape."""
    patience_seconds: float = Field(default=60, ge=0)
    """How long turns are taken again, at most, that were taken while the machine was slow."""
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        odd = [width for width in self.hidden_sizes or () if width % self.head_size]
        if odd:
            raise ValueError(f"hidden_sizes {odd} are no multiples of head_size {self.head_size}")
        if self.rounds * self.calls_per_round < SAMPLES_FOR_A_MEDIAN:
            found = self.rounds * self.calls_per_round
            raise ValueError(f"a median needs {SAMPLES_FOR_A_MEDIAN} samples, found rounds x calls_per_round = {found}")
        return self


class Budget(Config):
    """What the student may cost on this machine; what is left out is not limited.

    A shape fits when the whole 95 % interval of each number keeps its limit.
    """

    p50_ms: float | None = Field(default=None, gt=0)
    """Largest median latency of a single text, tokenization included."""
    texts_per_s: float | None = Field(default=None, gt=0)
    """Smallest throughput in full batches."""
    size_mb: float | None = Field(default=None, gt=0)
    """Largest graph with its weights, in megabytes of 1,000,000 bytes."""
    peak_rss_mb: float | None = Field(default=None, gt=0)
    """Largest resident memory of a process that answers with it, in the same megabytes."""
