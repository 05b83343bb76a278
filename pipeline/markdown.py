"""The report in Markdown: a summary for a pull request, and several reports side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.comparison import Comparison, Difference, Paired, write_gate, write_verdict
from pipeline.fidelity import HEADERS, Likeness, find_likenesses
from pipeline.gate_words import format_compared, format_value
from pipeline.quality_tables import QualityTable, quality_tables
from pipeline.results import GateResult, Judgement, Report, Verdict
from pipeline.table import MISSING, SYMBOLS, find_row, format_fact, format_share, headline, shown_columns

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_(<>|#"} | {"\n": " "})
# Brackets stay, for intervals; without its parenthesis a bracket is no link.

VERBS: dict[Verdict, str] = {"pass": "passed", "fail": "failed", "inconclusive": "is inconclusive"}

_HOW_TO_READ = (
    "Brackets hold 95 % intervals. A gate passes or fails only when the whole interval is on one side of its bound; "
    "an inconclusive one says neither, and judging the same samples again will not change it."
)


def render_summary(report: Report) -> str:
    """`summary.md`: the verdict, then the table, the gates, the machine and what it was all made from."""
    blocks = [
        f"## {SYMBOLS[report.verdict]} {report.verdict.capitalize()}: {escape(report.recipe)}",
        f"{escape(headline(report))}.",
        render_table(report),
        f"Kept, speed-up and smaller are ratios to {_references(report)}. Brackets hold 95 % intervals.",
        *(_quality_table(table) for table in quality_tables(report)),
        "### Gates",
        render_gates(report.gates),
        *(_details(f"{escape(x.student)} inside", _inside(x)) for x in find_likenesses(report)),
        *([_details("Not measured", _pairs(report.benchmark.absent))] if report.benchmark.absent else []),
        _details("Machine", _pairs(report.machine)),
        _details("Made from", _pairs({name: digest[:16] for name, digest in report.lineage.items()})),
    ]
    return "\n\n".join(blocks) + "\n"


def _references(report: Report) -> str:
    apart = "" if report.answering == report.reference else f", of quality to `{report.answering}`"
    return f"`{report.reference}`{apart}"


def render_table(report: Report) -> str:
    """The rows, the candidate in bold."""
    lines, columns = [], shown_columns(report.rows, report.evaluation.metric)
    for row in report.rows:
        name = f"**{escape(row.row)}**" if row.row == report.candidate else escape(row.row)
        lines.append((name, *(str(column.cell(row)) for column in columns)))
    return _table(("row", *(column.header for column in columns)), lines, numbers=True)


def render_gates(gates: Sequence[GateResult]) -> str:
    """The gates of a report: what was held against which bound."""
    if not gates:
        return "No gates were set."
    header = ("verdict", "gate", "metric", "compared", "bound", "reference")
    return _table(header, [_gate_line(gate) for gate in gates])


def render_judgement(judgement: Judgement) -> str:
    """A comment for a pull request: the verdict, what failed, what would decide the rest, then the table."""
    against = f", also against {escape(judgement.baseline)} of the baseline" if judgement.baseline else ""
    blocks = [
        f"## {SYMBOLS[judgement.verdict]} {judgement.verdict.capitalize()}: {escape(judgement.recipe)}",
        f"{escape(judgement.candidate)}{against}.",
        _reasons(gate for gate in judgement.gates if gate.verdict == "fail"),
        _reasons(gate for gate in judgement.gates if gate.verdict == "inconclusive"),
        _judgement_table(judgement.gates),
        "\n".join(f"- {escape(note)}" for note in judgement.notes),
        _HOW_TO_READ,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def render_comparison(comparison: Comparison) -> str:
    """The candidate and the verdict of each report, gates that turned, and from what the runs were made differently."""
    candidates = [find_row(run.report, run.report.candidate) for run in comparison.runs]
    columns, letters = shown_columns(candidates, comparison.metric), [run.letter for run in comparison.runs]
    rows = []
    for run, row in zip(comparison.runs, candidates, strict=True):
        cells = (str(column.cell(row)) for column in columns)
        rows.append((f"{run.letter}: {escape(run.name)}", write_verdict(run.report.verdict), escape(row.row), *cells))
    turned = [(escape(line.name), *map(write_gate, line.results)) for line in comparison.gates if line.turned]
    paired = [
        f"- {pair.letter} has {format_share(pair.ratio)} of A's {comparison.word} on the same examples: "
        f"{_describe_pair(pair)}."
        for pair in comparison.paired
    ]
    blocks = [
        _table(("report", "verdict", "candidate", *(column.header for column in columns)), rows),
        "\n".join(f"- {note}" for note in comparison.notes),
        "\n".join(paired),
        f"### Gates that turned\n\n{_table(('gate', *letters), turned)}" if turned else "",
        _differing("Made from different things", comparison.lineage, letters),
        _differing("Machines", comparison.machine, letters),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _quality_table(table: QualityTable) -> str:
    lines = [(escape(name), *map(str, cells)) for name, cells in table.lines]
    body = _table((table.first, *map(escape, table.headers)), lines, numbers=True)
    return _details(table.title, f"{body}\n\n{escape(table.note)}")


def _describe_pair(pair: Paired) -> str:
    if pair.p_value is None:
        return f"it is better on {pair.better}, A on {pair.worse}"
    return f"only it is right on {pair.better}, only A on {pair.worse} (McNemar's p = {pair.p_value:.2g})"


def _differing(title: str, differences: Sequence[Difference], letters: Sequence[str]) -> str:
    """A folded table; nothing where all is the same."""
    if not differences:
        return ""
    rows = [(escape(each.name), *map(escape, each.values)) for each in differences]
    return _details(title, _table(("what", *letters), rows))


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
    reference = escape(gate.reference) or MISSING
    return _verdict(gate), escape(gate.name), gate.metric, format_compared(gate), gate.bound, reference


def _judgement_table(gates: Sequence[GateResult]) -> str:
    if not gates:
        return "No gates were set."
    lines = [
        (_verdict(gate), escape(gate.name), gate.subject, format_value(gate), _comparison(gate), escape(gate.bound))
        for gate in gates
    ]
    return _table(("verdict", "gate", "of", "this build", "compared", "wanted"), lines)


def _comparison(gate: GateResult) -> str:
    if gate.kind == "value":
        return MISSING
    return f"{format_compared(gate)} {'times' if gate.kind == 'ratio' else 'to'} {escape(gate.reference)}"


def _reasons(gates: Iterable[GateResult]) -> str:
    return "\n".join(f"- **{escape(gate.name)}** {VERBS[gate.verdict]}: {escape(gate.reason)}" for gate in gates)


def _verdict(gate: GateResult) -> str:
    return f"{SYMBOLS[gate.verdict]} {gate.verdict}"


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
