"""Tables of quality beside the main one: further metrics, the parts of the data, the labels of words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from pipeline.metrics import scored_of
from pipeline.results import Interval, Report
from pipeline.scores.quality import QUALITIES, Scored, span_f1_of
from pipeline.scores.tally import Tally, divide
from pipeline.table import MISSING, Cell, format_quality, format_share
from serve.passages.spans import read_label


@dataclass(frozen=True, kw_only=True)
class QualityTable:
    """One table; each line has a name and a cell for each header."""

    title: str
    note: str
    first: str
    """Header of the names."""
    headers: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]


def quality_tables(report: Report) -> list[QualityTable]:
    """Those that the report has numbers for."""
    found = (_more(report), _groups(report), _labels(report))
    return [table for table in found if table is not None]


def _more(report: Report) -> QualityTable | None:
    rows = report.evaluation.rows
    names = [name for name in QUALITIES if any(name in row.more for row in rows.values())]
    if not names:
        return None
    thresholds = {name: row.none_threshold for name, row in rows.items() if row.none_threshold}
    note = "Small figures are 95 % intervals."
    if candidate := thresholds.get(report.candidate):
        note += (
            f" NONE is said where 1 less the best score is above a threshold of the row's own, chosen on "
            f"{candidate.queries} queries of the {candidate.split} split ({report.candidate}: {candidate.value:.3f})."
        )
    return QualityTable(
        title="Further metrics",
        note=note,
        first="row",
        headers=tuple(QUALITIES[name].header for name in names),
        lines=tuple((row, _cells(found.more, {name: name for name in names})) for row, found in rows.items()),
    )


def _groups(report: Report) -> QualityTable | None:
    rows = report.evaluation.rows
    names = list(dict.fromkeys(name for row in rows.values() for name in row.groups))
    if not names:
        return None
    metric = report.evaluation.metric
    return QualityTable(
        title="By group",
        note=f"{_capital(QUALITIES[metric].word)} on each part of the test split. Small figures are 95 % intervals.",
        first="row",
        headers=tuple(names),
        lines=tuple((row, _cells(found.groups, dict.fromkeys(names, metric))) for row, found in rows.items()),
    )


def _labels(report: Report) -> QualityTable | None:
    """Of tagged words: how often each label is there, and how well reference and candidate find it."""
    evaluation = report.evaluation
    rows = (report.reference, report.candidate)
    if evaluation.task != "token-classification" or not set(rows) <= evaluation.rows.keys():
        return None
    spans = evaluation.metric == "span_f1"
    scored = [scored_of(evaluation, row) for row in rows]
    names = _span_names(evaluation.labels) if spans else evaluation.labels
    lines = []
    for name in names:
        tallies = [span_f1_of(each, name) if spans else _recall(each, name) for each in scored]
        there = int(tallies[0].columns[:, -1].sum())
        lines.append((name, (Cell(number=f"{there:,}"), *(_share(tally) for tally in tallies))))
    what = "Exact spans of each label: F1." if spans else "Words of each label: the share that got it."
    return QualityTable(
        title="By label", note=what, first="label", headers=("in the test split", *rows), lines=tuple(lines)
    )


def _recall(scored: Scored, label: str) -> Tally:
    """Share of the words of a label that got it; the last column counts them."""
    index = list(scored.labels).index(label)
    truths, found = (cast("Sequence[Sequence[int]]", each) for each in (scored.truths, scored.predictions))
    counts = [
        (sum(a == b == index for a, b in zip(true, said, strict=True)), Counter(true)[index])
        for true, said in zip(truths, found, strict=True)
    ]
    columns = np.asarray(counts, dtype=float).reshape(-1, 2)
    return Tally(metric="recall", columns=columns, score=lambda sums: divide(sums[..., 0], sums[..., 1]))


def _share(tally: Tally) -> Cell:
    value = tally.value
    return format_share(Interval(value=value, low=value, high=value))


def _span_names(labels: Sequence[str]) -> list[str]:
    tags = (read_label(label) for label in labels)
    return list(dict.fromkeys(tag.name for tag in tags if tag is not None))


def _cells(found: Mapping[str, Interval], metrics: Mapping[str, str]) -> tuple[Cell, ...]:
    """A cell for each name, written as its metric is."""
    return tuple(
        format_quality(metric, found[name]) if name in found else Cell(number=MISSING)
        for name, metric in metrics.items()
    )


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]
