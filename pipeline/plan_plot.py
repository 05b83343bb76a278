"""The plan drawn: latency against parameters and against size, limits as lines, what fits filled."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.plan_records import Plan, PlanRow
from pipeline.plots import GRID, INK, MARKERS, MUTED, PAPER, SERIES, drawing, to_svg

WIDTH_INCHES, HEIGHT_INCHES = 5.2, 5.6
POINT = 6.5
"""Diameter of a mark in points."""


def plot_plan(plan: Plan) -> str:
    """Two panels over one axis of latency: millions of Transformer parameters above, megabytes below."""
    with drawing("plan"):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        precisions = list(dict.fromkeys(row.precision for row in plan.rows))
        for number, precision in enumerate(precisions):
            rows = [row for row in plan.rows if row.precision == precision]
            _draw(upper, [(row, row.transformer / 1e6) for row in rows], SERIES[number])
            _draw(lower, [(row, row.size_mb) for row in rows], SERIES[number])
            mark = upper.plot([], [], MARKERS[precision], color=SERIES[number], label=precision)[0]
            mark.set_markersize(POINT)
        upper.legend(frameon=False, loc="lower right", labelcolor=INK)
        _finish(upper, [row.transformer / 1e6 for row in plan.rows], "Transformer parameters, M")
        _finish(lower, [row.size_mb for row in plan.rows], "graph and weights, MB")
        _log_ticks(lower, [row.p50_ms.value for row in plan.rows], horizontal=True)
        lower.set_xlabel("median latency of one text, ms (left is faster)")
        _draw_limits(plan, upper, lower)
        return to_svg(figure, "plan", "Every shape's median latency against its parameters and its size")


def _draw(axes: Axes, points: list[tuple[PlanRow, float]], color: str) -> None:
    for row, height in points:
        p50, filled = row.p50_ms, row.verdict in (None, "pass")
        axes.errorbar(
            p50.value, height, xerr=[[p50.value - p50.low], [p50.high - p50.value]], color=color, elinewidth=0.8,
            marker=MARKERS[row.precision], markersize=POINT, markerfacecolor=color if filled else PAPER,
            markeredgecolor=color,
        )  # fmt: skip


def _draw_limits(plan: Plan, upper: Axes, lower: Axes) -> None:
    if plan.budget.p50_ms is not None:
        for axes in (upper, lower):
            axes.axvline(plan.budget.p50_ms, color=MUTED, linewidth=1.0, linestyle="--", zorder=0.5)
    if plan.budget.size_mb is not None:
        lower.axhline(plan.budget.size_mb, color=MUTED, linewidth=1.0, linestyle="--", zorder=0.5)
    chosen = next((row for row in plan.rows if row.row == plan.largest), None)
    if chosen is not None:
        for axes, height in ((upper, chosen.transformer / 1e6), (lower, chosen.size_mb)):
            axes.annotate(
                chosen.row, (chosen.p50_ms.value, height), (6, 7), textcoords="offset points", color=INK, fontsize=9,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            )  # fmt: skip


def _finish(axes: Axes, values: list[float], label: str) -> None:
    axes.set_ylabel(label)
    _log_ticks(axes, values, horizontal=False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _log_ticks(axes: Axes, values: list[float], *, horizontal: bool) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5, written as plain numbers."""
    axis = axes.xaxis if horizontal else axes.yaxis
    (axes.set_xscale if horizontal else axes.set_yscale)("log")
    decades = range(math.floor(math.log10(min(values))) - 1, math.ceil(math.log10(max(values))) + 2)
    axis.set_major_locator(FixedLocator([step * 10.0**decade for decade in decades for step in (1, 2, 5)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
