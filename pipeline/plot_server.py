"""Throughput against the 99th percentile: one line a row over the rates it was offered, up to its knee and beyond."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.plots import (
    MUTED,
    PAPER,
    WIDTH_INCHES,
    bars_around,
    colors_of,
    drawing,
    legend_below,
    log_axis,
    marker_of,
    short,
    to_svg,
)
from pipeline.results import Interval, RatePoint, Report, ServerRow
from pipeline.server_points import Latency, by_rate, latency_at, view_server

Line = list[tuple[RatePoint, Latency]]
"""Rates with their 99th percentile."""


def plot_server(report: Report) -> str:
    """p99 with its interval over the rate offered, hollow where the client did not keep up, a ring at the knee.

    Medians are a dotted line, which also goes where too few requests came for a p99. Percentiles among requests that
    failed stand at the upper edge. Empty where the Server scenario was not measured.
    """
    servers = {name: row for name, row in report.benchmark.server.items() if row.points}
    if not servers:
        return ""
    with drawing("server"):
        figure = Figure(figsize=(WIDTH_INCHES, 3.4 + 0.09 * len(servers)), layout="constrained")
        axes = figure.add_subplot()
        p99 = {name: percentiles(row, 0.99) for name, row in servers.items()}
        p50 = {name: percentiles(row, 0.5) for name, row in servers.items()}
        objectives = {row.objective_p99_ms for row in servers.values()}
        log_axis(axes.xaxis, [point.rate_per_second for row in servers.values() for point in row.points])
        log_axis(axes.yaxis, [*_finite([*p99.values(), *p50.values()]), *(2 * objective for objective in objectives)])
        for objective in sorted(objectives):
            _draw_objective(axes, objective)
        colors = colors_of(list(dict.fromkeys([*(row.row for row in report.rows), *servers])))
        for name, row in servers.items():
            _draw_medians(axes, p50[name], colors[name])
            _draw_line(axes, name, p99[name], row.knee_per_second, colors[name])
        axes.set_xlabel("requests offered a second (right is more)")
        axes.set_ylabel("p99 from the scheduled start, ms")
        legend_below(figure, axes)
        details = "; ".join(f"{name}: knee {view_server(name, row).knee}" for name, row in servers.items())
        return to_svg(figure, "server", "99th percentile of latency against the rate offered, one line a row", details)


def percentiles(server: ServerRow, share: float) -> Line:
    """The rates whose samples carry that percentile, lowest first."""
    found = [(point, latency_at(point, share)) for point in by_rate(server)]
    return [(point, latency) for point, latency in found if latency is not None]


def _finite(lines: Sequence[Line]) -> list[float]:
    ends = [end for line in lines for _, latency in line for end in (latency.low, latency.high)]
    return [end for end in ends if math.isfinite(end) and end > 0]


def _draw_objective(axes: Axes, objective_ms: float) -> None:
    axes.axhline(objective_ms, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    left = axes.get_xlim()[0]
    axes.annotate(
        f"objective {objective_ms:g} ms", (left, objective_ms), (4, 3), textcoords="offset points",
        fontsize=8.5, color=MUTED,
    )  # fmt: skip


def _draw_medians(axes: Axes, line: Line, color: str) -> None:
    seen = [(point.rate_per_second, ms.value) for point, ms in line if math.isfinite(ms.value)]
    if seen:
        axes.plot(*zip(*seen, strict=True), color=color, linewidth=0.9, linestyle=":", alpha=0.9)


def _draw_line(axes: Axes, name: str, line: Line, knee: float | None, color: str) -> None:
    """The line without its failed end, each point with its interval, and the knee's ring."""
    top = axes.get_ylim()[1]
    answered = [(point.rate_per_second, ms.value) for point, ms in line if math.isfinite(ms.value)]
    axes.plot(
        [rate for rate, _ in answered], [ms for _, ms in answered], color=color, linewidth=1.1, marker=marker_of(name),
        markersize=6, label=short(name), markeredgecolor=color,
    )  # fmt: skip
    for point, ms in line:
        rate, height = point.rate_per_second, ms.value
        if math.isinf(ms.value):
            axes.plot(rate, top, "^", color=color, markersize=8, clip_on=False, zorder=4)
            continue
        bounded = Interval(value=ms.value, low=ms.low, high=min(ms.high, top))
        axes.errorbar(rate, height, yerr=bars_around(bounded), color=color, elinewidth=0.9)
        if not point.valid:
            axes.plot(rate, height, marker_of(name), color=PAPER, markersize=5, markeredgecolor=color, zorder=4)
        if rate == knee:
            axes.plot(rate, height, "o", color="none", markersize=13, markeredgecolor=color, zorder=4)
