"""The report stage: verdict, table and page from what was evaluated and benchmarked, for people and for machines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from artifact.config import Config
from artifact.dataset import read_split
from artifact.errors import ArtifactError
from artifact.manifest import read_manifest, write_json
from artifact.stage import Stage, Work
from pipeline.gate import SEED, judge, overall, row_sizes, speedup
from pipeline.gate_config import Gate
from pipeline.gate_defaults import gates_of
from pipeline.junit import render_junit
from pipeline.markdown import render_summary
from pipeline.metrics import quality_ratios
from pipeline.recipe import Recipe
from pipeline.results import Benchmark, Evaluation, Interval, Report, ReportRow, SpeedRow
from pipeline.rows import row_inputs
from pipeline.size_parts import read_parts
from pipeline.statistics import median_of_rounds, percentile
from pipeline.tasks import TASKS

VERSION = 3

Record = TypeVar("Record", bound=Config)


class ReportConfig(Config):
    """What the report says about whom."""

    recipe: str
    candidate: str
    reference: str
    """Row of the ratios in the table."""
    gates: dict[str, Gate]


def report_stage(recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that judges and reports `recipe` below its output folder `root`, and its work."""
    first = next(iter(recipe.deployed()))
    gates = gates_of(recipe.gates, has_baseline=recipe.baseline is not None)
    config = ReportConfig(recipe=recipe.name, candidate=recipe.candidate, reference=f"{first}/pytorch", gates=gates)
    models = {f"model:{name}": root / "models" / name for name in recipe.deployed()}
    bundles = {f"bundle:{name}": root / "bundles" / name for name in recipe.deployed()}
    measured = {name: root / name for name in ("data", "evaluation", "benchmark")}
    inputs = {**measured, **models, **bundles, **row_inputs(recipe, root)}
    stage = Stage(name="report", version=VERSION, kind="report", out=root / "report", config=config, inputs=inputs)
    return stage, lambda out: run_report(config, inputs, out)


def run_report(config: ReportConfig, inputs: Mapping[str, Path], out: Path) -> Mapping[str, Any]:
    """Write `report.json`, `summary.md`, `junit.xml` and `report.html` to `out`; returns the verdicts."""
    manifests = {name: read_manifest(directory) for name, directory in inputs.items()}
    facts = {name: manifest.facts for name, manifest in manifests.items()}
    evaluation = _read(Evaluation, inputs["evaluation"] / "evaluation.json")
    benchmark = _read(Benchmark, inputs["benchmark"] / "benchmark.json")
    report = build_report(
        config,
        evaluation,
        benchmark,
        lineage={name: manifest.digest for name, manifest in manifests.items()},
        facts=facts,
        size_parts=read_parts(benchmark.in_process, inputs, facts),
    )
    shown = TASKS[evaluation.task].shown
    texts = [shown(example) for example in read_split(inputs["data"], "test")]
    write_report(report, texts, out)
    return {"verdict": report.verdict, "gates": {gate.name: gate.verdict for gate in report.gates}}


def build_report(
    config: ReportConfig,
    evaluation: Evaluation,
    benchmark: Benchmark,
    *,
    lineage: Mapping[str, str],
    facts: Mapping[str, Any],
    size_parts: Mapping[str, dict[str, int]] | None = None,
) -> Report:
    """Everything the outputs show, computed once; raises `BenchError` when a gate's row was not measured."""
    gates = judge(config.gates, config.candidate, evaluation, benchmark, row_sizes(benchmark), facts=facts)
    return Report(
        recipe=config.recipe,
        candidate=config.candidate,
        reference=config.reference,
        rows=_rows(config.reference, evaluation, benchmark),
        conditions=config.gates,
        gates=gates,
        verdict=overall(gates),
        machine=benchmark.machine,
        lineage=dict(lineage),
        facts=dict(facts),
        size_parts=dict(size_parts or {}),
        evaluation=evaluation,
        benchmark=benchmark,
    )


def write_report(report: Report, texts: Sequence[str], out: Path) -> None:
    """The four files of a report directory; `texts` are the test examples, for the page."""
    from pipeline.page import render_page

    write_json(out / "report.json", report.model_dump(mode="json"))
    (out / "summary.md").write_text(render_summary(report), encoding="utf-8")
    (out / "junit.xml").write_text(render_junit(report), encoding="utf-8")
    (out / "report.html").write_text(render_page(report, texts), encoding="utf-8")


def _names(evaluation: Evaluation, benchmark: Benchmark) -> list[str]:
    """All rows known, in the order of the evaluation."""
    return list(dict.fromkeys([*evaluation.rows, *benchmark.in_process, *benchmark.http]))


def _rows(reference: str, evaluation: Evaluation, benchmark: Benchmark) -> tuple[ReportRow, ...]:
    base = reference if reference in evaluation.rows else evaluation.reference  # PyTorch has no gate
    kept = quality_ratios(evaluation, base, seed=SEED) if base in evaluation.rows else {}
    names = _names(evaluation, benchmark)
    return tuple(_row(name, reference, evaluation, benchmark, kept.get(name)) for name in names)


def _row(name: str, reference: str, evaluation: Evaluation, benchmark: Benchmark, kept: Interval | None) -> ReportRow:
    quality, speed = evaluation.rows.get(name), benchmark.in_process.get(name)
    base = benchmark.in_process.get(reference)
    http = benchmark.http.get(name)
    return ReportRow(
        row=name,
        quality=quality and quality.quality,
        quality_ratio=kept,
        p50_ms=speed and percentile(_pool(speed), 0.5),
        p90_ms=speed and percentile(_pool(speed), 0.9),
        speedup=speedup(benchmark, name, reference) if speed and base else None,
        texts_per_second=_throughput(speed),
        http_p50_ms=http and percentile(_pool(http), 0.5),
        size_bytes=speed and speed.size_bytes,
        size_ratio=base.size_bytes / speed.size_bytes if speed and base else None,
        out_of_domain_auroc=quality and quality.out_of_domain_auroc,
    )


def _throughput(speed: SpeedRow | None) -> Interval | None:
    """None where the recipe leaves out Offline."""
    if speed is None or not speed.batch_texts_per_second:
        return None
    return median_of_rounds(speed.batch_texts_per_second, seed=SEED)


def _pool(speed: SpeedRow) -> list[float]:
    return [sample for calls in speed.single_ms for sample in calls]


def _read(kind: type[Record], path: Path) -> Record:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} cannot be read: {str(error).splitlines()[0]}", "run that stage again") from None
