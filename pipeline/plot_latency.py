"""Latency in process: how it is distributed for single texts, and how it grows with the length of the text."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plots import (
    INK,
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
from pipeline.results import Interval, Report
from pipeline.statistics import percentile
from pipeline.table import exact, format_ms

RIDGE_INCHES, FEWER = 0.57, 7
"""Height of a ridge, as long as there are no more than so many; beyond, they share that height."""


def plot_latency_distributions(report: Report) -> str:
    """One ridge a row: the density of its single-text latencies on a logarithmic axis, with the median."""
    samples = {name: pool(row.single_ms) for name, row in report.benchmark.in_process.items() if row.single_ms}
    if not samples:
        return ""
    with drawing("latency"):
        inches = RIDGE_INCHES * max(0.75, min(1.0, FEWER / len(samples)))
        figure = Figure(figsize=(WIDTH_INCHES, 0.6 + inches * len(samples)), layout="constrained")
        axes = figure.add_subplot()
        colors = colors_of(list(dict.fromkeys([*(row.row for row in report.rows), *samples])))
        shown = [np.quantile(values, [0.001, 0.995]) for values in samples.values()]
        log_axis(axes.xaxis, [float(edge) for edges in shown for edge in edges])
        for level, (name, values) in enumerate(reversed(samples.items())):
            _draw_ridge(axes, level, values, colors[name])
        axes.set_yticks(range(len(samples)), [short(name) for name in reversed(samples)])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-0.15, len(samples))
        axes.set_xlabel("latency of one text, ms")
        details = "; ".join(f"{name}: median {_median_text(values)}" for name, values in samples.items())
        return to_svg(figure, "latency", "Distribution of single-text latencies, one ridge a row", details)


def plot_latency_by_length(report: Report) -> str:
    """One line a row: median latency of single texts at each fixed length; empty where lengths were not measured."""
    lines = {name: medians_by_length(report, name) for name in report.benchmark.in_process}
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return ""
    with drawing("length"):
        figure = Figure(figsize=(WIDTH_INCHES, 3.2 + 0.09 * len(lines)), layout="constrained")
        axes = figure.add_subplot()
        colors = colors_of(list(dict.fromkeys([*(row.row for row in report.rows), *lines])))
        for name, line in lines.items():
            _draw_line(axes, name, line, colors[name])
        lengths = sorted({length for line in lines.values() for length in line})
        log_axis(axes.yaxis, [bound for line in lines.values() for ms in line.values() for bound in (ms.low, ms.high)])
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, [str(length) for length in lengths])
        axes.minorticks_off()
        axes.set_xlabel("length of the text, tokens")
        axes.set_ylabel("median latency, ms")
        legend_below(figure, axes)
        details = "; ".join(f"{name}: {_describe(line)}" for name, line in lines.items())
        return to_svg(figure, "length", "Median latency of one text against its length, one line a row", details)


def medians_by_length(report: Report, row: str) -> dict[int, Interval]:
    """Tokens to the median latency of single texts of that length, where the sample carries one; shortest first."""
    measured = report.benchmark.in_process[row].by_length_ms
    medians = {length: percentile(pool(measured[length]).tolist(), 0.5) for length in sorted(measured)}
    return {length: median for length, median in medians.items() if median is not None}


def pool(rounds: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """All samples of all rounds; none of no rounds."""
    return np.asarray([sample for calls in rounds for sample in calls], dtype=np.float64)


def _draw_line(axes: Axes, name: str, line: dict[int, Interval], color: str) -> None:
    heights = np.array([bars_around(ms) for ms in line.values()])[:, :, 0].T
    medians = [ms.value for ms in line.values()]
    axes.errorbar(
        list(line), medians, yerr=heights, label=short(name), color=color, marker=marker_of(name),
        markersize=5.5, linewidth=1.1, elinewidth=0.9,
    )  # fmt: skip


def _draw_ridge(axes: Axes, level: int, values: NDArray[np.float64], color: str) -> None:
    low, high = axes.get_xlim()
    grid = np.linspace(math.log(low), math.log(high), 160)
    height = 0.6 * _density(np.log(values), grid)
    axes.fill_between(np.exp(grid), level, level + height, color=color, alpha=0.35, linewidth=0)
    axes.plot(np.exp(grid), level + height, color=color, linewidth=1.0)
    median = float(np.median(values))
    axes.plot([median, median], [level, level + 0.65], color=color, linewidth=1.4)
    axes.annotate(
        _median_text(values), (median, level + 0.65), (0, 2), textcoords="offset points", ha="center", fontsize=8.5
    )


def _density(logs: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density by Silverman's rule on the interquartile range, scaled to a peak of 1."""
    quartiles = np.quantile(logs, [0.25, 0.75])
    spread = max(float(quartiles[1] - quartiles[0]) / 1.34, 0.01)
    width = 0.9 * spread * len(logs) ** -0.2
    density = np.exp(-0.5 * ((grid[:, None] - logs[None, :]) / width) ** 2).sum(axis=1)
    return np.asarray(density / max(float(density.max()), 1e-300), dtype=np.float64)


def _median_text(values: NDArray[np.float64]) -> str:
    return format_ms(exact(float(np.median(values)))).text


def _describe(line: dict[int, Interval]) -> str:
    return ", ".join(f"{length} tokens {format_ms(ms)}" for length, ms in line.items())
