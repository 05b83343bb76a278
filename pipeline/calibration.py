"""The row `cascade`: its threshold, chosen once on the validation split and sealed, and how the two models open.

The student answers where it is surer than the threshold, the teacher the rest (`serve.trust`). Evaluation, benchmark
and a later service all read the one `calibration.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from artifact.dataset import read_split
from artifact.digest import hash_file
from artifact.errors import BenchError
from artifact.manifest import open_artifact, write_json
from artifact.progress import say
from artifact.stage import Stage, Work
from pipeline.rows import CALIBRATION
from pipeline.rows_config import CASCADE, CascadeConfig
from serve.engine import Outputs, Text
from serve.runtime import Runtime
from serve.threads import available_cores
from serve.trust.bound import fewest
from serve.trust.calibration import Calibration, calibrate, read_calibration
from serve.trust.cascade import CascadeEngine

VERSION = 2
FILE = "calibration.json"
SERVICE = "service.yaml"
"""The part of a service's file that serves the cascade: `understudy serve … --config`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CascadeRow:
    """Both models of a cascade in one process; satisfies `pipeline.rows.Row`."""

    engine: CascadeEngine
    threads: int
    """Read back from the student's session; the teacher, which works after it, has as many."""
    size_bytes: int
    """Of both: both have to be there."""

    @property
    def name(self) -> str:
        """The row's."""
        return self.engine.name

    @property
    def labels(self) -> Sequence[str]:
        """The same of both."""
        return self.engine.labels

    def run(self, texts: Sequence[Text]) -> Outputs:
        """The student's answers, and the teacher's where that was unsure."""
        return self.engine.run(texts)


def calibration_stage(cascade: CascadeConfig, root: Path) -> tuple[Stage, Work]:
    """The stage that calibrates the recipe's cascade below its output folder `root`, and its work."""
    bundles = {f"bundle:{_model(row)}": root / "bundles" / _model(row) for row in (cascade.student, cascade.teacher)}
    stage = Stage(
        name="calibration",
        version=VERSION,
        kind="calibration",
        out=root / CALIBRATION,
        config=cascade,
        inputs={"data": root / "data", **bundles},
    )
    return stage, lambda out: run_calibration(cascade, root, out)


def run_calibration(cascade: CascadeConfig, root: Path, out: Path) -> Mapping[str, Any]:
    """Write `calibration.json` and `service.yaml` to `out`; facts: the threshold, who answers how much, the agreement.

    Where no threshold reaches the level, it is 1 and the cascade is its teacher: `answered_share` is 0 then. Raises
    `BenchError` when the validation split is too small to prove the level even without a fault.
    """
    texts = [example.asked for example in read_split(root / "data", "validation")]
    needed = fewest(cascade.agreement)
    if len(texts) < needed:
        problem = f"{len(texts)} validation texts cannot prove an agreement of {cascade.agreement:g}"
        raise BenchError(problem, f"lower cascade.agreement, or give at least {needed} validation texts")
    threads = available_cores()
    found = calibrate(
        _open(cascade.student, root, threads),
        _open(cascade.teacher, root, threads),
        texts,
        level=cascade.agreement,
        texts_digest=hash_file(root / "data" / "validation.jsonl"),
    )
    write_json(out / FILE, found.model_dump(mode="json"))
    served = {"student": cascade.student, "teacher": cascade.teacher, "calibration": FILE}
    (out / SERVICE).write_text(yaml.safe_dump({"cascades": {CASCADE: served}}), encoding="utf-8")
    if not found.chosen.answered_share:
        say(f"  no threshold reaches an agreement of {cascade.agreement:g}: the cascade is its teacher")
    about = {"student": cascade.student, "teacher": cascade.teacher, "texts": found.texts, "level": found.level}
    return about | {"certainty": found.certainty} | found.chosen.model_dump()


def read_members(root: Path) -> tuple[str, str]:
    """The rows of the cascade calibrated below `root`, student first; raises `ArtifactError` when it was changed."""
    found = _read(root)
    return found.student.name, found.teacher.name


def open_cascade(root: Path, *, threads: int) -> CascadeRow:
    """The cascade as calibrated below the output folder `root`; raises `ArtifactError` when anything was changed."""
    found = _read(root)
    student, teacher = (_open(member.name, root, threads) for member in (found.student, found.teacher))
    engine = CascadeEngine(name=CASCADE, student=student, teacher=teacher, threshold=found.chosen.threshold)
    return CascadeRow(engine=engine, threads=student.threads, size_bytes=student.size_bytes + teacher.size_bytes)


def _read(root: Path) -> Calibration:
    open_artifact(root / CALIBRATION, kind="calibration")
    return read_calibration(root / CALIBRATION / FILE)


def _open(row: str, root: Path, threads: int) -> Runtime:
    return Runtime.open(root / "bundles" / _model(row), row.partition("/")[2], threads=threads, name=row)


def _model(row: str) -> str:
    return row.partition("/")[0]
