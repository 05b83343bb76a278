"""Yes, no or not yet: each gate passes or fails only when the whole interval lies on one side of its bound.

    results = judge(gates, "student/int8", evaluation, benchmark, row_sizes(benchmark), facts=facts)

A gate that the sample cannot decide is inconclusive, which is neither. While a gate on speed is, the benchmark measures
more (`undecided`); the intervals are widened for that, and judging again gives the same verdict.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from artifact.errors import ArtifactError
from artifact.manifest import MANIFEST, open_artifact
from pipeline import gate_measure
from pipeline.gate_config import METRICS, Gate
from pipeline.gate_measure import SPEED, Evidence, Finding, measure_gate, measure_speed
from pipeline.gate_words import describe, subject_of
from pipeline.paired_rounds import minimum_rounds
from pipeline.results import Benchmark, Evaluation, GateResult, Interval, Report, SpeedRow, Verdict

EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
"""Of `understudy run` and `understudy gate`; 2 is an error of use."""

SEED = gate_measure.SEED

REPORT = "report.json"


def judge(
    gates: Mapping[str, Gate],
    candidate: str,
    evaluation: Evaluation,
    benchmark: Benchmark,
    sizes: Mapping[str, int],
    *,
    facts: Mapping[str, Any] | None = None,
) -> tuple[GateResult, ...]:
    """The verdict of each gate on the `candidate` row; `sizes` are bytes by row, `facts` those of the manifests.

    Raises `BenchError` when a gate needs a row, or a fact, that was not measured.
    """
    evidence = Evidence(evaluation=evaluation, benchmark=benchmark, sizes=sizes, facts=facts or {})
    return tuple(
        decide_finding(name, gate, candidate, measure_gate(gate, candidate, evidence)) for name, gate in gates.items()
    )


def judge_again(report: Report) -> tuple[GateResult, ...]:
    """The gates of `report`, from the answers and samples it holds; never from the verdicts it states."""
    sizes = row_sizes(report.benchmark)
    return judge(report.conditions, report.candidate, report.evaluation, report.benchmark, sizes, facts=report.facts)


def decide(name: str, gate: Gate, candidate: str, ratio: Interval, *, rounds: int | None = None) -> GateResult:
    """The verdict of one gate on the number it compares; inconclusive from fewer rounds than carry 95 %."""
    return decide_finding(name, gate, candidate, Finding(value=None, compared=ratio, rounds=rounds))


def decide_finding(name: str, gate: Gate, candidate: str, finding: Finding) -> GateResult:
    """The verdict of one gate on what was measured for it."""
    limit, compared = gate.limit(), finding.compared
    verdict, reasons = _verdict(gate, finding)
    return GateResult(
        name=name,
        metric=gate.metric,
        candidate=candidate,
        reference=gate.reference or "",
        ratio=compared,
        bound=str(limit),
        verdict=verdict,
        reason="; ".join([describe(gate, compared, finding.word), *finding.notes, *reasons]),
        kind=limit.kind,
        subject=subject_of(gate, finding.word),
        unit=METRICS[gate.metric].unit,
        value=finding.value,
    )


def undecided(
    gates: Mapping[str, Gate], candidate: str, rows: Mapping[str, SpeedRow], *, looks: int = 1
) -> frozenset[str]:
    """Rows of `rows` of which more rounds may decide a gate on speed that is inconclusive so far.

    `looks` is how often it may be asked before the benchmark gives up, the `Benchmark.looks` that `judge` will see:
    the intervals of both are widened alike. Raises `BenchError` when a gate on speed needs a row that is not there.
    """
    more: set[str] = set()
    for name, gate in gates.items():
        if gate.metric in SPEED:
            finding = measure_speed(gate, candidate, rows, looks=looks)
            if decide_finding(name, gate, candidate, finding).verdict == "inconclusive":
                more |= {candidate, gate.reference or candidate}
    return frozenset(more)


def overall(results: Sequence[GateResult]) -> Verdict:
    """Fail when any gate fails, else inconclusive when any is, else pass; no gates pass."""
    verdicts = {result.verdict for result in results}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def speedup(benchmark: Benchmark, candidate: str, reference: str) -> Interval:
    """Reference time over candidate time, of single texts; above 1 is faster, and a row over itself is exactly 1.

    Raises `BenchError` when either row was not measured.
    """
    gate = Gate(metric="latency_p50", reference=reference, min_ratio=1)
    return measure_speed(gate, candidate, benchmark.in_process, looks=benchmark.looks).compared


def row_sizes(benchmark: Benchmark) -> dict[str, int]:
    """Stored bytes of each row measured."""
    return {name: row.size_bytes for name, row in benchmark.in_process.items()}


def read_report(path: Path) -> Report:
    """The report at `path`, a `report.json` or the directory of one, verified where it is sealed.

    Raises `ArtifactError` when there is none, when it was changed, or when it has another schema.
    """
    file = path / REPORT if path.is_dir() else path
    if (file.parent / MANIFEST).is_file():
        open_artifact(file.parent, "report")
    try:
        return Report.model_validate_json(file.read_bytes())
    except OSError:
        hint = "name a report directory, such as out/demo/report, or its report.json"
        raise ArtifactError(f"{path} holds no {REPORT}", hint) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        problem = f"{file} is no report of this version of understudy: {where}: {fault['msg']}"
        raise ArtifactError(problem, "make it again with `understudy run RECIPE`") from None


def _verdict(gate: Gate, finding: Finding) -> tuple[Verdict, list[str]]:
    """The verdict, and what there is to say beside the number."""
    least = minimum_rounds(finding.confidence)
    if finding.rounds is not None and finding.rounds < least:
        return "inconclusive", [f"{finding.rounds} rounds prove nothing, set bench.rounds to {least} or more"]
    limit, compared = gate.limit(), finding.compared
    if limit.is_kept(compared.low, compared.high):
        return "pass", []
    if limit.is_broken(compared.low, compared.high):
        return "fail", []
    if finding.alike and gate.max_degradation is not None:
        return "pass", ["the same examples right and wrong, so there is no sign of any loss"]
    return "inconclusive", [f"the interval spans the bound: {METRICS[gate.metric].advice}"]
