"""The plan's numbers as text, one way for the terminal, the page and the summary."""

from collections import Counter
from statistics import median

from rich.table import Table
from rich.text import Text

from pipeline.plan_budget import LIMITS, words_of
from pipeline.plan_race import slow_turns
from pipeline.plan_records import Measurements, Plan, PlanRow
from pipeline.table import STYLES, SYMBOLS, Cell, Column, format_ms, format_rate

COLUMNS: tuple[Column[PlanRow], ...] = (
    Column(
        header="form",
        meaning="of the graph: whole or light fusion, or raw, as it was traced; whichever export would ship",
        cell=lambda row: Cell(number=row.form),
        on_terminal=False,
    ),
    Column(
        header="layers M",
        meaning="parameters of the Transformer layers, in millions",
        cell=lambda row: _millions(row.transformer),
    ),
    Column(
        header="embed. M",
        meaning="parameters of the embeddings, in millions",
        cell=lambda row: _millions(row.embedding),
    ),
    Column(
        header="p50 ms",
        meaning="median latency of a single text, with its 95 % interval",
        cell=lambda row: Cell(number=format_ms(row.p50_ms).number, spread=format_ms(row.p50_ms).spread),
    ),
    Column(
        header="texts/s",
        meaning="in full batches, median of the rounds with its 95 % interval",
        cell=lambda row: format_rate(row.texts_per_s),
    ),
    Column(
        header="MB",
        meaning="graph and weights as stored",
        cell=lambda row: Cell(number=f"{row.size_mb:.1f}"),
    ),
    Column(
        header="RSS MB",
        meaning="peak resident memory of a process that answers with it, Python and libraries included",
        cell=lambda row: Cell(number=f"{row.peak_rss_mb:.0f}"),
    ),
)


def plan_table(plan: Plan) -> Table:
    """Every row in 80 columns, the budget and its answer below."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", caption=_caption(plan), caption_justify="left")
    table.add_column("shape/precision", no_wrap=True)
    columns = [column for column in COLUMNS if column.on_terminal]
    for column in columns:
        table.add_column(column.header, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in plan.rows:
        mark = Text(SYMBOLS[row.verdict], STYLES[row.verdict]) if row.verdict else Text()
        style = "bold" if row.row == plan.largest else ""
        cells = [_terminal(column, row) for column in columns]
        table.add_row(row.row, *cells, mark, style=style)
    return table


def describe_budget(plan: Plan) -> str:
    """The budget as it reads, or how to give one."""
    limits = ((limit, getattr(plan.budget, limit.field)) for limit in LIMITS)
    wanted = [f"{limit.words} {words_of(limit, bound)}" for limit, bound in limits if bound is not None]
    return ", ".join(wanted) or "none; give one under `budget`, or as budget.p50_ms=3"


def describe_setting(plan: Plan) -> str:
    """What the numbers are of: machine, threads, texts."""
    measured = plan.measured
    machine, texts = measured.machine, measured.texts
    forms = Counter(row.form for row in plan.rows)
    graphs = ", ".join(f"{count} {form}" for form, count in forms.most_common())
    return (
        f"{machine.get('processor', machine.get('architecture'))}, {measured.threads} of {machine['usable_cores']} "
        f"cores, int8 for {measured.target}; {texts.count} texts of {texts.median_tokens:g} tokens at the median and "
        f"{texts.longest_tokens} at most; random weights in the shapes of {measured.teacher.model_type}, "
        f"graphs in the form that export would ship: {graphs}; {describe_pace(measured)}"
    )


def describe_pace(measured: Measurements) -> str:
    """Whether the machine was as fast all along, and what came of it when it was not."""
    pace = measured.pace
    turns, slow = sum(len(taken) for taken in pace.yardstick_ms.values()), slow_turns(pace.yardstick_ms)
    again = f", {pace.retaken:,} retaken" if pace.retaken else ""
    if not slow:
        return f"the machine was at its best speed in all {turns:,} turns{again}"
    best = min(ms for taken in pace.yardstick_ms.values() for ms in taken)
    slowdown = median(pace.yardstick_ms[name][index] for name, index in slow) / best
    return f"the machine was {slowdown:.1f}x slower than its best in {len(slow):,} of {turns:,} turns{again}"


def conclusion(plan: Plan) -> str:
    """The answer in one sentence."""
    judged = [row.verdict for row in plan.rows if row.verdict is not None]
    if not judged:
        return "no budget was given"
    open_count = judged.count("inconclusive")
    unsure = f", {open_count} may" if open_count else ""
    fits = f"{judged.count('pass')} of {len(judged)} rows fit{unsure}"
    return f"{fits}; the largest is {plan.largest}" if plan.largest else fits


def _caption(plan: Plan) -> Text:
    lines = [
        ("✓ fits, ? spans a limit, ✗ does not; dim: 95 % intervals of p50\n", "dim"),
        (f"{describe_setting(plan)}\n", "dim"),
        (f"budget   {describe_budget(plan)}\n", ""),
        (conclusion(plan), "bold"),
    ]
    return Text.assemble(*lines)


def _terminal(column: Column[PlanRow], row: PlanRow) -> Text:
    """The terminal has room for one interval a row: the latency's."""
    cell = column.cell(row)
    if column.header != "p50 ms":
        return Text(cell.number)
    return Text.assemble(cell.number, " ", (cell.spread, "not bold dim"))


def _millions(count: int) -> Cell:
    return Cell(number=f"{count / 1e6:.2f}" if count < 1e7 else f"{count / 1e6:.1f}")
