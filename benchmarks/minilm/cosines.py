"""General students without fine-tuning: how near the cosines of STS-B's sentences come to what people say."""

from pathlib import Path

import numpy as np

from artifact.dataset import Example, read_info, read_split
from artifact.manifest import open_artifact
from artifact.stage import run_stage
from benchmarks.minilm.cells import PRECISIONS, write_cell
from benchmarks.minilm.grid import COSINES, PROOF, RECIPES, TASKS, Cell, folder_of
from export.run import export_stage
from pipeline.data import data_stage
from pipeline.recipe import load_recipe
from serve.runtime import Runtime

BATCH = 32


def score_cosines(cell: Cell, data: Path, general: Path, out: Path, file: Path) -> None:
    """Export the row's encoder in all precisions, ask it the sentences of STS-B's test split, and write the cell."""
    recipe = load_recipe(RECIPES / "stsb.yaml", [f"data.source.directory={folder_of(TASKS['stsb'], data)}", *PROOF])
    root = out / COSINES
    run_stage(*data_stage(recipe.data, root / "data"))
    bundle = root / "bundles" / cell.row
    model = general / cell.row
    run_stage(*export_stage(model, bundle, recipe.export, cell.row, data=general.parent / "data"))
    test, info = read_split(root / "data", "test"), read_info(root / "data")
    answers = {precision: _cosines(Runtime.open(bundle, precision, threads=1), test) for precision in PRECISIONS}
    write_cell(file, {
        "row": cell.row, "task": cell.task, "seed": cell.seed, "metric": info.quality, "labels": info.labels,
        "examples": info.examples, "truths": [example.value for example in test], "predictions": answers,
        "core_seconds": 0.0, "phases": [],
        "manifests": {
            "model": open_artifact(model, "model").digest, "bundle": open_artifact(bundle, "bundle").digest,
        },
    })  # fmt: skip


def _cosines(runtime: Runtime, test: list[Example]) -> list[float]:
    sides = [[example.text for example in test], [example.pair or "" for example in test]]
    left, right = (_vectors(runtime, texts) for texts in sides)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return [round(float(value), 6) for value in (left * right).sum(axis=1) / lengths]


def _vectors(runtime: Runtime, texts: list[str]) -> np.ndarray:
    """Of each text; those of like length share a batch."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        found |= dict(zip(some, runtime.run([texts[place] for place in some]).embeddings, strict=True))
    return np.stack([found[place] for place in range(len(texts))])
