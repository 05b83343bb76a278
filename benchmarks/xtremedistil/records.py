"""What the page needs of a recipe's output folder: figures, sizes and digests, but no answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from artifact.config import Config
from artifact.errors import BenchError
from artifact.manifest import MANIFEST, open_artifact
from pipeline.machine import fingerprint
from pipeline.metrics import compare_two, scored_of
from pipeline.results import Evaluation, Interval, Report

PREFIX = "xtremedistil-"
PAIRS = (
    ("staged", "labels"), ("staged", "logits"), ("staged", "joint"), ("unfrozen", "staged"), ("wide", "staged"),
    ("staged", "random"), ("logits", "labels"), ("logits", "joint"), ("transferred", "direct"),
)  # fmt: skip
"""Models whose difference is the point of the comparison, better one first if the papers are right."""
PRECISION = "int8"
"""What is deployed, and so compared."""
SEED = 1


class Row(Config):
    """One bundle's answers to the test split."""

    quality: Interval
    kept: Interval | None
    """Of the first model's float32 bundle, paired."""
    groups: dict[str, Interval] = {}
    """Quality of each language."""
    size_bytes: int
    p50_ms: Interval | None = None
    """Of a single text; None where the recipe's benchmark was not run."""
    texts_per_second: Interval | None = None
    """In full batches."""


class Trained(Config):
    """One model."""

    parameters: dict[str, int]
    steps: int
    training_seconds: float
    """By the clock, whatever else the machine did."""
    validation_f1: float | None = None
    """Best of the last phase, F1 of words that are names: what models are chosen by; None where none were learnt."""
    digest: str


class Record(Config):
    """One recipe's output."""

    metric: str = ""
    reference: str = ""
    """Row that others are compared with, such as `teacher/float32`."""
    examples: dict[str, int]
    """Rows of each split."""
    models: dict[str, Trained]
    rows: dict[str, Row] = {}
    """By `model/precision`; none where nothing was deployed, or not evaluated yet."""
    differences: dict[str, Interval] = {}
    """`first - second`, of `PAIRS` as int8 bundles: quality less quality on the same examples."""
    manifests: dict[str, str] = {}
    machine: dict[str, Any]

    @property
    def teacher(self) -> str:
        """Model of the reference."""
        return self.reference.partition("/")[0]

    @property
    def languages(self) -> tuple[str, ...]:
        """Parts that are scored apart."""
        return tuple(dict.fromkeys(name for row in self.rows.values() for name in row.groups))


Records = Mapping[str, Record]
"""By name, such as `ner` of `out/xtremedistil-ner`."""


def read_output(root: Path) -> Record:
    """The record of an output folder; raises `ArtifactError` where what was sealed has changed or is not there."""
    data = open_artifact(root / "data", "dataset")
    models = {path.parent.name: open_artifact(path.parent, "model") for path in _sealed(root / "models")}
    trained = {
        name: Trained(
            parameters=found.facts["parameters"], steps=found.facts["steps"],
            training_seconds=found.facts["training_seconds"], validation_f1=_validation_f1(found.facts),
            digest=found.digest,
        )
        for name, found in models.items()
    }  # fmt: skip
    record = Record(examples=data.facts["examples"], models=trained, machine=fingerprint())
    manifests = {"data": data.digest, **{f"models/{name}": each.digest for name, each in trained.items()}}
    if not (root / "evaluation" / MANIFEST).is_file():
        return record.model_copy(update={"manifests": manifests})
    found = open_artifact(root / "evaluation", "evaluation")
    evaluation = Evaluation.model_validate_json((root / "evaluation" / "evaluation.json").read_bytes())
    bundles = {path.parent.name: open_artifact(path.parent, "bundle") for path in _sealed(root / "bundles")}
    sizes = {
        f"{name}/{precision}": facts["size_bytes"]
        for name, bundle in bundles.items()
        for precision, facts in bundle.facts["precisions"].items()
    }
    manifests |= {f"bundles/{name}": bundle.digest for name, bundle in bundles.items()} | {"evaluation": found.digest}
    speeds = _speeds(root)
    rows = {
        name: Row(
            quality=row.quality, kept=row.ratio, groups=row.groups, size_bytes=sizes[name], **speeds.get(name, {})
        )
        for name, row in evaluation.rows.items()
        if name in sizes
    }
    return record.model_copy(update={
        "metric": evaluation.metric, "reference": evaluation.reference, "rows": rows,
        "differences": _differences(evaluation), "manifests": manifests,
    })  # fmt: skip


def _validation_f1(facts: Mapping[str, Any]) -> float | None:
    looks = facts["evaluations"]
    last = [look["validation_f1"] for look in looks if look["phase"] == looks[-1]["phase"] and "validation_f1" in look]
    return max(last, default=None)


def read_records(folder: Path) -> dict[str, Record]:
    """All records of `folder` by name; raises `BenchError` when there is none, or one of another form."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = Record.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BenchError(f"{path} is no record of a run: {str(error).splitlines()[1:3]}") from None
    if not found:
        raise BenchError(f"there is no record in {folder}", "name the output folder of a recipe of XtremeDistil")
    return found


def _differences(evaluation: Evaluation) -> dict[str, Interval]:
    found = {}
    for first, second in PAIRS:
        ours, theirs = f"{first}/{PRECISION}", f"{second}/{PRECISION}"
        if {ours, theirs} <= evaluation.rows.keys():
            scored = scored_of(evaluation, ours), scored_of(evaluation, theirs)
            gap = compare_two(evaluation.metric, "difference", *scored, seed=SEED)
            if gap is not None:
                found[f"{first} - {second}"] = gap
    return found


def _speeds(root: Path) -> dict[str, dict[str, Interval | None]]:
    """Of each row, where the whole recipe was run."""
    if not (root / "report" / MANIFEST).is_file():
        return {}
    report = Report.model_validate_json((root / "report" / "report.json").read_bytes())
    return {row.row: {"p50_ms": row.p50_ms, "texts_per_second": row.texts_per_second} for row in report.rows}


def _sealed(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
