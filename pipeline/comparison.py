"""Several reports side by side: what their candidates say of each other, which gates turned, and what else differs.

Runs are called A, B, C in the order given. Ratios are to each run's own reference row, measured in turns with it;
milliseconds of two runs are of two moments, if not of two machines, and are never divided.
"""

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.disagreement import earned
from pipeline.metrics import compare_two, scored_of
from pipeline.results import GateResult, Interval, Report, Verdict
from pipeline.scores.quality import QUALITIES
from pipeline.statistics import mcnemar
from pipeline.table import MISSING, SYMBOLS, find_row, format_fact, format_ratio

FACTS_SHOWN = 40
"""Facts that differ, listed by name; the rest is a count."""

SEED = 1

_TELLING = ("data", "model:", "bundle:")
"""Artefacts whose facts say what was made; those of the measurements are the tables."""

_DIGITS_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Run:
    """One report and what it is called."""

    letter: str
    name: str
    """As it was given: a path."""
    report: Report


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that is not the same in all runs; what it is in each, in their order."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GateLine:
    """One gate over all runs; None where a run has no gate of that name."""

    name: str
    results: tuple[GateResult | None, ...]
    turned: bool
    """Whether the runs that have it do not agree on its verdict."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A run's candidate against the first run's, on the same examples."""

    letter: str
    ratio: Interval | None
    """None where the first run's quality is not positive."""
    better: int
    """Examples on which this one earns more: of labels, those that only it has right."""
    worse: int
    p_value: float | None
    """McNemar's exact test; None where answers are not right or wrong."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything the page and the Markdown of a comparison show."""

    runs: tuple[Run, ...]
    metric: str | None
    """What quality is in all runs; None where they do not share one."""
    gates: tuple[GateLine, ...]
    """Those that turned first."""
    paired: tuple[Paired, ...]
    """Of the runs that answered the first one's test examples."""
    lineage: tuple[Difference, ...]
    facts: tuple[Difference, ...]
    machine: tuple[Difference, ...]
    notes: tuple[str, ...]
    """How far the numbers may be compared, each a sentence."""

    @property
    def word(self) -> str:
        """What quality is, in a sentence."""
        return QUALITIES[self.metric].word if self.metric else "quality"


def compare_reports(reports: Mapping[str, Report]) -> Comparison:
    """`reports` by the name each is listed under."""
    runs = tuple(
        Run(letter=_letter(number), name=name, report=report) for number, (name, report) in enumerate(reports.items())
    )
    return Comparison(
        runs=runs,
        metric=_metric(runs),
        gates=_gates(runs),
        paired=tuple(_pair(runs[0], run) for run in runs[1:] if _same_test(runs[0].report, run.report)),
        lineage=_differences([{k: v[:_DIGITS_SHOWN] for k, v in run.report.lineage.items()} for run in runs]),
        facts=_differences([_told(run, runs) for run in runs]),
        machine=_differences([{k: format_fact(v) for k, v in run.report.machine.items()} for run in runs]),
        notes=tuple(_notes(runs)),
    )


def write_verdict(verdict: Verdict) -> str:
    """Its sign and its name."""
    return f"{SYMBOLS[verdict]} {verdict}"


def write_gate(result: GateResult | None) -> str:
    """A gate's verdict, number and bound in one phrase."""
    if result is None:
        return MISSING
    return f"{write_verdict(result.verdict)}: {format_ratio(result.ratio)}, wanted {result.bound}"


def _letter(number: int) -> str:
    """A to Z, then AA, BB and so on."""
    letters = string.ascii_uppercase
    return letters[number % len(letters)] * (number // len(letters) + 1)


def _gates(runs: Sequence[Run]) -> tuple[GateLine, ...]:
    by_name = [{gate.name: gate for gate in run.report.gates} for run in runs]
    lines = []
    for name in dict.fromkeys(name for gates in by_name for name in gates):
        results = tuple(gates.get(name) for gates in by_name)
        verdicts = {result.verdict for result in results if result}
        lines.append(GateLine(name=name, results=results, turned=len(verdicts) > 1))
    return tuple(sorted(lines, key=lambda line: not line.turned))


def _metric(runs: Sequence[Run]) -> str | None:
    metrics = {run.report.evaluation.metric for run in runs}
    return metrics.pop() if len(metrics) == 1 else None


def _pair(first: Run, run: Run) -> Paired:
    reports = [each.report for each in (run, first)]
    now, before = (earned(report.evaluation, report.candidate) for report in reports)
    answers = [scored_of(report.evaluation, report.candidate) for report in reports]
    better, worse = int(np.sum(now > before)), int(np.sum(before > now))
    return Paired(
        letter=run.letter,
        ratio=compare_two(first.report.evaluation.metric, "ratio", *answers, seed=SEED),
        better=better,
        worse=worse,
        p_value=mcnemar(better, worse) if first.report.evaluation.task == "classification" else None,
    )


def _same_test(one: Report, other: Report) -> bool:
    """Whether both answered the same examples, in the same order."""
    compared = [(each.lineage.get("data"), each.evaluation.truths, each.evaluation.metric) for each in (one, other)]
    same = compared[0] == compared[1]
    return same and all(report.candidate in report.evaluation.rows for report in (one, other))


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    reports = [run.report for run in runs]
    if len({repr(sorted(report.machine.items())) for report in reports}) > 1:
        yield "Measured on different machines: compare the ratios, not the milliseconds."
    elif len(runs) > 1:
        yield "Measured on one machine at different times: ratios are to a row of the same run, milliseconds are not."
    if len({_reference(report) for report in reports}) > 1:
        yield "The reference rows are not the same model, so even the ratios are to different things."
    elif len(runs) > 1:
        yield "All ratios are to the same reference model."
    if apart := [run.letter for run in runs[1:] if not _same_test(runs[0].report, run.report)]:
        yield f"Other test data than that of A: {', '.join(apart)}; qualities are not of the same examples."
    if not all(find_row(report, report.candidate).speedup for report in reports):
        yield "A candidate without a speed-up was not benchmarked."


def _reference(report: Report) -> tuple[str, str | None]:
    """The row of the ratios, and the digest of what it runs."""
    model, _, precision = report.reference.partition("/")
    kind = "model" if precision.startswith("pytorch") else "bundle"
    return precision, report.lineage.get(f"{kind}:{model}")


def _told(run: Run, runs: Sequence[Run]) -> dict[str, str]:
    """Facts of what was made otherwise than in another run, flat, with what only says how long it took left out."""
    told: dict[str, str] = {}
    for artefact, facts in run.report.facts.items():
        digests = {each.report.lineage.get(artefact) for each in runs}
        if artefact.startswith(_TELLING) and len(digests) > 1:
            told |= dict(_flatten(artefact, facts))
    return told


def _flatten(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(f"{name} · {key}", inner)
    elif not isinstance(value, (list, tuple)) and not name.endswith("seconds"):
        yield name, format_fact(value)


def _differences(trees: Sequence[Mapping[str, str]]) -> tuple[Difference, ...]:
    """Entries that are not the same in all, in the order in which they first appear."""
    names = dict.fromkeys(name for tree in trees for name in tree)
    rows = (Difference(name=name, values=tuple(tree.get(name, MISSING) for tree in trees)) for name in names)
    return tuple(row for row in rows if len(set(row.values)) > 1)
