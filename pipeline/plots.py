"""Plots as inline SVG that takes its colours from the page, so that one drawing serves light, dark and print.

Matplotlib draws in stand-in colours, which become CSS variables. Same report, same bytes: identifiers are salted with
the plot's name and no date is written. Hue tells the model (Okabe and Ito's palette, safe for the colour-blind), shape
and label tell the precision, so nothing rests on colour alone.
"""

import html
import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from pipeline.results import Interval, Report, ReportRow
from pipeline.table import format_ms

INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = ("#000011", "#000012", "#000013", "#000014")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--rule", PAPER: "--paper"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES, start=1)
}
"""Stand-in colour to the page's variable."""

MARKERS = {
    "pytorch": "s", "float32": "o", "float16": "X", "int8": "^", "int8-static": "v", "int8-blocks": "D",
    "int4-blocks": "P",
}  # fmt: skip
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
}

WIDTH_INCHES = 4.9
LABEL_GAP = 12.0
"""Points between the base lines of two labels."""

LETTER_WIDTH = 4.9
"""Points that a letter of a label takes, about."""

Point = tuple[ReportRow, Interval, Interval]
"""A row, its median latency and its accuracy."""


def plot_quality_against_latency(report: Report) -> str:
    """One point a row, with the intervals of both; empty when no row has both numbers."""
    points = [(row, row.p50_ms, row.accuracy) for row in report.rows if row.p50_ms and row.accuracy]
    if not points:
        return ""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "quality"}):
        figure = Figure(figsize=(WIDTH_INCHES, 3.4), layout="constrained")
        axes = figure.add_subplot()
        colors = _colors(report)
        for row, latency, accuracy in points:
            _draw_point(axes, row.row, latency, accuracy, colors[row.row])
        _log_axis(axes, [bound for _, latency, _ in points for bound in (latency.low, latency.high)])
        _accuracy_axis(axes, points)
        _label(figure, axes, points)
        axes.set_xlabel("median latency of one text, ms (left is faster)")
        return to_svg(figure, "quality", "Accuracy against median latency, one point a row, with 95 % intervals")


def plot_latency_distributions(report: Report) -> str:
    """One ridge a row: the density of its single-text latencies on a logarithmic axis, with the median."""
    samples = {
        name: np.concatenate([np.asarray(calls) for calls in row.single_ms])
        for name, row in report.benchmark.in_process.items()
    }
    if not samples:
        return ""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "latency"}):
        figure = Figure(figsize=(WIDTH_INCHES, 0.6 + 0.57 * len(samples)), layout="constrained")
        axes = figure.add_subplot()
        colors = _colors(report)
        shown = [np.quantile(values, [0.001, 0.995]) for values in samples.values()]
        _log_axis(axes, [float(edge) for edges in shown for edge in edges])
        for level, (name, values) in enumerate(reversed(samples.items())):
            _draw_ridge(axes, level, values, colors[name])
        axes.set_yticks(range(len(samples)), list(reversed(samples)))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-0.15, len(samples))
        axes.set_xlabel("latency of one text, ms")
        return to_svg(figure, "latency", "Distribution of single-text latencies, one ridge a row, with its median")


def series_number(row: str, rows: Sequence[str]) -> int:
    """Number of the colour of a row's model, from 1; models beyond the palette start over."""
    models = list(dict.fromkeys(name.partition("/")[0] for name in rows))
    return models.index(row.partition("/")[0]) % len(SERIES) + 1


def _colors(report: Report) -> dict[str, str]:
    names = [row.row for row in report.rows]
    return {name: SERIES[series_number(name, names) - 1] for name in names}


def _draw_point(axes: Axes, name: str, latency: Interval, accuracy: Interval, color: str) -> None:
    x_error = [[latency.value - latency.low], [latency.high - latency.value]]
    y_error = [[100 * (accuracy.value - accuracy.low)], [100 * (accuracy.high - accuracy.value)]]
    axes.errorbar(
        latency.value,
        100 * accuracy.value,
        xerr=x_error,
        yerr=y_error,
        color=color,
        elinewidth=1.0,
        marker=MARKERS.get(name.partition("/")[2], "D"),
        markersize=8,
        markeredgecolor=PAPER,
    )


def _draw_ridge(axes: Axes, level: int, values: NDArray[np.float64], color: str) -> None:
    low, high = axes.get_xlim()
    grid = np.linspace(math.log(low), math.log(high), 160)
    height = 0.6 * _density(np.log(values), grid)
    axes.fill_between(np.exp(grid), level, level + height, color=color, alpha=0.35, linewidth=0)
    axes.plot(np.exp(grid), level + height, color=color, linewidth=1.0)
    median = float(np.median(values))
    axes.plot([median, median], [level, level + 0.65], color=color, linewidth=1.4)
    text = format_ms(Interval(value=median, low=median, high=median)).text
    axes.annotate(text, (median, level + 0.65), (0, 2), textcoords="offset points", ha="center", fontsize=8.5)


def _density(logs: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density by Silverman's rule on the interquartile range, scaled to a peak of 1."""
    quartiles = np.quantile(logs, [0.25, 0.75])
    spread = max(float(quartiles[1] - quartiles[0]) / 1.34, 0.01)
    width = 0.9 * spread * len(logs) ** -0.2
    density = np.exp(-0.5 * ((grid[:, None] - logs[None, :]) / width) ** 2).sum(axis=1)
    return np.asarray(density / max(float(density.max()), 1e-300), dtype=np.float64)


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values) / 1.25, max(values) * 1.25
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    axes.xaxis.set_major_locator(FixedLocator([step * 10.0**decade for decade in decades for step in steps]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _accuracy_axis(axes: Axes, points: Sequence[Point]) -> None:
    low, high = (100 * bound for bound in (min(p[2].low for p in points), max(p[2].high for p in points)))
    margin = max(0.08 * (high - low), 0.2)
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.grid(axis="y", color=GRID, linewidth=0.6)


def _label(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Name each point on the side where the name crosses fewer intervals, and move names apart that would touch."""
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    places = [
        axes.transData.transform((latency.value, 100 * accuracy.value)) * scale for _, latency, accuracy in points
    ]
    edges = (axes.bbox.x0 * scale, axes.bbox.x1 * scale)
    taken = -math.inf
    for index in sorted(range(len(points)), key=lambda i: places[i][1]):
        row, latency, accuracy = points[index]
        taken = max(places[index][1] + 6, taken + LABEL_GAP)
        others = [float(x) for i, (x, _) in enumerate(places) if i != index]
        side = _pick_side(float(places[index][0]), LETTER_WIDTH * len(row.row), others, edges)
        axes.annotate(
            row.row,
            (latency.value, 100 * accuracy.value),
            (7 * side, taken - places[index][1]),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            fontsize=9,
            color=INK,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )


def _pick_side(x: float, width: float, others: Sequence[float], edges: tuple[float, float]) -> int:
    """1 for a name right of `x`, -1 for left: inside the axes, and over as few other points' lines as can be."""

    def cost(side: int) -> float:
        low, high = sorted((x, x + side * (width + 7)))
        outside = low < edges[0] or high > edges[1]
        return sum(low <= other <= high for other in others) + (10 if outside else 0)

    return 1 if cost(1) <= cost(-1) else -1


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The drawing for a page; `name` makes its identifiers its own, `description` is read where nobody sees it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    for color, variable in VARIABLES.items():
        drawing = drawing.replace(color, f"var({variable})")
    # Two drawings on one page must not share identifiers, nor does inline SVG need namespaces.
    drawing = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\1{name}-", drawing)
    drawing = drawing.replace("xlink:href", "href")
    head = f'<svg role="img" aria-label="{html.escape(description)}"'
    width_height = re.compile(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>')
    return width_height.sub(lambda found: f"{head} {found[1]}>", drawing, count=1)
