"""`load.html`: one page that needs nothing else, on a screen, a phone or paper."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.load_plot import plot_histograms, plot_knee
from pipeline.load_records import LoadReport
from pipeline.load_table import HEADERS, SUPPORT, cells_of, count_requests, describe_closed, describe_knee
from pipeline.table import MISSING, format_fact


def render_page(report: LoadReport) -> str:
    """The page: the knee, the drawings, every rate, the closed loop, the machine."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    ordered = sorted(report.points, key=lambda point: point.rate_per_second)
    return environment.get_template("load.html.j2").render(
        report=report,
        knee=describe_knee(report),
        headers=HEADERS,
        lines=[(point, cells_of(point)) for point in ordered],
        few=any(count_requests(point) < SUPPORT for point in report.points),
        support=SUPPORT,
        closed=describe_closed(report.closed, report) if report.closed else "",
        knee_plot=Markup(plot_knee(report)),  # noqa: S704 - our own drawing
        spread_plot=Markup(plot_histograms(report)),  # noqa: S704 - our own drawing
        missing=MISSING,
        format_fact=format_fact,
    )
