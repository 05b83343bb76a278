"""Makes a cell: trains, exports and asks the test split, once; what is done is not done again."""

import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.dataset import read_info, read_split
from artifact.manifest import open_artifact, write_json
from benchmarks.minilm.grid import COSINES, TASKS, TEACHER, Cell
from pipeline.recipe import Recipe
from pipeline.runner import run_steps
from pipeline.stages import steps_of

PRECISIONS = ("float32", "int8")
_MADE = ("data", "distill", "export")


def train(cell: Cell, recipe: Recipe, root: Path) -> None:
    """Data, models and bundles below `root`, and the core-seconds that took, all tries together."""
    begun, file = _core_seconds(), _seconds_file(cell, root)
    steps = [step for step in steps_of(recipe, root) if step.command in _MADE]
    run_steps([step for step in steps if step.command != "export" or step.out.name == cell.row], force=False)
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else 0.0
    file.write_text(json.dumps(round(before + _core_seconds() - begun, 1)), encoding="utf-8")


def score(cell: Cell, recipe: Recipe, root: Path, file: Path) -> None:
    """Ask the cell's bundles the test split, and write what they answered."""
    from pipeline.answers import Questions, answer_rows
    from pipeline.rows import opener
    from pipeline.tasks import kind_of_data

    info, test = read_info(root / "data"), read_split(root / "data", "test")
    names = {f"{cell.row}/{precision}": precision for precision in PRECISIONS}
    answers, _ = answer_rows({name: opener(name, root, 1) for name in names}, Questions(info=info, test=test))
    kind = kind_of_data(info)
    model, bundle = (open_artifact(root / place / cell.row) for place in ("models", "bundles"))
    write_cell(file, {
        "row": cell.row, "task": cell.task, "seed": cell.seed, "metric": info.quality, "labels": info.labels,
        "examples": info.examples, "truths": [kind.truth(example) for example in test],
        "predictions": {names[name]: found.predictions for name, found in answers.items()},
        "core_seconds": json.loads(_seconds_file(cell, root).read_text(encoding="utf-8")),
        "manifests": {"model": model.digest, "bundle": bundle.digest},
        "int8_kept_float": sorted(bundle.facts["precisions"]["int8"].get("budget", {}).get("kept_float", {})),
        "phases": [phase.model_dump(mode="json") for phase in recipe.models[cell.row].phases],
    })  # fmt: skip


def write_cell(file: Path, cell: dict[str, Any]) -> None:
    """A line of JSON, numbers to six digits: there are hundreds of cells, and of each some thousand answers."""
    predictions = {
        precision: [float(f"{each:.6g}") if isinstance(each, float) else each for each in answers]
        for precision, answers in cell["predictions"].items()
    }
    write_json(file, cell | {"predictions": predictions}, indent=None)


def read_cells(directory: Path) -> list[dict[str, Any]]:
    """What has been measured."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(directory.glob("*.json"))]


def plan(cells: Sequence[Cell], results: Path) -> list[str]:
    """A line a cell: whether it is there, or how many core-minutes it may take."""
    done = read_cells(results)
    lines, total = [], 0.0
    for cell in cells:
        if (results / f"{cell.name}.json").exists():
            lines.append(f"{cell.name:32} done")
            continue
        minutes = _guess(cell, done)
        total += minutes
        lines.append(f"{cell.name:32} about {minutes:.0f} core-minutes")
    return [*lines, f"{'all':32} about {total:.0f} core-minutes"]


def _guess(cell: Cell, done: Sequence[dict[str, Any]]) -> float:
    is_teacher = cell.row == TEACHER
    if cell.task == COSINES:
        return 1.0
    like = [
        found["core_seconds"] / 60
        for found in done
        if found["task"] == cell.task and (found["row"] == TEACHER) == is_teacher
    ]
    return max(like) if like else TASKS[cell.task].minutes[0 if is_teacher else 1]


def _seconds_file(cell: Cell, root: Path) -> Path:
    return root / f"{cell.row}-seconds.json"


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
