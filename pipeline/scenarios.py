"""What was measured in process beside single texts and full batches: queries of several texts, and fixed lengths."""

from pipeline.plot_latency import medians_by_length, pool
from pipeline.results import Report
from pipeline.statistics import percentile
from pipeline.table import Cell, format_ms

MULTI = "MultiStream"


def scenario_table(report: Report) -> tuple[list[str], dict[str, list[Cell]]]:
    """Headers, and by row the cells beneath them; both empty where nothing of the kind was measured."""
    measured = report.benchmark.in_process
    multi = [0.5, 0.9] if any(row.multi_ms for row in measured.values()) else []
    lengths = sorted({length for row in measured.values() for length in row.by_length_ms})
    headers = [*(f"{MULTI} p{100 * share:.0f}" for share in multi), *(f"{length} tokens p50" for length in lengths)]
    if not headers:
        return [], {}
    rows = {}
    for name, row in measured.items():
        medians = medians_by_length(report, name)
        queries = pool(row.multi_ms).tolist()
        cells = [format_ms(percentile(queries, share)) for share in multi]
        rows[name] = [*cells, *(format_ms(medians.get(length)) for length in lengths)]
    return headers, rows
