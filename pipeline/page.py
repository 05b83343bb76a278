"""`report.html`: one page that needs nothing else, neither network nor script, on a screen, a phone or paper.

Whatever comes from data (texts, labels, names, machine) passes through the template's escaping. Only our own
drawings, made of numbers and of names that matplotlib escapes, are marked as safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipeline.answer_words import write_answer, write_truth
from pipeline.bars import PARAMETER_PARTS, parameter_bars, size_bars
from pipeline.disagreement import Change, count_discordance, find_changes, find_partings
from pipeline.fidelity import HEADERS, Likeness, find_likenesses
from pipeline.gauges import draw_gauges
from pipeline.heatmaps import draw_cka, draw_relations
from pipeline.measuring import describe_measuring
from pipeline.pages import quote, render_template
from pipeline.plot_latency import plot_latency_by_length, plot_latency_distributions
from pipeline.plot_quality import front_rows, plot_quality_against_latency
from pipeline.plot_server import plot_server
from pipeline.plots import series_number
from pipeline.quality_tables import quality_tables
from pipeline.results import Report
from pipeline.scenarios import scenario_table
from pipeline.server_points import sum_up, view_server
from pipeline.size_parts import PARTS
from pipeline.statistics import mcnemar
from pipeline.table import MISSING, SYMBOLS, format_fact, headline, shown_columns

CHANGES_SHOWN = 12
"""Kinds of disagreement listed; the page says how many there are."""

PARTINGS_SHOWN = 6
"""Examples listed where answers are no labels."""

EXAMPLES_SHOWN = 3
"""Texts quoted for each."""


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


@dataclass(frozen=True, kw_only=True)
class PartingView:
    """One example on which the two rows part ways, in words."""

    text: str
    truth: str
    reference: str
    candidate: str


def render_page(report: Report, texts: Sequence[str]) -> str:
    """The page for `report`; `texts` are the test examples as they are shown, in the order of its answers."""
    scenario_headers, scenario_rows = scenario_table(report)
    names = list(dict.fromkeys([*(row.row for row in report.rows), *report.benchmark.in_process]))
    return render_template(
        "report.html.j2",
        report=report,
        headline=headline(report),
        symbols=SYMBOLS,
        missing=MISSING,
        format_fact=format_fact,
        unplaced=[row for row in report.rows if row.quality and not row.p50_ms],
        columns=shown_columns(report.rows, report.evaluation.metric),
        quality_tables=quality_tables(report),
        gauges=draw_gauges(report.gates),
        quality_plot=_safe(plot_quality_against_latency(report)),
        front=front_rows(report),
        latency_plot=_safe(plot_latency_distributions(report)),
        length_plot=_safe(plot_latency_by_length(report)),
        scenario_headers=scenario_headers,
        scenario_rows=scenario_rows,
        server_plot=_safe(plot_server(report)),
        servers=[view_server(name, row) for name, row in report.benchmark.server.items()],
        server_points=sum_up(report.benchmark.server),
        parameter_bars=parameter_bars(report),
        parameter_parts=PARAMETER_PARTS,
        size_bars=size_bars(report),
        size_parts=PARTS if report.size_parts else (),
        likenesses=[_likeness(found, number) for number, found in enumerate(find_likenesses(report), start=1)],
        likeness_headers=HEADERS,
        examples=len(report.evaluation.truths),
        classifies=report.evaluation.task == "classification",
        **(_changes(report, texts) if report.evaluation.task == "classification" else _partings(report, texts)),
        measuring=describe_measuring(report.benchmark),
        series={name: series_number(name, names) for name in names},
    )


def _changes(report: Report, texts: Sequence[str]) -> dict[str, Any]:
    """Of labels: the table of who was right, and the kinds of disagreement."""
    discordance = count_discordance(report.evaluation, report.candidate, report.answering)
    changes = find_changes(report.evaluation, report.candidate, report.answering)
    return {
        "discordance": discordance,
        "p_value": mcnemar(discordance.only_candidate_right, discordance.only_reference_right),
        "changed": sum(len(change.examples) for change in changes),
        "kinds": len(changes),
        "changes": [_view(change, report, texts) for change in changes[:CHANGES_SHOWN]],
    }


def _partings(report: Report, texts: Sequence[str]) -> dict[str, Any]:
    """Of other answers: the examples on which the candidate falls furthest behind."""
    found = find_partings(report.evaluation, report.candidate, report.answering)
    labels, task = report.evaluation.labels, report.evaluation.task
    views = [
        PartingView(
            text=quote(texts[each.example]),
            truth=quote(write_truth(task, each.truth, labels)),
            reference=quote(write_answer(task, each.reference, labels)),
            candidate=quote(write_answer(task, each.candidate, labels)),
        )
        for each in found[:PARTINGS_SHOWN]
    ]
    return {"changed": len(found), "partings": views}


def _view(change: Change, report: Report, texts: Sequence[str]) -> ChangeView:
    labels = report.evaluation.labels
    return ChangeView(
        truth=labels[change.truth],
        reference=labels[change.reference],
        candidate=labels[change.candidate],
        count=len(change.examples),
        texts=tuple(quote(texts[position]) for position in change.examples[:EXAMPLES_SHOWN]),
    )


def _likeness(likeness: Likeness, number: int) -> LikenessView:
    return LikenessView(
        likeness=likeness,
        cka=_safe(draw_cka(likeness, f"cka-{number}")),
        relations=_safe(draw_relations(likeness, f"relations-{number}")),
    )


def _safe(drawing: str) -> Markup:
    return Markup(drawing)  # noqa: S704 - our own drawing
