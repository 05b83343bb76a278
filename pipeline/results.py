"""What evaluation, benchmark and gate hand on to the report: plain typed records, stored as JSON."""

from typing import Any, Literal

from artifact.config import Config
from pipeline.recipe import Gate


class Interval(Config):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class QualityRow(Config):
    """How one row of the report answered the test split."""

    accuracy: Interval
    ratio: Interval
    """Accuracy over the reference row's, paired bootstrap over the same examples."""
    agreement: Interval
    """Share of the examples on which it gives the reference row's answer."""
    predictions: tuple[int, ...]
    """Label index for each test example, in the order of the test file."""


class Evaluation(Config):
    """`evaluation.json`: quality of every row, measured on deployed bundles through the serving runtime."""

    metric: Literal["accuracy"] = "accuracy"
    reference: str
    """Row that the ratios are to: the first model's float32 bundle."""
    labels: tuple[str, ...]
    truths: tuple[int, ...]
    rows: dict[str, QualityRow]
    """By row name: `model/precision`, `<first model>/pytorch`, and the quality floor `bag-of-words`."""


class SpeedRow(Config):
    """Raw samples of one contestant."""

    single_ms: tuple[tuple[float, ...], ...]
    """Latency of single texts, by round and call."""
    batch_texts_per_second: tuple[float, ...]
    """Throughput in full batches, by round."""
    size_bytes: int
    """Weights and graph as stored."""
    peak_memory_bytes: int
    """Peak resident memory of the contestant's process."""
    threads: int
    """Intra-op threads, read back from the runtime."""


class Benchmark(Config):
    """`benchmark.json`: raw samples of interleaved contestants, and the machine they ran on."""

    machine: dict[str, Any]
    in_process: dict[str, SpeedRow]
    http: dict[str, SpeedRow]
    """The same texts through the service over loopback, one connection; empty when not asked for."""


Verdict = Literal["pass", "fail", "inconclusive"]


class GateResult(Config):
    """One gate's verdict: pass or fail when the whole interval is on one side of the bound."""

    name: str
    metric: str
    candidate: str
    reference: str
    ratio: Interval
    bound: str
    """As it reads: `>= 0.99`."""
    verdict: Verdict
    reason: str
    """Why, in one line, for a log or a pull request."""


class ReportRow(Config):
    """One line of the table."""

    row: str
    accuracy: Interval | None
    quality_ratio: Interval | None
    p50_ms: Interval | None
    p90_ms: Interval | None
    speedup: Interval | None
    """Of the single-text median, against the reference row: reference time over this row's."""
    texts_per_second: Interval | None
    http_p50_ms: Interval | None
    size_bytes: int | None
    size_ratio: float | None
    """Reference size over this row's."""


class Report(Config):
    """`report.json`: everything the page and the Markdown show, and what a later gate compares with."""

    schema_version: Literal[1] = 1
    recipe: str
    """The recipe's name."""
    candidate: str
    reference: str
    """Row of the ratios in the table: the first model in PyTorch, as people run it today."""
    rows: tuple[ReportRow, ...]
    conditions: dict[str, Gate]
    """The recipe's gates, so that they can be judged again from the samples below."""
    gates: tuple[GateResult, ...]
    verdict: Verdict
    machine: dict[str, Any]
    lineage: dict[str, str]
    """Artefact name to digest."""
    facts: dict[str, Any]
    """Facts of each artefact's manifest, by artefact name."""
    evaluation: Evaluation
    """Every answer, so that a later report can be compared with this one example by example."""
    benchmark: Benchmark
    """Every sample."""
