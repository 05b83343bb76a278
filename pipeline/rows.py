"""How each row of a report is opened, in process, for the evaluation and the benchmark alike."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from pipeline.pytorch import PyTorchEngine
from serve.engine import Engine
from serve.latency.worker import Measurable

PYTORCH = "pytorch"


class Row(Engine, Measurable, Protocol):
    """An engine that can be measured."""


def opener(row: str, root: Path, threads: int) -> Callable[[], Row]:
    """What opens `row` below the output folder `root`, with `threads` of its own; it can be pickled."""
    model, _, precision = row.partition("/")
    if precision == PYTORCH:
        return partial(PyTorchEngine.open, root / "models" / model, threads=threads)
    from serve.runtime import Runtime

    return partial(Runtime.open, root / "bundles" / model, precision, threads=threads)
