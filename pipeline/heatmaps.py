"""Heatmaps of every layer of a student beside every layer of its teacher, drawn as the other plots are.

A cell is one colour of the page, the more opaque the more alike, so that its number is read in the page's own ink. In
each row, the cell that is most alike is framed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.fidelity import Likeness, Matrix
from pipeline.plots import INK, SERIES, WIDTH_INCHES, drawing, to_svg

DARKEST = 0.55
"""Opacity at its most alike: ink keeps its contrast on it, in light and in dark."""
MOST_NUMBERED = 13
"""Columns that leave room for a number in each cell."""
NUMBERED_INCHES, PLAIN_INCHES = 0.29, 0.17
"""Height of a row with and without numbers."""


class Panel(NamedTuple):
    """One matrix of a drawing, its title, and how opaque a number of it is."""

    title: str
    matrix: Matrix
    opacity: Callable[[float], float]


def draw_cka(likeness: Likeness, name: str) -> str:
    """CKA of all layers, embeddings included; `name` tells the drawings of a page apart."""
    cka, teacher = likeness.fidelity.cka, likeness.fidelity.teacher
    description = f"CKA of the layers of {likeness.student}, down, and of {teacher}, across: {_extent(cka)}"
    panel = Panel("", cka, lambda value: DARKEST * min(max(value, 0.0), 1.0))
    return _draw([panel], likeness, name, nearest=likeness.nearest_by_texts, first=0, description=description)


def draw_relations(likeness: Likeness, name: str) -> str:
    """The divergences of QQ, KK and VV, one below the other, each in its own scale: values diverge far less."""
    kinds, teacher = likeness.fidelity.relation_kl.model_dump(), likeness.fidelity.teacher
    told = ", ".join(f"{kind} {_extent(matrix)}" for kind, matrix in kinds.items())
    description = f"Divergence of the relations of {likeness.student}, down, and of {teacher}, across: {told}"
    panels = [Panel(kind, matrix, _from_worst(matrix)) for kind, matrix in kinds.items()]
    return _draw(panels, likeness, name, nearest=likeness.nearest_by_relations, first=1, description=description)


def _from_worst(matrix: Matrix) -> Callable[[float], float]:
    worst = max(map(max, matrix)) or 1.0
    return lambda value: DARKEST * (1 - value / worst)


def _draw(
    panels: Sequence[Panel], likeness: Likeness, name: str, *, nearest: Sequence[int], first: int, description: str
) -> str:
    rows, columns = len(panels[0].matrix), len(panels[0].matrix[0])
    inches = NUMBERED_INCHES if columns <= MOST_NUMBERED else PLAIN_INCHES
    with drawing(name):
        figure = Figure(figsize=(WIDTH_INCHES, 0.5 + len(panels) * (rows * inches + 0.15)), layout="constrained")
        for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            _fill(axes, panel)
            _frame(axes, [layer - first for layer in nearest])
            _ticks(axes, rows, columns, first)
            axes.set_title(panel.title, loc="left", fontsize=9.5, pad=3)
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(f"layer of {likeness.fidelity.teacher}")
        figure.supylabel(f"layer of {likeness.student}", fontsize=9.5, color=axes.xaxis.label.get_color())
        return to_svg(figure, name, description)


def _fill(axes: Axes, panel: Panel) -> None:
    numbered = len(panel.matrix[0]) <= MOST_NUMBERED
    for row, values in enumerate(panel.matrix):
        for column, value in enumerate(values):
            corner = (column - 0.48, row - 0.46)
            axes.add_patch(Rectangle(corner, 0.96, 0.92, facecolor=SERIES[0], alpha=panel.opacity(value), linewidth=0))
            if numbered:
                axes.text(column, row, f"{value:.2f}", ha="center", va="center_baseline", fontsize=8.5)


def _frame(axes: Axes, columns: Sequence[int]) -> None:
    """A frame around one cell of each row: the teacher's layer that is most like it."""
    for row, column in enumerate(columns):
        corner = (column - 0.48, row - 0.46)
        axes.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor=INK, linewidth=1.1))


def _ticks(axes: Axes, rows: int, columns: int, first: int) -> None:
    """Layers by number, every second one where they are many; the first layer above."""
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
        places = range(0, count, 1 if columns <= MOST_NUMBERED else 2)
        axis.set_ticks(list(places), [str(place + first) for place in places])
    axes.tick_params(length=0, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _extent(matrix: Matrix) -> str:
    return f"{min(map(min, matrix)):.2f} to {max(map(max, matrix)):.2f}, the last two layers {matrix[-1][-1]:.2f}"
