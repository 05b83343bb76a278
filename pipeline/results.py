"""What evaluation, benchmark and gate hand on to the report: plain typed records, stored as JSON."""

from typing import Any, Literal, TypeAlias

from pydantic import Field

from artifact.config import Config
from artifact.dataset import Task
from pipeline.gate_config import Gate, Kind


class Interval(Config):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


Answer: TypeAlias = int | float | str | tuple[int | float | str, ...]
"""What is true, or was said, of one example, by task.

Classification: index of the label. Regression: the quantity. Token classification: index of each word's label.
Question answering: the texts that answer, none where the context does not, and as a prediction one text, or an empty
one. Out-of-domain detection: 1 for a text from outside, 0 for one of the domain, and as a prediction its distance.
Response selection: index of the right candidate, -1 for none; as a prediction that candidate's rank, from 1, ties
sharing the mean of theirs (0 where none is right), and the score of the best candidate.
"""


class NoneThreshold(Config):
    """When a row says that no candidate is right: where 1 less the best score is above `value`."""

    value: float
    split: Literal["validation"] = "validation"
    """Where it was chosen: for the best F1, and never on the split that is scored."""
    queries: int
    """It was chosen on so many of that split, spread evenly over it."""


class QualityRow(Config):
    """How one row of the report answered the test split."""

    quality: Interval
    """The evaluation's metric."""
    ratio: Interval | None
    """That over the reference row's, paired bootstrap over the same examples; None where the latter is not positive."""
    agreement: Interval | None
    """Share of the examples on which it gives the reference row's answer; None of quantities and distances."""
    mcnemar_p: float | None = None
    """Exact two-sided p of being right as often as the reference row; None where answers are not right or wrong."""
    more: dict[str, Interval] = {}
    """Further metrics of the task, such as exact match."""
    groups: dict[str, Interval] = {}
    """The evaluation's metric on each part of the data, such as a language."""
    none_threshold: NoneThreshold | None = None
    """Response selection: what `more` has as `none_f1` is at this threshold."""
    predictions: tuple[Answer, ...]
    """Of each test example, in the order of the test file."""
    out_of_domain_auroc: Interval | None = None
    """How well the row tells the test split from the data's out-of-domain text; None where there is none."""
    out_of_domain_score: Literal["distance", "probability"] | None = None
    """By which score: the graph's own distance, or the largest probability."""
    strangeness: tuple[float, ...] = ()
    """That score of each test example, higher for a stranger one; empty where the data has no text from outside."""
    strangeness_outside: tuple[float, ...] = ()
    """And of each text from outside, in the order of its file."""


class Evaluation(Config):
    """`evaluation.json`: quality of every row, measured on deployed bundles through the serving runtime."""

    task: Task = "classification"
    metric: str = "accuracy"
    """What quality is; one of `artifact.dataset.METRICS`."""
    reference: str
    """Row that the ratios are to: the first model's float32 bundle."""
    labels: tuple[str, ...]
    truths: tuple[Answer, ...]
    rows: dict[str, QualityRow]
    """By row name: `model/precision`, `<first model>/pytorch`, `cascade`, `baseline`, and the quality floors."""
    absent: dict[str, str] = {}
    """Rows that do not open on this machine, each with the reason."""


class SpeedRow(Config):
    """Raw samples of one contestant."""

    single_ms: tuple[tuple[float, ...], ...]
    """Latency of single texts, by round and call."""
    batch_texts_per_second: tuple[float, ...]
    """Offline: throughput in full batches, by round."""
    multi_ms: tuple[tuple[float, ...], ...] = ()
    """MultiStream: latency of queries of `streams` texts, by round and query; empty where it was not asked for."""
    by_length_ms: dict[int, tuple[tuple[float, ...], ...]] = {}
    """SingleStream at fixed lengths: tokens to latencies, by round and call."""
    size_bytes: int
    """Weights and graph as stored."""
    peak_memory_bytes: int
    """Peak resident memory of the contestant's process."""
    threads: int
    """Intra-op threads, read back from the runtime."""


class RatePoint(Config):
    """One rate of an open loop: random arrivals, each latency from its scheduled start."""

    rate_per_second: float
    seconds: float
    """Of arrivals."""
    latency_ms: tuple[float, ...]
    """Of each request answered, in the order of arrival."""
    failed: int
    """Requests refused or broken; they count as slower than all others."""
    client_cpu_share: float
    """Processor time of the client over wall time."""
    valid: bool
    """Whether the client kept up: its own share was below its limit, and it sent on time."""


class ServerRow(Config):
    """Server scenario of one row: a rate sweep up to the knee."""

    objective_p99_ms: float
    points: tuple[RatePoint, ...]
    """In the order measured."""
    knee_per_second: float | None
    """Highest rate that kept to the objective; None when none did."""
    bounded: bool = True
    """Whether a higher rate missed it; if not, the knee may be higher, or is more than the client can ask."""


class Benchmark(Config):
    """`benchmark.json`: raw samples of interleaved contestants, and the machine they ran on."""

    machine: dict[str, Any]
    in_process: dict[str, SpeedRow]
    http: dict[str, SpeedRow]
    """The same texts through the service over loopback, one connection; empty when not asked for."""
    server: dict[str, ServerRow] = {}
    """Random arrivals over HTTP, by row; empty when not asked for."""
    looks: int = Field(default=1, gt=0)
    """How often the gates may look at growing samples before they give up; intervals are widened for that."""
    load_average: dict[str, float] = {}
    """`before` and `after`."""
    absent: dict[str, str] = {}
    """Rows that could not be measured, each with the reason."""


Verdict = Literal["pass", "fail", "inconclusive"]


class GateResult(Config):
    """One gate's verdict: pass or fail when the whole interval is on one side of the bound."""

    name: str
    metric: str
    candidate: str
    reference: str
    """Row it was compared with; empty when the candidate's own number was held against the bound."""
    ratio: Interval
    """The number compared: what `kind` says."""
    bound: str
    """As it reads, the number last: `>= 0.99`."""
    verdict: Verdict
    reason: str
    """Why, in one line, for a log or a pull request."""
    kind: Kind = "ratio"
    """Whether `ratio` is the candidate's own number, its ratio to the reference's, or the difference of the two."""
    subject: str = ""
    """What `ratio` is of, in words: `speed` is 1 / latency."""
    unit: str = ""
    """Of `value`, and of `ratio` unless that is a ratio; empty for shares of 1."""
    value: Interval | None = None
    """The candidate's own number."""


class Judgement(Config):
    """`gate.json`: what `understudy gate` found."""

    schema_version: Literal[1] = 1
    recipe: str
    candidate: str
    baseline: str | None
    """Candidate of the report compared with; none when only the report's own gates were judged."""
    verdict: Verdict
    exit_code: int
    gates: tuple[GateResult, ...]
    notes: tuple[str, ...]
    """What could not be compared, and why."""


class ReportRow(Config):
    """One line of the table."""

    row: str
    quality: Interval | None
    """The evaluation's metric."""
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
    out_of_domain_auroc: Interval | None = None
    """Of the evaluation; None where the data has no out-of-domain text."""


class Report(Config):
    """`report.json`: everything the page and the Markdown show, and what a later gate compares with."""

    schema_version: Literal[2] = 2
    """1 knew no task but classification."""
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
    size_parts: dict[str, dict[str, int]] = {}
    """Stored bytes by part (`pipeline.size_parts.PARTS`), of each row that is a file of ours."""
    evaluation: Evaluation
    """Every answer, so that a later report can be compared with this one example by example."""
    benchmark: Benchmark
    """Every sample."""

    @property
    def answering(self) -> str:
        """Row that answers are compared with: the reference, or where it gives none, as PyTorch of distances, the
        evaluation's.
        """
        return self.reference if self.reference in self.evaluation.rows else self.evaluation.reference
