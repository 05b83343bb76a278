"""The report's table and its numbers: one way to write a share, a time, a ratio and a size, for every output.

96.4 % [95.8, 96.9]     1.23 ms     5.1x [4.9, 5.3]     22.7 MB
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.table import Table
from rich.text import Text

from pipeline.results import Interval, Report, ReportRow, Verdict
from pipeline.scores.quality import QUALITIES

Row = TypeVar("Row")
"""What fills a line: a row of a report, or of a plan."""

MISSING = "—"
"""Stands where a row has no such number."""

SYMBOLS: dict[Verdict, str] = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
STYLES: dict[Verdict, str] = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of the table with its unit, and its interval where it has one."""

    number: str
    unit: str = ""
    """With the space before it, if it wants one."""
    spread: str = ""

    @property
    def text(self) -> str:
        """The number as it stands alone."""
        return self.number + self.unit

    def __str__(self) -> str:
        return f"{self.text} {self.spread}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Column(Generic[Row]):
    """One column: what it is called, what it means, and how a row fills it."""

    header: str
    meaning: str
    cell: Callable[[Row], Cell]
    on_terminal: bool = True
    """Whether it has room in 80 columns."""
    everywhere: bool = True
    """Whether it stands even where no row has such a number."""


def format_share(share: Interval | None) -> Cell:
    """A share as a percentage with one decimal; so are its bounds."""
    if share is None:
        return Cell(number=MISSING)
    return Cell(number=f"{100 * share.value:.1f}", unit=" %", spread=_spread(share, lambda bound: f"{100 * bound:.1f}"))


def format_quality(metric: str | None, quality: Interval | None) -> Cell:
    """A share as `format_share`, a correlation as `format_area`."""
    known = QUALITIES.get(metric or "")
    return format_share(quality) if known is None or known.is_share else format_area(quality)


def format_ms(latency: Interval | None) -> Cell:
    """Milliseconds with three digits that count."""
    if latency is None:
        return Cell(number=MISSING)
    places = _places(latency.value)
    spread = _spread(latency, lambda bound: f"{bound:.{places}f}")
    return Cell(number=f"{latency.value:.{places}f}", unit=" ms", spread=spread)


def format_area(area: Interval | None) -> Cell:
    """An area under a curve, with three decimals."""
    if area is None:
        return Cell(number=MISSING)
    return Cell(number=f"{area.value:.3f}", spread=_spread(area, lambda bound: f"{bound:.3f}"))


def format_times(ratio: Interval | None) -> Cell:
    """A factor, such as `5.1x`; two decimals below 2, where they matter."""
    if ratio is None:
        return Cell(number=MISSING)
    places = 2 if ratio.value < 2 else 1
    spread = _spread(ratio, lambda bound: f"{bound:.{places}f}")
    return Cell(number=f"{ratio.value:.{places}f}", unit="x", spread=spread)


def format_rate(rate: Interval | None) -> Cell:
    """Texts per second, in whole ones."""
    if rate is None:
        return Cell(number=MISSING)
    return Cell(number=f"{rate.value:,.0f}", spread=_spread(rate, lambda bound: f"{bound:,.0f}"))


def format_size(size_bytes: int | None) -> Cell:
    """Megabytes of 1,000,000 bytes."""
    return Cell(number=MISSING) if size_bytes is None else Cell(number=f"{size_bytes / 1e6:,.1f}", unit=" MB")


def format_ratio(ratio: Interval) -> str:
    """A gate's ratio, fine enough to be read beside its bound: `0.991 [0.985, 0.997]`."""
    places = 3 if ratio.value < 2 else 2
    return f"{ratio.value:.{places}f} {_spread(ratio, lambda bound: f'{bound:.{places}f}')}".rstrip()


def format_fact(value: Any) -> str:
    """A fact of a manifest or a machine as a person writes it; lists by commas, mappings as `key value`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_fact(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(format_fact(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def quality_columns(metric: str | None) -> tuple[Column[ReportRow], ...]:
    """The metric that quality is, and what is kept of it; None for rows of reports that do not share one."""
    known = QUALITIES.get(metric or "")
    return (
        Column(
            header=known.header if known else "quality",
            meaning=known.meaning if known else "each report's own metric",
            cell=lambda row: format_quality(metric, row.quality),
        ),
        Column(
            header="kept",
            meaning=f"{known.word if known else 'quality'} over the reference row's, on the same examples",
            cell=lambda row: format_share(row.quality_ratio),
        ),
    )


COLUMNS: tuple[Column[ReportRow], ...] = (
    Column(
        header="AUROC",
        meaning="how well its own score tells the test texts from those out of domain; 0.5 is chance",
        cell=lambda row: format_area(row.out_of_domain_auroc),
        everywhere=False,
    ),
    Column(header="p50", meaning="median latency of a single text", cell=lambda row: format_ms(row.p50_ms)),
    Column(header="p90", meaning="nine of ten single texts are faster", cell=lambda row: format_ms(row.p90_ms)),
    Column(
        header="speed-up",
        meaning="reference median over this row's, measured in turns",
        cell=lambda row: format_times(row.speedup),
    ),
    Column(header="texts/s", meaning="in full batches", cell=lambda row: format_rate(row.texts_per_second)),
    Column(
        header="HTTP p50",
        meaning="median through the service, over loopback",
        cell=lambda row: format_ms(row.http_p50_ms),
    ),
    Column(header="size", meaning="weights and graph as stored", cell=lambda row: format_size(row.size_bytes)),
    Column(
        header="smaller",
        meaning="reference size over this row's",
        cell=lambda row: format_times(None if row.size_ratio is None else exact(row.size_ratio)),
    ),
)
"""After those of quality."""


TERMINAL: dict[str, tuple[str, str | None]] = {
    "kept\n95 %": ("kept", None),
    "speed-up\n95 %": ("speed-up", None),
    "p50 ms\np90 ms": ("p50", "p90"),
    "HTTP ms\ntexts/s": ("HTTP p50", "texts/s"),
    "MB\nsmaller": ("size", "smaller"),
}
"""Columns of the terminal's table after the metric's own: a number over its interval, or two bare numbers."""


def exact(value: float) -> Interval:
    """A number that was counted, not sampled: its interval is itself, and is not shown."""
    return Interval(value=value, low=value, high=value)


def shown_columns(rows: Iterable[ReportRow], metric: str | None) -> tuple[Column[ReportRow], ...]:
    """The columns of a table of `rows`, whose quality is `metric`; what data may lack only where a row has it."""
    kept = list(rows)
    return tuple(
        column
        for column in (*quality_columns(metric), *COLUMNS)
        if column.everywhere or any(column.cell(row).number != MISSING for row in kept)
    )


def find_row(report: Report, name: str) -> ReportRow:
    """The row of that name; a report always holds its candidate and its reference."""
    return next(row for row in report.rows if row.row == name)


def headline(report: Report) -> str:
    """The candidate in one sentence, with what is known of it."""
    row, word = find_row(report, report.candidate), QUALITIES[report.evaluation.metric].word
    parts = []
    if row.quality_ratio is not None:
        parts.append(f"keeps {format_share(row.quality_ratio)} of the {word} of {report.answering}")
    if row.speedup is not None:
        parts.append(f"is {format_times(row.speedup)} as fast")
    if row.size_ratio is not None:
        parts.append(f"has {100 / row.size_ratio:.0f} % of its size")
    *most, last = parts or ["was not compared"]
    return f"{report.candidate} {', '.join(most)}{' and ' if most else ''}{last}"


def terminal_table(report: Report) -> Table:
    """What `understudy run` ends with: the rows in 80 columns, two lines each, then the gates and the verdict."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", caption=_caption(report), caption_justify="left")
    table.add_column("row", no_wrap=True)
    quality = quality_columns(report.evaluation.metric)
    shown = {f"{quality[0].header}\n95 %": (quality[0].header, None), **TERMINAL}
    for header in shown:
        table.add_column(header, justify="right", no_wrap=True)
    for row in report.rows:
        cells = {column.header: column.cell(row) for column in (*COLUMNS, *quality)}  # both may be an AUROC
        lines = [_two_lines(cells[upper], cells[lower] if lower else None) for upper, lower in shown.values()]
        table.add_row(row.row, *lines, style="bold" if row.row == report.candidate else "")
    return table


def _two_lines(upper: Cell, lower: Cell | None) -> Text:
    """A number over its interval, or two bare numbers."""
    if lower is None:
        return Text.assemble(upper.text, "\n", (upper.spread, "not bold dim"))
    return Text.assemble(upper.number, "\n", lower.number)


def _caption(report: Report) -> Text:
    lines = [(f"{SYMBOLS[gate.verdict]} {gate.name}: {gate.reason}\n", STYLES[gate.verdict]) for gate in report.gates]
    return Text.assemble(*lines, (report.verdict.upper(), STYLES[report.verdict]), f"  {headline(report)}")


def _spread(interval: Interval, write: Callable[[float], str]) -> str:
    if interval.low == interval.high:
        return ""
    return f"[{write(interval.low)}, {write(interval.high)}]"


def _places(value: float) -> int:
    """Decimals that leave three significant digits."""
    return 2 if value < 10 else 1 if value < 100 else 0
