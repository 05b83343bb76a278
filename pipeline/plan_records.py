"""What planning measures and concludes: plain typed records, stored as JSON."""

from typing import Any, Literal

from artifact.config import Config
from pipeline.plan_config import Budget, PlannedPrecision
from pipeline.results import Interval, SpeedRow, Verdict


class Candidate(Config):
    """A shape that a student could have."""

    name: str
    """Depth x width, with `-i` and the feed-forward width unless it is four widths, `-v` and the pieces unless all."""
    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    pieces: int
    """Rows of the token table."""


class Teacher(Config):
    """What the candidates were derived from."""

    source: str
    """As the recipe names it."""
    model_type: str
    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    pieces: int
    positions: int | None
    """Longest text in tokens, special ones included; none where the config does not say."""


class Texts(Config):
    """What was measured on; lengths in tokens of the full tokenizer, special ones included, cut at `max_tokens`."""

    count: int
    max_tokens: int
    median_tokens: float
    longest_tokens: int


class Pace(Config):
    """How fast the machine was while the candidates took turns."""

    yardstick: str
    """Row whose latency was looked at before and after every turn."""
    yardstick_ms: dict[str, tuple[float, ...]]
    """By row and round: its latency beside that turn, whichever look was slower."""
    retaken: int
    """Turns that were taken again."""


class Measurements(Config):
    """`candidates.json`: every sample of every candidate, and the machine it is true of."""

    machine: dict[str, Any]
    threads: int
    target: str
    """Instruction set that the int8 graphs are made for."""
    teacher: Teacher
    texts: Texts
    candidates: tuple[Candidate, ...]
    parameters: dict[str, dict[str, int]]
    """By candidate: `embedding`, `token_embedding` (a part of it), `transformer`, `head`, `total`."""
    rows: dict[str, SpeedRow]
    """By `candidate/precision`."""
    pace: Pace
    forms: dict[str, dict[str, Any]]
    """By row, under `chosen` the form of the graph that it was measured in, and why, as `export.variants` gives it."""


class PlanRow(Config):
    """One candidate in one precision beside the budget."""

    row: str
    candidate: Candidate
    precision: PlannedPrecision
    form: str
    """Of the graph that was measured, under the names of a bundle's facts: `whole`, `light` or `raw`."""
    transformer: int
    """Parameters of the layers."""
    embedding: int
    """Parameters of the embeddings."""
    p50_ms: Interval
    texts_per_s: Interval
    size_mb: float
    peak_rss_mb: float
    verdict: Verdict | None
    """None without a budget; inconclusive when an interval spans its limit and no number surely breaks one."""


class Plan(Config):
    """`plan.json`: which shapes fit, which is the largest that does, and every sample behind it."""

    schema_version: Literal[1] = 1
    recipe: str
    budget: Budget
    rows: tuple[PlanRow, ...]
    """Largest first."""
    largest: str | None
    """Row with the most Transformer parameters that surely fits, then the most embedding parameters."""
    start: str | None
    """YAML for that row's model in a recipe."""
    measured: Measurements
