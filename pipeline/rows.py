"""How each row of a report is opened, in process, for the evaluation and the benchmark alike."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from pipeline.pytorch import PyTorchEngine
from pipeline.recipe import Recipe
from pipeline.rows_config import FLOORS, PYTORCH
from serve.engine import Engine
from serve.latency.worker import Measurable


class Row(Engine, Measurable, Protocol):
    """An engine that can be measured."""


def opener(row: str, root: Path, threads: int) -> Callable[[], Row]:
    """What opens `row` below the output folder `root`, with `threads` of its own; it can be pickled."""
    model, _, precision = row.partition("/")
    if precision == PYTORCH:
        return partial(PyTorchEngine.open, root / "models" / model, threads=threads)
    from serve.runtime import Runtime

    return partial(Runtime.open, root / "bundles" / model, precision, threads=threads)


def threads_of(row: str, threads: int) -> int:
    """How many of `threads` the row computes with: the floors are sparse or small sums, on one."""
    return 1 if row in FLOORS else threads


def measured_inputs(recipe: Recipe, root: Path) -> dict[str, Path]:
    """All that the rows of `recipe` are made of, and the data they are measured on."""
    first = next(iter(recipe.models))
    bundles = {f"bundle:{name}": root / "bundles" / name for name in recipe.models}
    return {"data": root / "data", f"model:{first}": root / "models" / first, **bundles}
