"""`report.html`: one page that needs nothing else, neither network nor script, on a screen, a phone or paper.

Whatever comes from data (texts, labels, names, machine) passes through the template's escaping. Only our own
drawings, made of numbers and of names that matplotlib escapes, are marked as safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.fidelity import HEADERS, Likeness, find_likenesses
from pipeline.gate import WORDS
from pipeline.heatmaps import draw_cka, draw_relations
from pipeline.metrics import Change, count_discordance, find_changes
from pipeline.plots import plot_latency_distributions, plot_quality_against_latency, series_number
from pipeline.results import GateResult, Report
from pipeline.statistics import mcnemar
from pipeline.table import COLUMNS, MISSING, SYMBOLS, format_fact, format_ratio, format_size, headline

CHANGES_SHOWN = 12
"""Kinds of disagreement listed; the page says how many there are."""

EXAMPLES_SHOWN = 3
"""Texts quoted for each."""

PARTS = ("embedding", "transformer", "head")


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """A gate drawn as an interval beside its bound; positions in per cent of the drawing's width."""

    gate: GateResult
    ratio: str
    low: float
    high: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One line of a bar chart: its parts as (name, per cent of the longest bar, what is written)."""

    name: str
    total: str
    parts: tuple[tuple[str, float, str], ...]
    series: int


@dataclass(frozen=True, kw_only=True)
class ChangeView:
    """One kind of disagreement with its texts."""

    truth: str
    reference: str
    candidate: str
    count: int
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LikenessView:
    """One student beside its teacher, with its two drawings."""

    likeness: Likeness
    cka: Markup
    relations: Markup


def render_page(report: Report, texts: Sequence[str]) -> str:
    """The page for `report`; `texts` are the test examples, in the order of its answers."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    discordance = count_discordance(report.evaluation, report.candidate, report.reference)
    changes = find_changes(report.evaluation, report.candidate, report.reference)
    return environment.get_template(
        "report.html.j2"
    ).render(
        report=report,
        headline=headline(report),
        symbols=SYMBOLS,
        words=WORDS,
        missing=MISSING,
        format_fact=format_fact,
        unplaced=[row for row in report.rows if row.accuracy and not row.p50_ms],
        columns=COLUMNS,
        gauges=[_gauge(gate) for gate in report.gates],
        quality_plot=Markup(plot_quality_against_latency(report)),  # noqa: S704 - our own drawing
        latency_plot=Markup(plot_latency_distributions(report)),  # noqa: S704 - our own drawing
        parameter_bars=_parameter_bars(report),
        size_bars=_size_bars(report),
        parts=PARTS,
        likenesses=[_likeness(found, number) for number, found in enumerate(find_likenesses(report), start=1)],
        likeness_headers=HEADERS,
        discordance=discordance,
        p_value=mcnemar(discordance.only_candidate_right, discordance.only_reference_right),
        examples=len(report.evaluation.truths),
        changed=sum(len(change.examples) for change in changes),
        kinds=len(changes),
        changes=[_view(change, report, texts) for change in changes[:CHANGES_SHOWN]],
        series={row.row: series_number(row.row, [r.row for r in report.rows]) for row in report.rows},
    )


def _gauge(gate: GateResult) -> Gauge:
    """The scale spans the interval and the bound, with a sixth of that left free on either side."""
    bound = float(gate.bound.split()[-1])
    left, right = min(gate.ratio.low, bound), max(gate.ratio.high, bound)
    span = (right - left) or max(abs(right), 1.0) / 10

    def place(value: float) -> float:
        return round(100 * (1 / 8 + 3 / 4 * (value - left) / span), 2)

    return Gauge(
        gate=gate,
        ratio=format_ratio(gate.ratio),
        low=place(gate.ratio.low),
        high=place(gate.ratio.high),
        bound=place(bound),
    )


def _parameter_bars(report: Report) -> list[Bar]:
    """Parameters of each model by part, for the models whose facts have them."""
    models = {name.removeprefix("model:"): facts for name, facts in report.facts.items() if name.startswith("model:")}
    counts = {name: facts["parameters"] for name, facts in models.items() if _has_parts(facts)}
    longest = max((count["total"] for count in counts.values()), default=1)
    rows = [row.row for row in report.rows]
    return [
        Bar(
            name=name,
            total=_millions(count["total"]),
            parts=tuple((part, 100 * count[part] / longest, _millions(count[part])) for part in PARTS),
            series=series_number(name, rows),
        )
        for name, count in counts.items()
    ]


def _has_parts(facts: Any) -> bool:
    parameters = facts.get("parameters") if isinstance(facts, dict) else None
    return isinstance(parameters, dict) and {"total", *PARTS} <= parameters.keys()


def _size_bars(report: Report) -> list[Bar]:
    """Stored bytes of each row that was benchmarked."""
    sized = [(row.row, row.size_bytes) for row in report.rows if row.size_bytes]
    longest = max((size for _, size in sized), default=1)
    rows = [row.row for row in report.rows]
    return [
        Bar(
            name=name,
            total=format_size(size).text,
            parts=(("bytes", 100 * size / longest, format_size(size).text),),
            series=series_number(name, rows),
        )
        for name, size in sized
    ]


def _view(change: Change, report: Report, texts: Sequence[str]) -> ChangeView:
    labels = report.evaluation.labels
    return ChangeView(
        truth=labels[change.truth],
        reference=labels[change.reference],
        candidate=labels[change.candidate],
        count=len(change.examples),
        texts=tuple(texts[position] for position in change.examples[:EXAMPLES_SHOWN]),
    )


def _likeness(likeness: Likeness, number: int) -> LikenessView:
    return LikenessView(
        likeness=likeness,
        cka=Markup(draw_cka(likeness, f"cka-{number}")),  # noqa: S704 - our own drawing
        relations=Markup(draw_relations(likeness, f"relations-{number}")),  # noqa: S704 - our own drawing
    )


def _millions(count: int) -> str:
    """Parameters in millions, below 100,000 in thousands."""
    return f"{count / 1e6:.1f} M" if count >= 100_000 else f"{count / 1e3:.1f} k"
