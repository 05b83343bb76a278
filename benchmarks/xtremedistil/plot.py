"""The share of the teacher's F1 that each way of teaching keeps: ours with its interval, and the paper's."""

import io

from matplotlib.figure import Figure

from benchmarks.xtremedistil.paper import STUDENT_F1, TEACHER_F1, WAYS
from benchmarks.xtremedistil.records import PRECISION, Records
from pipeline.plots import WIDTH_INCHES, drawing

OURS, THEIRS = "#1f5fbf", "#b0541a"


def plot(records: Records) -> str:
    """An SVG; without a record of `ner`, the paper's dots alone."""
    rows = records["ner"].rows if "ner" in records else {}
    names = [name for name in WAYS if name in STUDENT_F1 or f"{name}/{PRECISION}" in rows][::-1]
    with drawing("xtremedistil"):
        figure = Figure(figsize=(1.6 * WIDTH_INCHES, 0.9 + 0.38 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for place, name in enumerate(names):
            kept = rows[f"{name}/{PRECISION}"].kept if f"{name}/{PRECISION}" in rows else None
            if kept is not None:
                axes.plot([100 * kept.low, 100 * kept.high], [place, place], color=OURS, linewidth=2)
                axes.plot([100 * kept.value], [place], "o", color=OURS)
            if name in STUDENT_F1:
                share = 100 * STUDENT_F1[name] / TEACHER_F1
                axes.plot([share], [place], "D", color=THEIRS, markerfacecolor="none")
        axes.plot([], [], "o", color=OURS, label=f"here, {PRECISION} bundle, 95 % interval")
        axes.plot([], [], "D", color=THEIRS, markerfacecolor="none", label="the paper, table 3")
        axes.set_yticks(range(len(names)), [WAYS[name] for name in names], color="#333333")
        axes.set_xlabel("share of the teacher's F1 kept, %", color="#333333")
        axes.tick_params(colors="#333333")
        axes.grid(axis="x", color="#dddddd")
        axes.legend(frameon=False, loc="best", fontsize=8, labelcolor="#333333")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
        return buffer.getvalue()
