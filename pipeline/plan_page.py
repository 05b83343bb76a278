"""The plan for people: one self-contained HTML page, and the same in Markdown."""

from markupsafe import Markup

from pipeline.markdown import escape
from pipeline.pages import render_template
from pipeline.plan_plot import plot_plan
from pipeline.plan_records import Plan
from pipeline.plan_table import COLUMNS, conclusion, describe_budget, describe_setting
from pipeline.table import SYMBOLS, format_fact

MEANINGS = {"pass": "fits", "inconclusive": "spans a limit", "fail": "does not fit", None: ""}


def render_page(plan: Plan) -> str:
    """`plan.html`: the answer, what to paste, the drawing, every row, the machine."""
    return render_template(
        "plan.html.j2",
        plan=plan,
        conclusion=conclusion(plan),
        budget=describe_budget(plan),
        setting=describe_setting(plan),
        columns=COLUMNS,
        plot=Markup(plot_plan(plan)),  # noqa: S704 - our own drawing
        symbols=SYMBOLS,
        meanings=MEANINGS,
        format_fact=format_fact,
    )


def render_summary(plan: Plan) -> str:
    """`summary.md`: the same without the drawing."""
    header = ("shape/precision", *(column.header for column in COLUMNS), "budget")
    lines = [_line(header), _line(("---", *["---:"] * len(COLUMNS), "---"))]
    for row in plan.rows:
        name = f"**{row.row}**" if row.row == plan.largest else row.row
        mark = f"{SYMBOLS[row.verdict]} {MEANINGS[row.verdict]}" if row.verdict else ""
        lines.append(_line((name, *(str(column.cell(row)) for column in COLUMNS), mark)))
    blocks = [
        f"## Plan: {escape(plan.recipe)}",
        f"{_capital(conclusion(plan))}. Budget: {describe_budget(plan)}.",
        *([f"```yaml\n{plan.start}```"] if plan.start else []),
        "\n".join(lines),
        f"{escape(describe_setting(plan))}. Brackets hold 95 % intervals.",
    ]
    return "\n\n".join(blocks) + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
