"""Every run of the gate on speed as one line: its interval, and on which side of the bound that lies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00")
MARKERS = {"pass": "o", "fail": "s", "inconclusive": "|"}
"""By verdict, so that a print in grey tells them apart too."""
OPEN_WIDTH = 1.6
"""Of the line of a run that is inconclusive; the others are thin."""


def plot_runs(conditions: Mapping[str, Any], bound: float, path: Path) -> None:
    """A panel a condition: intervals sorted by value, one colour a candidate, the bound and no change as lines."""
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    panels = figure.subplots(1, len(conditions), squeeze=False, sharex=True)[0]
    for axes, (condition, about) in zip(panels, conditions.items(), strict=True):
        _draw(axes, about["outcomes"], bound)
        axes.set_title({"neighbour": "beside a neighbour"}.get(condition, condition), fontsize=10)
    panels[0].set_ylabel("runs, by value")
    panels[0].legend(loc="upper center", fontsize=8, frameon=False)
    figure.suptitle("speed as a multiple of the reference's, with the gate's interval", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def _draw(axes: Axes, outcomes: Mapping[str, Any], bound: float) -> None:
    for color, (name, runs) in zip(COLORS, outcomes.items(), strict=True):
        ordered = sorted(runs, key=lambda run: run["value"])
        for place, run in enumerate(ordered):
            wide = OPEN_WIDTH if run["verdict"] == "inconclusive" else 0.8
            axes.plot([run["low"], run["high"]], [place, place], color=color, linewidth=wide, alpha=0.7)
        for verdict, marker in MARKERS.items():
            points = [(run["value"], place) for place, run in enumerate(ordered) if run["verdict"] == verdict]
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=color, markersize=3, label=f"{name}: {verdict}")
    axes.axvline(bound, color="#444444", linestyle="--", linewidth=1)
    axes.axvline(1, color="#bbbbbb", linewidth=1)
    axes.annotate(f"bound {bound:g}", (bound, 1.0), (3, -9), xycoords=("data", "axes fraction"),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axes.grid(visible=True, axis="x", alpha=0.3)
