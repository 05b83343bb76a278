"""A load report in words and cells, for the terminal and the page."""

from pipeline.load_records import ClosedRun, LoadFigures, LoadPoint, LoadReport
from pipeline.results import Interval
from pipeline.table import MISSING, Cell, format_ms, format_share

BROKEN = "0"
SUPPORT = 1000
"""Fewest requests that carry a 99th percentile."""
HEADERS = ("requests", "failed", "p50", "p90", "p99", "beyond", "client", "objective")


def describe_knee(report: LoadReport) -> str:
    """The answer in one sentence."""
    objective = f"{report.objective_p99_ms:g} ms"
    if not report.points:
        return "no rate was measured"
    if all(point.fault for point in report.points):
        return f"no rate says anything of the service: {report.points[-1].fault}"
    if report.knee_per_second is None:
        return f"none of the rates that count kept to a p99 of {objective}"
    knee = f"{report.knee_per_second:g} requests a second"
    if report.bounded:
        return f"up to {knee} it keeps to a p99 of {objective}"
    void = any(not point.valid for point in report.points)
    why = "beyond, this client was the limit" if void else "higher rates were not measured"
    return f"at least {knee} it keeps to a p99 of {objective}; {why}"


def describe_point(point: LoadPoint) -> str:
    """One rate in one line, for a log."""
    figures = point.figures
    shown = [f"p50 {format_ms(figures.p50_ms)}", f"p99 {format_ms(figures.p99_ms)}"]
    failed = f", {point.failed:,} failed" if point.failed else ""
    verdict = point.fault or ("kept" if point.kept else "missed")
    return f"{point.rate_per_second:g}/s: {count_requests(point):,} requests{failed}, {', '.join(shown)}, {verdict}"


def count_requests(run: LoadPoint | ClosedRun) -> int:
    """All that were sent."""
    return len(run.latency_ms) + run.failed


def cells_of(point: LoadPoint) -> tuple[tuple[str, Cell], ...]:
    """The line of a rate, by header."""
    cells = (
        Cell(number=f"{count_requests(point):,}"),
        Cell(number=describe_failures(point.failures) or "0"),
        *figure_cells(point.figures),
        format_share(point.beyond),
        Cell(number=f"{point.client_cpu_share:.0%} of a core", spread=f"{point.late_p99_ms:.2f} ms late"),
        Cell(number="void" if point.fault else "kept" if point.kept else "missed", spread=point.fault),
    )
    return tuple(zip(HEADERS, cells, strict=True))


def figure_cells(figures: LoadFigures) -> tuple[Cell, Cell, Cell]:
    """The three percentiles."""
    return format_ms(figures.p50_ms), format_ms(figures.p90_ms), format_ms(figures.p99_ms)


def describe_failures(failures: dict[str, int]) -> str:
    """How many of which kind: `12 of 429, 3 of no answer`."""
    kinds = {"no answer" if status == BROKEN else status: count for status, count in sorted(failures.items())}
    return ", ".join(f"{count:,} of {kind}" for kind, count in kinds.items())


def describe_closed(run: ClosedRun, report: LoadReport) -> str:
    """The closed loop beside the open one."""
    p50, p90, p99 = (str(cell) for cell in figure_cells(run.figures))
    connections = "1 connection" if run.connections == 1 else f"{run.connections} connections"
    failed = f", {run.failed:,} failed" if run.failed else ""
    return (
        f"{connections}, each asking again as soon as it has its answer: {run.requests_per_second:,.0f} requests a "
        f"second over {run.seconds:g} s{failed}; p50 {p50}, p90 {p90}, p99 {p99} from sending. It waits whenever "
        f"{report.url} is slow, so it never sees how long others would have waited meanwhile."
    )


def percentile_drawn(report: LoadReport) -> tuple[str, list[tuple[LoadPoint, Interval]]]:
    """The highest percentile that half of the rates support, and where they have it; as `p99`, or lower for few."""
    for name in ("p99", "p90", "p50"):
        found = [(point, getattr(point.figures, f"{name}_ms")) for point in report.points]
        drawn = [(point, interval) for point, interval in found if interval is not None]
        if 2 * len(drawn) >= len(report.points):
            return name, drawn
    return "p50", []


__all__ = [
    "MISSING", "cells_of", "count_requests", "describe_closed", "describe_failures", "describe_knee", "describe_point",
    "percentile_drawn",
]  # fmt: skip
