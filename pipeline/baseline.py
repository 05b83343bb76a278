"""The row `baseline`: the candidate of an earlier run, measured again beside today's, in turns and on the same texts.

    understudy run recipes/demo.yaml baseline=out/main --out out/branch

Milliseconds of two runs are never compared; to compare a change with the release before it, both are contestants of one
run. The earlier bundle is copied, as it was sealed: the output folder then holds all that its report is about, also
when the other one is gone.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifact.config import Config
from artifact.dataset import read_info
from artifact.errors import ArtifactError, DataError
from artifact.manifest import open_artifact, read_manifest
from artifact.stage import Stage, Work
from pipeline.rows_config import BASELINE
from serve.bundle import open_bundle
from serve.runtime import Runtime

VERSION = 1
HINT = "name the output folder of a finished run, such as baseline=out/demo"


class BaselineConfig(Config):
    """Which row of which bundle it was."""

    row: str
    """The earlier run's candidate, such as `student/int8`."""
    parity: dict[str, Any] | None = None
    """As the bundle was exported with: `understudy verify` holds the copy to it."""

    @property
    def precision(self) -> str:
        """Of the bundle."""
        return self.row.partition("/")[2]


def baseline_stage(earlier: Path, root: Path) -> tuple[Stage, Work]:
    """The stage that takes over the candidate of the run in `earlier`, and its work.

    Raises `ArtifactError` when `earlier` holds no report of a run or is `root`, or when its candidate is no bundle.
    """
    if earlier.resolve() == root.resolve():
        raise ArtifactError(f"the baseline {earlier} is the output folder of this very run", "add --out another/folder")
    row = _candidate_of(earlier)
    model, _, precision = row.partition("/")
    bundle = earlier / "bundles" / model
    if not precision or not (bundle / "manifest.json").is_file():
        raise ArtifactError(f"the candidate of {earlier} is {row}, of which there is no bundle", HINT)
    config = BaselineConfig(row=row, parity=read_manifest(bundle).request.config.get("parity"))
    # The report only says which row it was, so its digest is no input: judged again, it is the same baseline.
    inputs = {"bundle": bundle, "data": root / "data"}
    stage = Stage(name="baseline", version=VERSION, kind="bundle", out=root / BASELINE, config=config, inputs=inputs)
    return stage, lambda out: run_baseline(config, bundle, root / "data", out)


def run_baseline(config: BaselineConfig, bundle: Path, data: Path, out: Path) -> Mapping[str, Any]:
    """Copy the bundle to `out`; its facts are those of the bundle, and which row and digest it was.

    Raises `DataError` when it answers with other labels than the data has.
    """
    opened = open_bundle(bundle)
    opened.graph(config.precision)
    ours, theirs = read_info(data).labels, opened.info.labels
    if ours != theirs:
        differing = sorted(set(ours) ^ set(theirs))
        what = f"first {differing[0]!r}" if differing else "in another order"
        problem = f"the baseline at {bundle} answers with other labels than the data set has ({what})"
        raise DataError(problem, "compare with a run on the same labels, or leave out baseline")
    manifest = read_manifest(bundle)
    for name in manifest.files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, out / name)
    return {**manifest.facts, "baseline": {"row": config.row, "digest": manifest.digest, "created": manifest.created}}


def open_baseline(directory: Path, *, threads: int) -> Runtime:
    """The bundle at that path in the precision that was the candidate; raises `ArtifactError` when it was changed."""
    return Runtime.open(directory, read_baseline(directory).precision, threads=threads, name=BASELINE)


def read_baseline(directory: Path) -> BaselineConfig:
    """Which row the bundle at that path was; raises `ArtifactError` when it says nothing."""
    return BaselineConfig.model_validate(read_manifest(directory).request.config)


def _candidate_of(earlier: Path) -> str:
    """Read leniently: an earlier version's report may have other fields than ours."""
    try:
        open_artifact(earlier / "report", "report")
        report = json.loads((earlier / "report" / "report.json").read_bytes())
        return str(report["candidate"])
    except ArtifactError as error:
        raise ArtifactError(f"there is no baseline at {earlier}: {error.problem}", HINT) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(f"{earlier / 'report' / 'report.json'} does not name a candidate", HINT) from None
