"""How models that choose among candidates are served: by the thresholds that the evaluation chose, on validation.

    selection:
      student/int8: {none_threshold: 0.62, digest: 3f0c…}

is `selection/service.yaml` below a recipe's output folder. A threshold is of one bundle, in one precision.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from artifact.config import Config
from artifact.manifest import open_artifact
from artifact.stage import Stage, Work
from pipeline.recipe import Recipe
from pipeline.rows import SELECTION

VERSION = 1
SERVICE = "service.yaml"
NEVER = 2.0
"""No score for NONE is above it: the threshold of a row that did best never to say so."""


class SelectionRequest(Config):
    """What is asked of this stage."""

    rows: tuple[str, ...]
    """Those that are deployed."""


def selection_stage(recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that writes the service's file for `recipe` below its output folder `root`, and its work."""
    config = SelectionRequest(rows=tuple(recipe.exported_rows()))
    evaluation = root / "evaluation"
    stage = Stage(
        name="selection", version=VERSION, kind="selection", out=root / SELECTION, config=config,
        inputs={"evaluation": evaluation},
    )  # fmt: skip
    return stage, lambda out: run_selection(config.rows, evaluation, out)


def run_selection(rows: Sequence[str], evaluation: Path, out: Path) -> Mapping[str, Any]:
    """Write `service.yaml` to `out`; facts: the threshold of each row that says NONE at all.

    A row that did best never to say it has no entry: served, it flags nothing. Raises `ArtifactError` for an evaluation
    that is not whole.
    """
    manifest = open_artifact(evaluation, kind="evaluation")
    chosen = {row: found["value"] for row, found in manifest.facts.get("none_thresholds", {}).items() if row in rows}
    said = {row: max(0.0, value) for row, value in chosen.items() if value < NEVER}
    digests = {row: manifest.lineage[f"bundle:{row.partition('/')[0]}"].digest for row in said}
    selection = {row: {"none_threshold": value, "digest": digests[row]} for row, value in said.items()}
    (out / SERVICE).write_text(yaml.safe_dump({"selection": selection}), encoding="utf-8")
    return {"none_thresholds": said}
