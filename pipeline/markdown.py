"""The report in Markdown: a summary for a pull request, and several reports side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.fidelity import HEADERS, Likeness, find_likenesses
from pipeline.results import GateResult, Report
from pipeline.table import COLUMNS, SYMBOLS, find_row, format_fact, format_ratio, headline

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_(<>|#"} | {"\n": " "})
# Brackets stay, for intervals; without its parenthesis a bracket is no link.


def render_summary(report: Report) -> str:
    """`summary.md`: the verdict, then the table, the gates, the machine and what it was all made from."""
    gates = [_gate_line(gate) for gate in report.gates]
    blocks = [
        f"## {SYMBOLS[report.verdict]} {report.verdict.capitalize()}: {escape(report.recipe)}",
        f"{escape(headline(report))}.",
        render_table(report),
        f"Kept, speed-up and smaller are ratios to `{report.reference}`. Brackets hold 95 % intervals.",
        "### Gates",
        _table(("verdict", "gate", "metric", "ratio", "bound", "reference"), gates) if gates else "No gates were set.",
        *(_details(f"{escape(x.student)} inside", _inside(x)) for x in find_likenesses(report)),
        _details("Machine", _pairs(report.machine)),
        _details("Made from", _pairs({name: digest[:16] for name, digest in report.lineage.items()})),
    ]
    return "\n\n".join(blocks) + "\n"


def render_table(report: Report) -> str:
    """The rows, the candidate in bold."""
    lines = []
    for row in report.rows:
        name = f"**{escape(row.row)}**" if row.row == report.candidate else escape(row.row)
        lines.append((name, *(str(column.cell(row)) for column in COLUMNS)))
    return _table(("row", *(column.header for column in COLUMNS)), lines, numbers=True)


def render_comparison(reports: Mapping[str, Report]) -> str:
    """The candidate and the verdict of each report, by the name it is listed under.

    Ratios are to each report's own reference. Milliseconds of two machines stand beside each other only to be read.
    """
    rows = []
    for name, report in reports.items():
        row = find_row(report, report.candidate)
        verdict = f"{SYMBOLS[report.verdict]} {report.verdict}"
        rows.append((escape(name), verdict, escape(row.row), *(str(column.cell(row)) for column in COLUMNS)))
    table = _table(("report", "verdict", "candidate", *(column.header for column in COLUMNS)), rows)
    several = len({str(sorted(report.machine.items())) for report in reports.values()}) > 1
    note = "\n\nMeasured on different machines: compare the ratios, not the milliseconds." if several else ""
    return table + note + "\n"


def escape(text: str) -> str:
    """`text` as it reads, with nothing in it taken for Markdown or HTML."""
    return text.translate(_SPECIAL)


def _inside(likeness: Likeness) -> str:
    found = likeness.fidelity
    note = (
        f"Each layer with the layer of {escape(found.teacher)} most like it, on {found.texts} validation texts: CKA of "
        f"sentence vectors (1 is alike), KL of the relations at {found.relation_heads} heads (0 is alike). The last "
        f"layers of both: {likeness.last}."
    )
    return f"{_table(HEADERS, likeness.lines, numbers=True)}\n\n{note}"


def _gate_line(gate: GateResult) -> tuple[str, ...]:
    verdict = f"{SYMBOLS[gate.verdict]} {gate.verdict}"
    return verdict, escape(gate.name), gate.metric, format_ratio(gate.ratio), gate.bound, escape(gate.reference)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    rule = ["---", *(["---:"] if numbers else ["---"]) * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def _details(title: str, body: str) -> str:
    """A block that a pull request shows folded; Markdown inside it wants empty lines around."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _pairs(values: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {escape(name.replace('_', ' '))}: {escape(format_fact(value))}" for name, value in values.items()
    )
