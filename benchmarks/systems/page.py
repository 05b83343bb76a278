"""`docs/results/README.md` and a plot of each system."""

from collections.abc import Iterator, Mapping
from textwrap import fill

from matplotlib.figure import Figure

from benchmarks.systems.records import System
from pipeline.plots import WIDTH_INCHES, drawing, to_svg

NAME_LETTERS = 46
"""Of a line of a row's name beside a plot."""

HEADER = """\
# Six systems, measured

Written by `python -m benchmarks.systems` from what the benchmark of each system found (`systems/*.json`). Each is a
published method, built into recipes of this project and run on real data; every figure is of deployed bundles, with its
95 % interval. The teachers, corpora and budgets here are small (one machine of two cores), so the figures are smaller
than the papers'. What is to be compared is the shape of a result: what helps, by how much, and what does not.
"""


def render(systems: Mapping[str, System]) -> str:
    """The page."""
    lines = [HEADER]
    lines += ["| system | what was found |", "| --- | --- |"]
    lines += [f"| [{each.system}](#{_anchor(each.system)}) | {_cell(each.headline)} |" for each in systems.values()]
    for name, each in systems.items():
        lines += ["", *_section(name, each)]
    return "\n".join(lines).rstrip() + "\n"


def plot(name: str, system: System) -> str:
    """One dot a row with its interval, as SVG."""
    rows = system.rows[::-1]
    with drawing(name):
        figure = Figure(figsize=(WIDTH_INCHES, 0.7 + 0.32 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            low, high = (row.value if end is None else end for end in (row.low, row.high))
            axes.plot([low, high], [place, place], color="#8a8f98", linewidth=2, solid_capstyle="round")
            axes.plot([row.value], [place], "o", color="#1f5fbf", markersize=5)
        axes.set_yticks(range(len(rows)), [fill(row.name, NAME_LETTERS) for row in rows], fontsize=7)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(fill(system.metric, 2 * NAME_LETTERS), fontsize=8)
        details = "; ".join(f"{row.name}: {row.value:g}" for row in system.rows)
        return to_svg(figure, name, f"{system.system}: {system.metric}", details)


def _section(name: str, system: System) -> Iterator[str]:
    yield f"## {system.system}\n"
    yield f"{system.headline}\n"
    yield f"![{system.system}](systems/{name}.svg)\n"
    yield f"| row | {system.metric or 'value'} |"
    yield "| --- | ---: |"
    for row in system.rows:
        spread = "" if row.low is None or row.high is None else f" [{row.low:.4g}, {row.high:.4g}]"
        yield f"| {_cell(row.name)} | {row.value:.4g}{spread} |"
    yield from _list("The paper's figures, and what differs", system.paper)
    yield from _list("What fell short", system.failures)
    yield from _list("Made by", [f"`{command}`" for command in system.commands])
    notes = [
        f"[{system.page}]({system.page})" if system.page else "",
        f"{system.hours:.2g} hours of training" if system.hours else "",
        system.hardware,
        ", ".join(f"{artefact} `{digest[:12]}`" for artefact, digest in system.manifests.items()),
    ]
    yield f"\n*{'; '.join(note for note in notes if note)}*" if any(notes) else ""


def _list(title: str, items: tuple[str, ...] | list[str]) -> Iterator[str]:
    if items:
        yield f"\n{title}:\n"
        yield from (f"* {item}" for item in items)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(heading: str) -> str:
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")
