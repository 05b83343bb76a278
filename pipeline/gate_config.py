"""What of a recipe says yes or no.

quality: {metric: quality, reference: teacher/float32, max_degradation: 1%}
latency: {metric: latency_p50, reference: baseline, max_degradation: 5%}
budget:  {metric: size, threshold: 25}
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from artifact.config import Config

Metric = Literal[
    "quality", "latency_p50", "throughput", "size", "memory",
    "parity", "fusion", "batch_invariance", "out_of_domain_auroc",
]  # fmt: skip

Kind = Literal["value", "ratio", "difference"]
"""What is held against the bound: the candidate's own number, or how it compares with the reference's."""

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """One metric: how it is called, counted and wanted."""

    word: str
    unit: str = ""
    """Of the bounds that are absolute; empty for shares of 1."""
    higher_is_better: bool
    decimals: int
    """Fine enough to be read beside a bound."""
    advice: str
    """What decides a gate that the sample at hand does not."""


_MORE_ROUNDS = "measure more rounds (`bench.max_rounds`), on a machine that does nothing else"
_MORE_EXAMPLES = "test on more examples: an interval halves with four times as many"
_EXACT = "it is counted, not sampled, so it is never inconclusive"

METRICS: dict[Metric, Meaning] = {
    "quality": Meaning(word="quality", higher_is_better=True, decimals=4, advice=_MORE_EXAMPLES),
    "latency_p50": Meaning(word="median latency", unit="ms", higher_is_better=False, decimals=3, advice=_MORE_ROUNDS),
    "throughput": Meaning(word="throughput", unit="texts/s", higher_is_better=True, decimals=1, advice=_MORE_ROUNDS),
    "size": Meaning(word="size", unit="MB", higher_is_better=False, decimals=2, advice=_EXACT),
    "memory": Meaning(word="peak memory", unit="MB", higher_is_better=False, decimals=1, advice=_EXACT),
    "parity": Meaning(word="smallest cosine to its source", higher_is_better=True, decimals=4, advice=_EXACT),
    "fusion": Meaning(word="fused nodes", unit="per layer", higher_is_better=True, decimals=2, advice=_EXACT),
    "batch_invariance": Meaning(
        word="labels that company flips",
        unit="in 10,000 texts",
        higher_is_better=False,
        decimals=1,
        advice="let the export ask more texts (`export.invariance.texts`)",
    ),
    "out_of_domain_auroc": Meaning(
        word="out-of-domain AUROC", higher_is_better=True, decimals=4, advice=_MORE_EXAMPLES
    ),
}
"""The one place that knows which way is better. Megabytes are of 1,000,000 bytes."""

_SHARES_OF_ONE: tuple[Metric, ...] = ("quality", "parity", "out_of_domain_auroc")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A gate's bound, solved for the number that is held against it."""

    kind: Kind
    at_least: bool
    number: float
    is_speed: bool = False
    """Whether a ratio of latencies is reference over candidate, as `min_ratio` and `max_ratio` have it."""

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.number:g}"

    def is_kept(self, low: float, high: float) -> bool:
        """Whether the whole interval is on the good side, the bound itself included."""
        return low >= self.number if self.at_least else high <= self.number

    def is_broken(self, low: float, high: float) -> bool:
        """Whether the whole interval is on the bad side."""
        return high < self.number if self.at_least else low > self.number


class Gate(Config):
    """One condition on the candidate row: one bound, on its own number or on how that compares with a reference row's.

    `quality`, `parity` and `out_of_domain_auroc` are shares of 1; `latency_p50` is in ms, `throughput` in texts/s,
    `size` and `memory` in MB of 1,000,000 bytes, `fusion` in fused nodes per layer, `batch_invariance` in texts of
    10,000 whose label depends on their company.
    """

    metric: Metric
    reference: str | None = None
    """Row it is compared with, such as `teacher/float32`, `teacher/pytorch` or `baseline`; none with `threshold`."""
    threshold: float | None = None
    """Pass when the candidate's own number is surely at least (latency, size and the like: at most) this."""
    max_degradation: float | str | None = None
    """Pass when the candidate is surely worse than the reference by no more: `0.002` in the metric's unit, or `1%`."""
    min_improvement: float | str | None = None
    """Pass when the candidate is surely better than the reference by that much: `0.5` in its unit, or `20%`."""
    min_ratio: float | None = Field(default=None, gt=0)
    """Pass when candidate / reference is surely at least this (speed counts as reference / candidate time)."""
    max_ratio: float | None = Field(default=None, gt=0)
    """Pass when candidate / reference is surely at most this (speed counts as reference / candidate time)."""

    @model_validator(mode="after")
    def _check_bound(self) -> "Gate":
        if faults := list(_find_faults(self)):
            raise ValueError("; ".join(faults))
        return self

    def limit(self) -> Limit:
        """The bound as a number and a side."""
        better = METRICS[self.metric].higher_is_better
        if self.threshold is not None:
            return Limit(kind="value", at_least=better, number=self.threshold)
        if self.min_ratio is not None or self.max_ratio is not None:
            number = float(self.min_ratio or self.max_ratio or 0)
            is_speed = self.metric == "latency_p50"
            return Limit(kind="ratio", at_least=self.min_ratio is not None, number=number, is_speed=is_speed)
        is_improvement = self.min_improvement is not None
        amount = self.min_improvement if is_improvement else self.max_degradation
        sign = 1 if is_improvement == better else -1
        if isinstance(amount, str):
            return Limit(kind="ratio", at_least=better, number=1 + sign * parse_share(amount))
        return Limit(kind="difference", at_least=better, number=sign * float(amount or 0))


def parse_share(text: str) -> float:
    """`"1%"` as 0.01; raises `ValueError` for what is no percentage."""
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no percentage")
    return float(match[1]) / 100


def _find_faults(gate: Gate) -> Iterator[str]:
    names = ("threshold", "max_degradation", "min_improvement", "min_ratio", "max_ratio")
    given = [name for name in names if getattr(gate, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield f"give exactly one of {', '.join(names)}, found {found}"
    compared = [name for name in given if name != "threshold"]
    if compared and gate.reference is None:
        yield f"{compared[0]} compares with another row: name it as reference, such as teacher/float32"
    if given == ["threshold"] and gate.reference is not None:
        yield f"threshold is on the candidate alone: leave out reference, found {gate.reference!r}"
    if gate.threshold is not None:
        yield from _find_threshold_faults(gate.metric, gate.threshold)
    for name in ("max_degradation", "min_improvement"):
        if (amount := getattr(gate, name)) is not None:
            yield from _find_amount_faults(gate.metric, name, amount)
    if gate.metric == "batch_invariance" and any("ratio" in name for name in given):
        yield "batch_invariance is often zero, which has no ratio: give threshold, or max_degradation as a number"


def _find_threshold_faults(metric: Metric, threshold: float) -> Iterator[str]:
    if metric in _SHARES_OF_ONE and not 0 <= threshold <= 1:
        yield f"threshold of {metric} is a share between 0 and 1, found {threshold:g}"
    elif threshold < 0:
        yield f"threshold of {metric} is never negative, found {threshold:g}"


def _find_amount_faults(metric: Metric, name: str, amount: float | str) -> Iterator[str]:
    """Faults of an absolute or relative amount; nothing falls by more than 100 %."""
    meaning = METRICS[metric]
    if isinstance(amount, str):
        if _SHARE.fullmatch(amount.strip()) is None:
            yield f"{name} is {amount!r}, expected a number in the metric's unit or a percentage such as 1%"
        elif metric == "batch_invariance":
            yield f"batch_invariance is often zero, which has no percentage: give {name} as a number of texts in 10,000"
        elif parse_share(amount) >= 1 and meaning.higher_is_better == (name == "max_degradation"):
            yield f"{name} of {metric} is {amount}, expected below 100%: it cannot fall further"
    elif amount < 0:
        opposite = "min_improvement" if name == "max_degradation" else "max_degradation"
        yield f"{name} is never negative, found {amount:g}: {opposite} is its opposite"
    elif metric in _SHARES_OF_ONE and amount >= 1:
        yield f"{name} of {metric} is in shares of 1, found {amount:g}: write {amount:g}% or {amount / 100:g}"
