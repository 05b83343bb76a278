"""All rows of all runs by ratio to each run's own reference: what is comparable where milliseconds are not."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pipeline.comparison import Comparison, Run
from pipeline.labels import Label, place_labels
from pipeline.plot_quality import find_front
from pipeline.plots import (
    GRID,
    MUTED,
    PAPER,
    SERIES,
    WIDTH_INCHES,
    bars_around,
    drawing,
    is_floor,
    log_axis,
    marker_of,
    to_svg,
)
from pipeline.results import Interval, ReportRow
from pipeline.table import format_share, format_times

Point = tuple[Run, ReportRow, Interval, Interval]
"""A run, one of its rows, and that row's speed-up and share of quality kept."""

HEIGHT_INCHES = 3.9


def plot_comparison(comparison: Comparison) -> str:
    """Quality kept against speed-up, one colour a run, candidates by letter and filled, and the front of all rows.

    Empty when no row has both numbers. Floors are left out: they answer another question.
    """
    points = [point for run in comparison.runs for point in _points(run)]
    if not points:
        return ""
    with drawing("comparison"):
        figure = Figure(figsize=(WIDTH_INCHES * 1.25, HEIGHT_INCHES), layout="constrained")
        axes = figure.add_subplot()
        log_axis(axes.xaxis, [end for _, _, fast, _ in points for end in (fast.low, fast.high)])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        corners = [(-fast.value, kept.value) for _, _, fast, kept in points]
        front = [(-corners[index][0], 100 * corners[index][1]) for index in find_front(corners)]
        axes.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        for run, row, fast, kept in points:
            color = SERIES[comparison.runs.index(run) % len(SERIES)]
            chosen = row.row == run.report.candidate
            axes.errorbar(
                fast.value, 100 * kept.value, xerr=bars_around(fast), yerr=bars_around(kept, 100), color=color,
                marker=marker_of(row.row), markersize=9 if chosen else 5.5, elinewidth=1.1 if chosen else 0.5,
                markerfacecolor=color if chosen else PAPER, markeredgecolor=color, zorder=4 if chosen else 2,
            )  # fmt: skip
        chosen_points = [point for point in points if point[1].row == point[0].report.candidate]
        labels = [Label(run.letter, fast.value, 100 * kept.value) for run, _, fast, kept in chosen_points]
        place_labels(figure, axes, labels)
        axes.set_xlabel("speed-up over the run's own reference (right is faster)")
        axes.set_ylabel(f"{comparison.word} kept of that reference")
        details = "; ".join(
            f"{run.letter} {row.row}: {format_share(kept)} kept, {format_times(fast)} as fast"
            for run, row, fast, kept in points
        )
        return to_svg(
            figure,
            "comparison",
            f"{comparison.word.capitalize()} kept against speed-up, one point a row of each run",
            details,
        )


def _points(run: Run) -> list[Point]:
    return [
        (run, row, row.speedup, row.quality_ratio)
        for row in run.report.rows
        if row.speedup and row.quality_ratio and not is_floor(row.row)
    ]
