"""Names beside the points of a drawing, so that none covers another or a point's interval.

Each name takes the first-best of a few places around its point: right or left, above or below, farther away as needed,
with a thin line where it had to go far.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.plots import INK, MUTED, PAPER

LETTER_WIDTH = 6.0
"""Points that a letter of a label takes, about."""

LINE_HEIGHT = 11.0
"""Points from the foot of a label to its head."""

GAP = 7.0
"""Points between a mark and its name."""

FAR = 10.0
"""Points of height from which on a line leads to the name."""

_HEIGHTS = (0.0, 11.0, -11.0, 22.0, -22.0, 33.0, -33.0, 44.0, -44.0, 55.0, -55.0)
_OUTSIDE, _COVERS_NAME, _COVERS_MARK, _CROSSES = 100.0, 20.0, 8.0, 1.5


class Label(NamedTuple):
    """A name and the point it belongs to, in the units of the axes."""

    text: str
    x: float
    y: float


class _Box(NamedTuple):
    left: float
    right: float
    foot: float
    head: float

    def overlaps(self, other: "_Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.foot < other.head and other.foot < self.head


def place_labels(figure: Figure, axes: Axes, labels: Sequence[Label]) -> None:
    """Write each name beside its point, from the lowest point up; call it when limits and scales are final."""
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    points = [tuple(axes.transData.transform((label.x, label.y)) * scale) for label in labels]
    inside = _Box(axes.bbox.x0 * scale, axes.bbox.x1 * scale, axes.bbox.y0 * scale, axes.bbox.y1 * scale)
    marks = [_Box(x - 4, x + 4, y - 4, y + 4) for x, y in points]
    taken: list[_Box] = []
    for index in sorted(range(len(labels)), key=lambda i: (points[i][1], points[i][0])):
        (x, y), label = points[index], labels[index]
        others = [mark for i, mark in enumerate(marks) if i != index]
        width = LETTER_WIDTH * len(label.text)
        side, height = min(
            product((1, -1), _HEIGHTS), key=lambda way: _cost(_box(x, y, width, *way), way[1], inside, taken, others)
        )
        taken.append(_box(x, y, width, side, height))
        _write(axes, label, side, height)


def _box(x: float, y: float, width: float, side: int, height: float) -> _Box:
    left, right = sorted((x + side * GAP, x + side * (GAP + width)))
    middle = y + height
    return _Box(left, right, middle - LINE_HEIGHT / 2, middle + LINE_HEIGHT / 2)


def _cost(box: _Box, height: float, inside: _Box, taken: Sequence[_Box], marks: Sequence[_Box]) -> float:
    """How bad a place is. Height counts a little; level with its point, a name lies on the point's own interval."""
    out = box.left < inside.left or box.right > inside.right or box.foot < inside.foot or box.head > inside.head + 8
    crossed = sum(box.left < (mark.left + mark.right) / 2 < box.right for mark in marks)
    return (
        _OUTSIDE * out
        + _COVERS_NAME * sum(map(box.overlaps, taken))
        + _COVERS_MARK * sum(map(box.overlaps, marks))
        + _CROSSES * crossed
        + (0.6 if height == 0 else abs(height) / 40)
    )


def _write(axes: Axes, label: Label, side: int, height: float) -> None:
    leader = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    axes.annotate(
        label.text,
        (label.x, label.y),
        (GAP * side, height),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center_baseline",
        fontsize=9,
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        arrowprops=leader if abs(height) > FAR else None,
    )
