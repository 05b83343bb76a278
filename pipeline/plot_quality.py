"""Quality against latency: one point a row with both intervals, and the front of those that no other row beats."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pipeline.labels import Label, place_labels
from pipeline.plots import (
    GRID,
    MUTED,
    PAPER,
    WIDTH_INCHES,
    bars_around,
    colors_of,
    drawing,
    is_floor,
    log_axis,
    marker_of,
    short,
    to_svg,
)
from pipeline.results import Interval, Report, ReportRow
from pipeline.scores.quality import QUALITIES, Quality
from pipeline.table import format_area, format_ms, format_share

HEIGHT_INCHES, ROOM_INCHES = 2.9, 0.1
"""Height, and what each row adds to it for its name."""

Point = tuple[ReportRow, Interval, Interval]
"""A row, its median latency and its quality."""


def plot_quality_against_latency(report: Report) -> str:
    """One point a row and the front as a dashed line; empty when no row has both numbers.

    A floor far below all models does not stretch the axis: it stands at the foot, with its quality in its name.
    """
    points = [(row, row.p50_ms, row.quality) for row in report.rows if row.p50_ms and row.quality]
    if not points:
        return ""
    metric = QUALITIES[report.evaluation.metric]
    with drawing("quality"):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES + ROOM_INCHES * len(points)), layout="constrained")
        axes = figure.add_subplot()
        log_axis(axes.xaxis, [bound for _, latency, _ in points for bound in (latency.low, latency.high)])
        _quality_axis(axes, points, metric)
        _draw_front(axes, points, metric)
        colors = colors_of([row.row for row in report.rows])
        labels = [_draw_point(axes, point, colors[point[0].row], metric) for point in points]
        place_labels(figure, axes, labels)
        axes.set_xlabel("median latency of one text, ms (left is faster)")
        axes.set_ylabel(metric.word)
        write = format_share if metric.is_share else format_area
        details = "; ".join(f"{row.row}: {write(right)} at {format_ms(ms)}" for row, ms, right in points)
        title = f"{metric.word[0].upper()}{metric.word[1:]} against median latency, one point a row"
        return to_svg(figure, "quality", title, details)


def find_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points (cost, gain) that no other beats, cheapest first.

    One beats another when it costs no more and gains no less, and is better in one of the two.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        best = points[front[-1]] if front else None
        if best is None or points[index][1] > best[1] or points[index] == best:
            front.append(index)
    return front


def front_rows(report: Report) -> list[str]:
    """Rows on the front of quality against median latency, by their values alone, fastest first."""
    rows = [(row.row, row.p50_ms.value, row.quality.value) for row in report.rows if row.p50_ms and row.quality]
    return [rows[index][0] for index in find_front([(ms, right) for _, ms, right in rows])]


def _quality_axis(axes: Axes, points: Sequence[Point], metric: Quality) -> None:
    """In per cent where the metric is a share."""
    scale = _scale(metric)
    shown = [quality for row, _, quality in points if not is_floor(row.row)] or [point[2] for point in points]
    low, high = scale * min(each.low for each in shown), scale * max(each.high for each in shown)
    margin = max(0.1 * (high - low), 0.002 * scale)
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %" if metric.is_share else f"{value:g}"))
    axes.grid(axis="y", color=GRID, linewidth=0.6)


def _scale(metric: Quality) -> int:
    return 100 if metric.is_share else 1


def _draw_front(axes: Axes, points: Sequence[Point], metric: Quality) -> None:
    """Stairs: what quality there is to be had within a latency."""
    numbers = [(latency.value, _scale(metric) * quality.value) for _, latency, quality in points]
    corners = [numbers[index] for index in find_front(numbers)]
    right = axes.get_xlim()[1]
    xs = [corners[0][0], *(x for x, _ in corners), right]
    ys = [axes.get_ylim()[0], *(y for _, y in corners), corners[-1][1]]
    axes.step(xs, ys, where="post", color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)


def _draw_point(axes: Axes, point: Point, color: str, metric: Quality) -> Label:
    """The point and its intervals; the name to write beside it."""
    row, latency, quality = point
    foot, scale = axes.get_ylim()[0], _scale(metric)
    if scale * quality.high < foot:
        axes.plot(latency.value, foot, "v", color=color, markersize=8, clip_on=False)
        write = format_share if metric.is_share else format_area
        return Label(f"{short(row.row)} ({write(quality).text})", latency.value, foot)
    axes.errorbar(
        latency.value,
        scale * quality.value,
        xerr=bars_around(latency),
        yerr=bars_around(quality, scale),
        color=color,
        elinewidth=1.0,
        marker=marker_of(row.row),
        markersize=8,
        markeredgecolor=PAPER,
        zorder=3,
    )
    return Label(short(row.row), latency.value, scale * quality.value)
