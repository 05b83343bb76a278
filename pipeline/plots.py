"""Plots as inline SVG that takes its colours from the page, so that one drawing serves light, dark and print.

Matplotlib draws in stand-in colours, which become CSS variables. Same report, same bytes: identifiers are salted with
the plot's name and no date is written. Hue tells the model (Okabe and Ito's palette, safe for the colour-blind; floors
are grey), shape and label tell the precision, so nothing rests on colour alone.

    with drawing("quality"):
        figure = Figure(...)
        ...
        return to_svg(figure, "quality", "Accuracy against median latency")
"""

import html
import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, get_args

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.results import Interval
from pipeline.rows_config import Floor

INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015", "#000016")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--rule", PAPER: "--paper"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES, start=1)
}
"""Stand-in colour to the page's variable."""

MARKERS = {
    "pytorch": "s", "pytorch-eager": "<", "pytorch-compiled": ">", "float32": "o", "float16": "X", "int8": "^",
    "int8-static": "v", "int8-blocks": "D", "int4-blocks": "P",
}  # fmt: skip
OTHER_MARKER = "d"
"""Of rows without a precision, such as a cascade or a floor."""

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


MOST_LETTERS = 24
"""Of a name in a drawing; tables and descriptions have the whole."""


def drawing(name: str) -> AbstractContextManager[None]:
    """Within it, figures have the page's style and identifiers that only `name` decides."""
    return mpl.rc_context(STYLE | {"svg.hashsalt": name})


def is_floor(row: str) -> bool:
    """Whether `row` is there to be beaten."""
    return row in get_args(Floor)


def series_number(row: str, rows: Sequence[str]) -> int:
    """Number of the colour of a row's model, from 1; models beyond the palette start over. A floor is 0, for grey."""
    if is_floor(row):
        return 0
    models = list(dict.fromkeys(name.partition("/")[0] for name in rows if not is_floor(name)))
    return models.index(row.partition("/")[0]) % len(SERIES) + 1


def colors_of(rows: Sequence[str]) -> dict[str, str]:
    """Stand-in colour of each row."""
    return {row: (MUTED, *SERIES)[series_number(row, rows)] for row in rows}


def marker_of(row: str) -> str:
    """Shape of a row's precision."""
    return MARKERS.get(row.partition("/")[2], OTHER_MARKER)


def short(name: str) -> str:
    """The name of a row as a drawing has room for it, its middle left out where it is long."""
    half = MOST_LETTERS // 2
    return name if len(name) <= MOST_LETTERS else f"{name[: half - 1]}…{name[-half:]}"


def bars_around(interval: Interval, scale: float = 1.0) -> list[list[float]]:
    """The interval as matplotlib's error bars want it: how far below and above the value."""
    return [[scale * (interval.value - interval.low)], [scale * (interval.high - interval.value)]]


def log_axis(axis: XAxis | YAxis, values: Sequence[float]) -> None:
    """A logarithmic axis around `values`, with ticks at 1, 2 and 5, or closer where they span little."""
    low, high = min(values) / 1.25, max(values) * 1.25
    axes = axis.axes
    if isinstance(axis, XAxis):
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    steps = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    axis.set_major_locator(FixedLocator([step * 10.0**decade for decade in decades for step in steps]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(visible=True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def legend_below(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """What each line is, under the drawing, where it covers nothing."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9,
        handlelength=2.2,
    )  # fmt: skip


def to_svg(figure: Figure, name: str, description: str, details: str = "") -> str:
    """The drawing for a page; `name` makes its identifiers its own.

    `description` is its title and `details` are its numbers, read where nobody sees it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    # Two drawings on one page must not share identifiers, nor does inline SVG need namespaces.
    svg = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\1{name}-", svg)
    svg = svg.replace("xlink:href", "href")
    told = {"title": description, "desc": details}
    told = {tag: text for tag, text in told.items() if text}
    head = f'<svg role="img" aria-labelledby="{" ".join(f"{name}-{tag}" for tag in told)}"'
    inside = "".join(f'<{tag} id="{name}-{tag}">{html.escape(text)}</{tag}>' for tag, text in told.items())
    width_height = re.compile(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>')
    return width_height.sub(lambda found: f"{head} {found[1]}>{inside}", svg, count=1)
