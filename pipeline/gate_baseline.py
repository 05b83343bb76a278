"""A report against an earlier one: what can be compared across two runs, how, and what cannot.

Answers to the same examples pair up whenever they were given, and bytes are bytes. Milliseconds of two moments do not
pair; each run's speed-up over a row that is byte for byte the same in both does, as far as the machine is the same too.
A recipe with a `baseline` compares more sharply, since it measures both candidates in turns.
"""

from collections.abc import Iterator
from typing import Any

from artifact.errors import ArtifactError
from pipeline.gate import decide_finding, speedup
from pipeline.gate_config import Gate, Metric
from pipeline.gate_defaults import BASELINE_GATES, COST_MARGIN, QUALITY_MARGIN
from pipeline.gate_measure import MEGABYTE, Finding, compare_quality, exact, read_answers
from pipeline.paired_rounds import confidence_of_looks, median_of_one
from pipeline.results import GateResult, Report
from pipeline.rows_config import BASELINE
from pipeline.statistics import ratio

REFERENCE = "the baseline's candidate"

NAMES: dict[Metric, str] = {gate.metric: name for name, gate in BASELINE_GATES.items()}

QUALITY = Gate(metric="quality", reference=REFERENCE, max_degradation=QUALITY_MARGIN)
SIZE = Gate(metric="size", reference=REFERENCE, max_degradation=COST_MARGIN)

LATENCY = Gate(metric="latency_p50", reference=REFERENCE, max_degradation="10%")
"""Twice what is asked within one run: no interval holds by how much two starts of one build differ."""


def compare_with_baseline(report: Report, baseline: Report) -> tuple[tuple[GateResult, ...], list[str]]:
    """Candidate against the baseline's candidate, as gates; and notes on what cannot be compared.

    What the report's own gates hold against a row `baseline` is left to them. Raises `ArtifactError` when the two were
    tested on different data.
    """
    scored = [(each.evaluation.truths, each.evaluation.metric, _origin(each, "data")) for each in (report, baseline)]
    if scored[0] != scored[1]:
        hint = "run the baseline's recipe again on this data"
        raise ArtifactError("the two reports are of different test data, so their quality cannot be compared", hint)
    gated = {gate.metric for gate in report.conditions.values() if gate.reference == BASELINE}
    findings = {QUALITY: _quality(report, baseline), SIZE: _size(report, baseline)}
    notes = []
    if "latency_p50" not in gated and (obstacle := _find_obstacle(report, baseline)):
        notes = [f"not comparable  baseline latency: {obstacle}"]
    elif "latency_p50" not in gated:
        findings[LATENCY] = _latency(report, baseline, next(_common_rows(report, baseline)))
    results = [
        decide_finding(NAMES[gate.metric], gate, report.candidate, finding)
        for gate, finding in findings.items()
        if gate.metric not in gated
    ]
    return tuple(results), notes


def _quality(report: Report, baseline: Report) -> Finding:
    now, before = (read_answers(r.evaluation, r.candidate) for r in (report, baseline))
    own = report.evaluation.rows[report.candidate].quality
    return compare_quality(QUALITY.limit(), own, report.evaluation.metric, now, before)


def _size(report: Report, baseline: Report) -> Finding:
    now, before = (_bytes(r) for r in (report, baseline))
    return Finding(value=exact(now / MEGABYTE), compared=exact(now / before))


def _bytes(report: Report) -> int:
    return report.benchmark.in_process[report.candidate].size_bytes


def _latency(report: Report, baseline: Report, common: str) -> Finding:
    """Each run's candidate relative to the common row, one relative to the other; both intervals go in."""
    now, before = (speedup(r.benchmark, r.candidate, common) for r in (report, baseline))
    rows = [r.benchmark.in_process[row] for r in (report, baseline) for row in (r.candidate, common)]
    confidence = confidence_of_looks(max(report.benchmark.looks, baseline.benchmark.looks))
    return Finding(
        value=median_of_one(rows[0].single_ms, confidence=confidence),
        compared=ratio(before, now),
        rounds=min(len(row.single_ms) for row in rows),
        confidence=confidence,
        notes=(f"by each run's ratio to {common}, which is the same in both",),
    )


def _find_obstacle(report: Report, baseline: Report) -> str:
    """Why latencies of the two cannot be compared; empty when they can."""
    instead = "name the earlier run as the recipe's baseline, and both are measured in turns"
    keys = sorted(report.machine.keys() | baseline.machine.keys())
    other = [key.replace("_", " ") for key in keys if report.machine.get(key) != baseline.machine.get(key)]
    if other:
        return f"measured on another machine ({', '.join(other)} differ); {instead}"
    threads = [r.benchmark.in_process[r.candidate].threads for r in (report, baseline)]
    if threads[0] != threads[1]:
        return f"measured with {threads[0]} threads, and the baseline with {threads[1]}"
    if next(_common_rows(report, baseline), None) is None:
        return f"measured at another time, and no row is the same in both; {instead}"
    return ""


def _common_rows(report: Report, baseline: Report) -> Iterator[str]:
    """Rows measured in both, from the same bytes and with the same threads; the sharpest reference first."""
    first = dict.fromkeys([report.evaluation.reference, report.reference, *report.benchmark.in_process])
    for row in first:
        ours, theirs = (r.benchmark.in_process.get(row) for r in (report, baseline))
        if ours is None or theirs is None or row in (report.candidate, baseline.candidate):
            continue
        model, _, form = row.partition("/")
        origin = f"{'model' if form.startswith('pytorch') else 'bundle'}:{model}"
        is_same = _origin(report, origin) is not None and _origin(report, origin) == _origin(baseline, origin)
        if is_same and ours.threads == theirs.threads:
            yield row


def _origin(report: Report, name: str) -> Any:
    return report.lineage.get(name)
