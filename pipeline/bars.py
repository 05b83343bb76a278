"""Sizes drawn: parameters of each model and stored bytes of each row, by part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.plots import series_number
from pipeline.results import Report
from pipeline.size_parts import PARTS
from pipeline.table import format_size

PARAMETER_PARTS = PARTS[:3]
"""What `facts.parameters` tells apart."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stretch of a bar."""

    name: str
    """A part, or `bytes` where it is not known of what."""
    share: float
    """Per cent of the longest bar."""
    written: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One line of a bar chart."""

    name: str
    total: str
    parts: tuple[Part, ...]
    series: int


def parameter_bars(report: Report) -> list[Bar]:
    """Parameters of each model by part, for the models whose facts have them."""
    models = {name.removeprefix("model:"): facts for name, facts in report.facts.items() if name.startswith("model:")}
    counts = {name: facts["parameters"] for name, facts in models.items() if _has_parts(facts)}
    longest = max((count["total"] for count in counts.values()), default=1)
    rows = _rows(report)
    return [
        Bar(
            name=name,
            total=_millions(count["total"]),
            parts=tuple(
                Part(name=part, share=100 * count[part] / longest, written=_millions(count[part]))
                for part in PARAMETER_PARTS
            ),
            series=series_number(name, [*rows, name]),
        )
        for name, count in counts.items()
    ]


def size_bars(report: Report) -> list[Bar]:
    """Stored bytes of each row that was benchmarked, by part where that is known."""
    sized = {row.row: row.size_bytes for row in report.rows if row.size_bytes}
    longest = max(sized.values(), default=1)
    rows = _rows(report)
    return [
        Bar(
            name=name,
            total=format_size(size).text,
            parts=tuple(
                Part(name=part, share=100 * held / longest, written=format_size(held).text)
                for part, held in report.size_parts.get(name, {"bytes": size}).items()
            ),
            series=series_number(name, rows),
        )
        for name, size in sized.items()
    ]


def _rows(report: Report) -> Sequence[str]:
    return [row.row for row in report.rows]


def _has_parts(facts: Any) -> bool:
    parameters = facts.get("parameters") if isinstance(facts, dict) else None
    return isinstance(parameters, dict) and {"total", *PARAMETER_PARTS} <= parameters.keys()


def _millions(count: int) -> str:
    """Parameters in millions, below 100,000 in thousands."""
    return f"{count / 1e6:.1f} M" if count >= 100_000 else f"{count / 1e3:.1f} k"
