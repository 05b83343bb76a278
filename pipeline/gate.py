"""Yes or no from paired ratios: each gate passes or fails only when the whole interval lies on one side of its bound.

    verdict, lines = gate_report(Path("out/demo/report"), baseline=None)

A gate that the sample cannot decide is inconclusive, which is neither; the exit code tells the three apart. Nothing
here compares milliseconds of two machines or of two moments.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from artifact.errors import ArtifactError, BenchError
from artifact.manifest import MANIFEST, open_artifact
from pipeline.gate_config import Gate
from pipeline.metrics import quality_ratio
from pipeline.results import Benchmark, Evaluation, GateResult, Interval, Report, SpeedRow, Verdict
from pipeline.statistics import MINIMUM_ROUNDS, accuracy_ratio, ratio_of_medians
from pipeline.table import format_ratio

EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
"""Of `understudy run` and `understudy gate`; 2 is an error of use."""

WORDS = {"quality": "accuracy", "latency_p50": "speed", "throughput": "throughput", "size": "size"}
"""What a gate's ratio is of; speed is 1 / median latency."""

BASELINE_QUALITY = Gate(metric="quality", reference="the baseline's candidate", min_ratio=0.99)
"""Margin of non-inferiority against an earlier report: surely 99 % of its accuracy."""

BASELINE_SIZE = Gate(metric="size", reference="the baseline's candidate", max_ratio=1.05)
"""Growth in bytes that a change may cost without anyone deciding so."""

SEED = 1

REPORT = "report.json"


def judge(
    gates: Mapping[str, Gate], candidate: str, evaluation: Evaluation, benchmark: Benchmark, sizes: Mapping[str, int]
) -> tuple[GateResult, ...]:
    """The verdict of each gate on the `candidate` row; `sizes` are bytes by row.

    Raises `BenchError` when a gate needs a row that was not measured.
    """
    results = []
    for name, gate in gates.items():
        ratio = _measure(gate, candidate, evaluation, benchmark, sizes)
        rounds = len(_speed(benchmark, candidate).single_ms) if gate.metric in ("latency_p50", "throughput") else None
        results.append(decide(name, gate, candidate, ratio, rounds=rounds))
    return tuple(results)


def decide(name: str, gate: Gate, candidate: str, ratio: Interval, *, rounds: int | None = None) -> GateResult:
    """The verdict of one gate on a measured `ratio`; inconclusive from fewer than `MINIMUM_ROUNDS` rounds."""
    good, bad, bound = _sides(gate, ratio)
    verdict: Verdict = "pass" if good else "fail" if bad else "inconclusive"
    reason = f"{WORDS[gate.metric]} {format_ratio(ratio)} times that of {gate.reference}, wanted {bound}"
    if rounds is not None and rounds < MINIMUM_ROUNDS:
        verdict, reason = "inconclusive", f"{reason}; {rounds} rounds prove nothing, set bench.rounds to 6 or more"
    elif verdict == "inconclusive":
        reason += "; the interval spans the bound, measure more"
    return GateResult(
        name=name,
        metric=gate.metric,
        candidate=candidate,
        reference=gate.reference,
        ratio=ratio,
        bound=bound,
        verdict=verdict,
        reason=reason,
    )


def undecided(
    gates: Mapping[str, Gate],  # noqa: ARG001 - a stub
    candidate: str,  # noqa: ARG001 - a stub
    rows: Mapping[str, SpeedRow],  # noqa: ARG001 - a stub
    *,
    looks: int = 1,  # noqa: ARG001 - a stub
) -> frozenset[str]:
    """Rows of `rows` of which more rounds may decide a gate on speed that is inconclusive so far."""
    return frozenset()


def overall(results: Sequence[GateResult]) -> Verdict:
    """Fail when any gate fails, else inconclusive when any is, else pass; no gates pass."""
    verdicts = {result.verdict for result in results}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def gate_report(path: Path, baseline: Path | None) -> tuple[Verdict, list[str]]:
    """Judge the report at `path` again from its own samples, or against the report at `baseline`; lines for a person.

    Raises `ArtifactError` when either is no report, or one of another schema.
    """
    report = read_report(path)
    if baseline is None:
        results, notes = judge_again(report), list[str]()
    else:
        results, notes = compare_with_baseline(report, read_report(baseline))
    verdict = overall(results)
    lines = [f"{result.verdict:<12}  {result.name}: {result.reason}" for result in results]
    return verdict, [*lines, *notes, f"verdict: {verdict}"]


def judge_again(report: Report) -> tuple[GateResult, ...]:
    """The gates of `report`, from the answers and samples it holds; never from the verdicts it states."""
    return judge(report.conditions, report.candidate, report.evaluation, report.benchmark, row_sizes(report.benchmark))


def compare_with_baseline(report: Report, baseline: Report) -> tuple[tuple[GateResult, ...], list[str]]:
    """Candidate against the baseline's candidate: quality and size as gates; notes on what cannot be compared.

    Raises `ArtifactError` when the two were tested on different data.
    """
    if report.evaluation.truths != baseline.evaluation.truths or _data(report) != _data(baseline):
        hint = "run the baseline's recipe again on this data"
        raise ArtifactError("the two reports are of different test data, so their quality cannot be compared", hint)
    quality = decide("quality", BASELINE_QUALITY, report.candidate, _quality_between(report, baseline))
    now, before = (row_sizes(r.benchmark)[r.candidate] for r in (report, baseline))
    size = decide("size", BASELINE_SIZE, report.candidate, _exact(now / before))
    other = "on another machine" if report.machine != baseline.machine else "at another time, not in turns"
    return (quality, size), [f"not comparable  latency: measured {other}; gate it within one report"]


def speedup(benchmark: Benchmark, candidate: str, reference: str) -> Interval:
    """Reference time over candidate time, of single texts; above 1 is faster, and a row over itself is exactly 1.

    Raises `BenchError` when either row was not measured.
    """
    if candidate == reference:
        return _exact(1.0)
    ours, theirs = _speed(benchmark, candidate), _speed(benchmark, reference)
    return ratio_of_medians(theirs.single_ms, ours.single_ms, seed=SEED)


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


def _measure(
    gate: Gate, candidate: str, evaluation: Evaluation, benchmark: Benchmark, sizes: Mapping[str, int]
) -> Interval:
    match gate.metric:
        case "quality":
            for row in (candidate, gate.reference):
                if row not in evaluation.rows:
                    raise BenchError(f"{row} was not evaluated, so no gate can judge its quality")
            return quality_ratio(evaluation, candidate, gate.reference, seed=SEED)
        case "latency_p50":
            return speedup(benchmark, candidate, gate.reference)
        case "throughput":
            ours, theirs = _speed(benchmark, candidate), _speed(benchmark, gate.reference)
            return ratio_of_medians(ours.batch_texts_per_second, theirs.batch_texts_per_second, seed=SEED)
        case "size":
            if missing := [row for row in (candidate, gate.reference) if row not in sizes]:
                raise BenchError(f"the size of {missing[0]} was not measured")
            return _exact(sizes[candidate] / sizes[gate.reference])


def _speed(benchmark: Benchmark, row: str) -> SpeedRow:
    if row not in benchmark.in_process:
        raise BenchError(f"{row} was not benchmarked, so no gate can judge its speed")
    return benchmark.in_process[row]


def _sides(gate: Gate, ratio: Interval) -> tuple[bool, bool, str]:
    """Whether the whole interval is on the good side, whether on the bad one, and the bound as it reads."""
    if gate.min_ratio is not None:
        return ratio.low >= gate.min_ratio, ratio.high < gate.min_ratio, f">= {gate.min_ratio:g}"
    bound = float(gate.max_ratio or 0)
    return ratio.high <= bound, ratio.low > bound, f"<= {bound:g}"


def _quality_between(report: Report, baseline: Report) -> Interval:
    truths = np.asarray(report.evaluation.truths)
    now, before = (np.asarray(r.evaluation.rows[r.candidate].predictions) for r in (report, baseline))
    return accuracy_ratio(now == truths, before == truths, seed=SEED)


def _data(report: Report) -> str | None:
    return report.lineage.get("data")


def _exact(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)
