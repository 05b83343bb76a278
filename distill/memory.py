"""Memory that runs out while a model is trained: one error, with what to do."""

import contextlib
import math
from collections.abc import Iterator

import torch

from artifact.errors import TrainingError
from distill.batch import Batch
from distill.config import Phase
from distill.config_objectives import Contrastive, Embedding, Ranking
from distill.state import Run


@contextlib.contextmanager
def enough_memory(run: Run, phase: Phase, part: Batch) -> Iterator[None]:
    """`TrainingError` that says what did not fit, and what may, when `part` of a step of `phase` finds no memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        rows, tokens = part.inputs["input_ids"].shape
        what = f"{rows} rows x {tokens} tokens on {run.accelerator.device}"
        raise TrainingError(
            f"{run.directory.name}: no memory in phase {phase.name!r} for {what}", _less(phase, rows)
        ) from None


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA and Python have types of their own for it, the CPU's allocator has its words alone."""
    told = ("can't allocate memory", "not enough memory", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in told)


def _less(phase: Phase, rows: int) -> str:
    if rows == 1:
        return "one row is the least there is: lower max_tokens, or train a smaller student"
    if any(isinstance(o, Ranking | Contrastive | Embedding) and _is_of_batch(o) for o in phase.objectives):
        return (
            "lower its batch_size or batch_tokens: its objectives compare the texts of a batch, which cannot be parted"
        )
    parts = 2 ** math.floor(math.log2(phase.accumulate or 1) + 1)
    return f"set its `accumulate` to {parts}: the same result, from parts about half as large"


def _is_of_batch(objective: Ranking | Contrastive | Embedding) -> bool:
    return not isinstance(objective, Embedding) or objective.measure == "similarity"
