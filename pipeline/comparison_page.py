"""The comparison of several runs as one self-contained page."""

from markupsafe import Markup

from pipeline.comparison import FACTS_SHOWN, Comparison, write_gate
from pipeline.pages import render_template
from pipeline.plot_comparison import plot_comparison
from pipeline.plots import SERIES
from pipeline.table import MISSING, SYMBOLS, find_row, format_share, headline, shown_columns


def render_comparison_page(comparison: Comparison) -> str:
    """Verdicts, candidates side by side, the drawing of all rows, gates, and what differs; same reports, same bytes."""
    candidates = [find_row(run.report, run.report.candidate) for run in comparison.runs]
    return render_template(
        "comparison.html.j2",
        comparison=comparison,
        candidates=candidates,
        columns=shown_columns(candidates, comparison.metric),
        plot=Markup(plot_comparison(comparison)),  # noqa: S704 - our own drawing
        series=[number % len(SERIES) + 1 for number in range(len(comparison.runs))],
        turned=[line for line in comparison.gates if line.turned],
        facts=comparison.facts[:FACTS_SHOWN],
        facts_left=max(len(comparison.facts) - FACTS_SHOWN, 0),
        right_or_wrong=all(pair.p_value is not None for pair in comparison.paired),
        missing=MISSING,
        symbols=SYMBOLS,
        headline=headline,
        write_gate=write_gate,
        format_share=format_share,
    )
