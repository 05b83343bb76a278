"""Every run of the gate on speed as one line: its interval, and on which side of the bound that lies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00")
MARKERS = {"pass": "o", "fail": "s", "inconclusive": "d"}
"""By verdict, so that a print in grey tells them apart too."""
SHOWN = (0.7, 1.3)
"""Intervals are cut off beyond these."""
OPEN_COLOR = "#222222"
"""Of the intervals that are inconclusive."""


def plot_runs(conditions: Mapping[str, Any], bound: float, path: Path) -> None:
    """A panel a condition: intervals sorted by value, one colour a candidate, the bound and no change as lines."""
    figure = Figure(figsize=(8.5, 5.0), layout="constrained")
    panels = figure.subplots(1, len(conditions), squeeze=False, sharex=True)[0]
    named: dict[str, Artist] = {}
    for axes, (condition, about) in zip(panels, conditions.items(), strict=True):
        named |= _draw(axes, about["outcomes"], bound)
        axes.set_title({"neighbour": "beside a neighbour"}.get(condition, condition), fontsize=10)
    runs = [run for about in conditions.values() for each in about["outcomes"].values() for run in each]
    least, most = min(run["low"] for run in runs), max(run["high"] for run in runs)
    panels[0].set_xlim(max(least, SHOWN[0]) - 0.01, min(most, SHOWN[1]) + 0.01)
    panels[0].set_ylabel("runs, by value")
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle("speed as a multiple of the reference's, with the gate's interval", fontsize=10)
    with mpl.rc_context({"svg.hashsalt": "gates"}):  # so that the same runs are the same file
        figure.savefig(path, metadata={"Date": None})


def _draw(axes: Axes, outcomes: Mapping[str, Any], bound: float) -> dict[str, Artist]:
    """What the legend names."""
    named: dict[str, Artist] = {}
    for color, (name, runs) in zip(COLORS, outcomes.items(), strict=True):
        ordered = sorted(enumerate(runs), key=lambda pair: pair[1]["value"])
        places = {number: place for place, (number, _) in enumerate(ordered)}
        for verdict, marker in MARKERS.items():
            shown = [(places[number], run) for number, run in enumerate(runs) if run["verdict"] == verdict]
            if not shown:
                continue
            lows, highs, values = ([run[key] for _, run in shown] for key in ("low", "high", "value"))
            heights = [place for place, _ in shown]
            line = OPEN_COLOR if verdict == "inconclusive" else color
            axes.hlines(heights, lows, highs, color=line, linewidth=0.8, alpha=0.7)
            points = axes.plot(values, heights, marker, color=color, markersize=3)
            named[f"{name}: {verdict}"] = points[0]
    axes.axvline(bound, color="#444444", linestyle="--", linewidth=1)
    axes.axvline(1, color="#bbbbbb", linewidth=1, zorder=0)
    axes.annotate(f"bound {bound:g}", (bound, 1.0), (3, -9), xycoords=("data", "axes fraction"),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axes.grid(visible=True, axis="x", alpha=0.3)
    return named
