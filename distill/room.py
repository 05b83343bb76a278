"""What a machine runs out of while a model is trained, memory and disk: one error each, with what to do."""

import contextlib
import errno
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from artifact.errors import TrainingError, UnderstudyError
from distill.batch import Batch
from distill.config import Phase
from distill.config_objectives import Embedding, Ranking
from distill.state import Run

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a user's share of it used up, a file larger than allowed."""


@contextlib.contextmanager
def enough_disk(directory: Path) -> Iterator[None]:
    """`TrainingError` when what is written in `directory` finds no room: logs, and the model itself.

    A checkpoint says so by itself (`distill/checkpoint.py`).
    """
    try:
        yield
    except UnderstudyError:
        raise
    except Exception as error:
        if not _is_out_of_room(error):
            raise
        raise TrainingError(
            f"no room on the disk of {directory}: {error}",
            "the last checkpoint is intact: make room and run the same command again",
        ) from None


def _is_out_of_room(error: Exception) -> bool:
    """Python has the number; safetensors and tokenizers have it in Rust's words, the latter in a plain `Exception`."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return any(f"os error {number}" in str(error) for number in NO_ROOM)


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
    if any(
        isinstance(o, Ranking) or (isinstance(o, Embedding) and o.measure == "similarity") for o in phase.objectives
    ):
        return (
            "lower its batch_size or batch_tokens: its objectives compare the texts of a batch, which cannot be parted"
        )
    parts = 2 ** math.floor(math.log2(phase.accumulate or 1) + 1)
    return f"set its `accumulate` to {parts}: the same result, from parts about half as large"
