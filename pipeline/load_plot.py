"""A load report drawn: rate against its tail, and the latencies of each rate."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.load_records import LoadPoint, LoadReport
from pipeline.load_table import percentile_drawn
from pipeline.plots import GRID, INK, MUTED, PAPER, SERIES, STYLE, to_svg
from pipeline.results import Interval

WIDTH_INCHES = 4.9
MARK_POINTS = 6.0
RATES_DRAWN = 12
"""Of the histograms; the highest of more."""


def plot_knee(report: LoadReport) -> str:
    """Requests a second against the tail and the median, with the objective and the knee; empty without any."""
    name, tail = percentile_drawn(report)
    median = [(point, point.figures.p50_ms) for point in report.points if point.figures.p50_ms]
    if not median:
        return ""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "knee"}):
        figure = Figure(figsize=(WIDTH_INCHES, 3.6), layout="constrained")
        axes = figure.add_subplot()
        if name != "p50":
            _draw_line(axes, tail, SERIES[0], name)
        _draw_line(axes, median, SERIES[1], "p50")
        values = [bound for _, shown in (*tail, *median) for bound in (shown.low, shown.high)]
        _log_ticks(axes, [point.rate_per_second for point in report.points], horizontal=True)
        _log_ticks(axes, [*values, report.objective_p99_ms], horizontal=False)
        axes.axhline(report.objective_p99_ms, color=MUTED, linewidth=1.0, linestyle="--", zorder=0.5)
        _draw_knee(axes, report)
        axes.legend(frameon=False, loc="best", labelcolor=INK)
        axes.set_xlabel("requests a second, arriving at random")
        axes.set_ylabel("latency from the scheduled start, ms")
        return to_svg(figure, "knee", f"{name} and median latency at each rate, with 95 % intervals, and the knee")


def plot_histograms(report: LoadReport) -> str:
    """One ridge a rate, lowest first from below: how its latencies are spread; empty when nothing was answered."""
    answered = sorted((p for p in report.points if p.figures.histogram), key=lambda p: p.rate_per_second)
    points = answered[-RATES_DRAWN:]
    if not points:
        return ""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "spread"}):
        figure = Figure(figsize=(WIDTH_INCHES, 0.8 + 0.42 * len(points)), layout="constrained")
        axes = figure.add_subplot()
        bounds = [bound for p in points for bucket in p.figures.histogram for bound in (bucket.from_ms, bucket.to_ms)]
        _log_ticks(axes, bounds, horizontal=True)
        axes.axvline(report.objective_p99_ms, color=MUTED, linewidth=1.0, linestyle="--", zorder=0.5)
        for level, point in enumerate(points):
            _draw_ridge(axes, level, point)
        axes.set_yticks(range(len(points)), [f"{point.rate_per_second:g}/s {_mark(point)}" for point in points])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-0.15, len(points) + 0.1)
        axes.set_xlabel("latency from the scheduled start, ms")
        return to_svg(figure, "spread", "How the latencies of each rate are spread, on a logarithmic axis")


def _draw_knee(axes: Axes, report: LoadReport) -> None:
    """A line with its name, which stands on the side that has more room."""
    knee = report.knee_per_second
    if knee is None:
        return
    low, high = axes.get_xlim()
    right = knee * knee < low * high
    axes.axvline(knee, color=INK, linewidth=1.0, linestyle=":", zorder=0.5)
    axes.annotate(
        f"knee {knee:g}/s" if report.bounded else f"at least {knee:g}/s", (knee, 1.0), (4 if right else -4, -2),
        xycoords=("data", "axes fraction"), textcoords="offset points", ha="left" if right else "right", va="top",
        color=INK, fontsize=9, bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
    )  # fmt: skip


def _draw_line(axes: Axes, points: list[tuple[LoadPoint, Interval]], color: str, label: str) -> None:
    """Rates in order; hollow marks are of points that say nothing of the service."""
    points = sorted(points, key=lambda one: one[0].rate_per_second)
    valid = [one for one in points if one[0].valid]
    axes.plot(
        [point.rate_per_second for point, _ in valid], [shown.value for _, shown in valid], color=color, linewidth=1.2,
        label=label,
    )  # fmt: skip
    for point, shown in points:
        axes.errorbar(
            point.rate_per_second, shown.value, yerr=[[shown.value - shown.low], [shown.high - shown.value]],
            color=color, elinewidth=0.9, marker="o", markersize=MARK_POINTS, markeredgecolor=color,
            markerfacecolor=color if point.valid else PAPER,
        )  # fmt: skip


def _draw_ridge(axes: Axes, level: int, point: LoadPoint) -> None:
    """Steps: the buckets are of even width on this axis, so their counts are the density."""
    color = SERIES[0] if point.kept else SERIES[1] if point.valid else MUTED
    buckets = point.figures.histogram
    highest = max(bucket.requests for bucket in buckets)
    for bucket in buckets:
        height = 0.85 * math.sqrt(bucket.requests / highest)
        axes.fill_between([bucket.from_ms, bucket.to_ms], level, level + height, color=color, alpha=0.6, linewidth=0)
    median = float(np.median(point.latency_ms))
    axes.plot([median, median], [level, level + 0.9], color=INK, linewidth=1.2)


def _mark(point: LoadPoint) -> str:
    """Whether it kept, so that nothing rests on colour alone."""
    if not point.valid:
        return "?"
    return "✓" if point.kept else "✗"


def _log_ticks(axes: Axes, values: list[float], *, horizontal: bool) -> None:
    """A logarithmic axis around the values, with as many ticks a decade as its length leaves room for."""
    low, high = max(min(values), 1e-3) / 1.25, max(values) * 1.25
    axis = axes.xaxis if horizontal else axes.yaxis
    (axes.set_xscale if horizontal else axes.set_yscale)("log")
    (axes.set_xlim if horizontal else axes.set_ylim)(low, high)
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8) if high / low <= 4 else (1, 2, 5) if high / low < 1000 else (1,)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    axis.set_major_locator(FixedLocator([step * 10.0**decade for decade in decades for step in steps]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x" if horizontal else "y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
