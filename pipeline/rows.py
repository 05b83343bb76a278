"""How each row of a report is opened, in process, for the evaluation and the benchmark alike.

    opener("student/int8", Path("out/demo"), threads=2)().run(["wake me at seven"])

What a row is made of lies below the output folder: a model, a bundle, or what a step of its own has sealed there.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, get_args

from pipeline.recipe import Recipe
from pipeline.rows_config import BASELINE, CASCADE, FLOORS, PyTorchForm, pytorch_row
from serve.engine import Outputs, Text
from serve.latency.worker import Measurable

CALIBRATION = "calibration"
"""Folder of the cascade's threshold, below the output folder."""
SELECTION = "selection"
"""Folder of the thresholds for saying that no candidate is right."""


class Row(Measurable, Protocol):
    """What answers and can be measured."""

    @property
    def name(self) -> str:
        """As the report calls it; a bundle opened as the baseline has the baseline's."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of the columns of the logits."""

    def run(self, texts: Sequence[Text], /) -> Outputs:
        """Answers to `texts`, or to pairs, in their order."""


def opener(row: str, root: Path, threads: int) -> Callable[[], Row]:
    """What opens `row` below the output folder `root`, with `threads_of` its own; it can be pickled.

    Opening raises `UnderstudyError`; `BenchError` where this machine lacks what an optional row needs.
    """
    if row in FLOORS:
        from pipeline.floors import open_floor

        return partial(open_floor, root / "floors" / row)
    if row == CASCADE:
        from pipeline.calibration import open_cascade

        return partial(open_cascade, root, threads=threads)
    if row == BASELINE:
        from pipeline.baseline import open_baseline

        return partial(open_baseline, root / BASELINE, threads=threads)
    model, _, precision = row.partition("/")
    for form in get_args(PyTorchForm):
        if row == pytorch_row(model, form):
            from pipeline.pytorch import PyTorchEngine

            return partial(PyTorchEngine.open, root / "models" / model, threads=threads, form=form)
    from serve.runtime import Runtime

    return partial(Runtime.open, root / "bundles" / model, precision, threads=threads)


def threads_of(row: str, threads: int) -> int:
    """How many of `threads` the row computes with: the floors are sparse or small sums, on one."""
    return 1 if row in FLOORS else threads


def row_inputs(recipe: Recipe, root: Path) -> dict[str, Path]:
    """What rows are made of beside models and bundles: sealed directories below `root`, by the name in a lineage."""
    made = {f"floor:{floor}": root / "floors" / floor for floor in recipe.floors()}
    if recipe.cascade is not None:
        made[CALIBRATION] = root / CALIBRATION
    if recipe.baseline is not None:
        made[BASELINE] = root / BASELINE
    return made


def measured_inputs(recipe: Recipe, root: Path) -> dict[str, Path]:
    """All that the rows of `recipe` are made of, and the data they are measured on."""
    first = next(iter(recipe.deployed()))
    bundles = {f"bundle:{name}": root / "bundles" / name for name in recipe.deployed()}
    return {"data": root / "data", f"model:{first}": root / "models" / first, **bundles, **row_inputs(recipe, root)}
