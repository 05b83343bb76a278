"""What each objective keeps of the teacher, task by task, as deployed."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks.minilm.grid import ROWS, TASKS, TEACHER
from benchmarks.minilm.shares import Kept
from pipeline.plots import WIDTH_INCHES, drawing, to_svg

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
"""Okabe and Ito's palette; shape tells the task too, so nothing rests on colour alone."""


def plot(table: Mapping[str, Mapping[tuple[str, str], Kept]]) -> str:
    """One line of dots a row of the table, a colour and shape for each task; int8, with intervals."""
    tasks = [task for task in TASKS if task in table]
    rows = [row for row in ROWS if row != TEACHER and any((row, "int8") in table[task] for task in tasks)][::-1]
    name = "minilm"
    with drawing(name):
        figure = Figure(figsize=(WIDTH_INCHES, 1.0 + 0.55 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(100, color="#8a8f98", linewidth=1)
        details = []
        for number, task in enumerate(tasks):
            offset = 0.28 * (1 - 2 * number / max(1, len(tasks) - 1))
            for place, row in enumerate(rows):
                if (row, "int8") not in table[task]:
                    continue
                share = table[task][row, "int8"].share
                if share is None:
                    continue
                found = share.interval
                axes.plot(
                    [100 * found.low, 100 * found.high], [place + offset] * 2, color=COLORS[number], linewidth=1.5
                )
                axes.plot(
                    [100 * found.value], [place + offset], SHAPES[number], color=COLORS[number], markersize=5,
                    linestyle="none", label=task if place == len(rows) - 1 else None,
                )  # fmt: skip
                details.append(f"{ROWS[row]}, {task}: {100 * found.value:.1f} %")
        axes.set_yticks(range(len(rows)), [ROWS[row] for row in rows], fontsize=8)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("share of the teacher's score kept in int8, %")
        if rows:
            axes.legend(fontsize=8, frameon=False, loc="best")
        return to_svg(figure, name, "What each objective keeps of the teacher", "; ".join(details))
