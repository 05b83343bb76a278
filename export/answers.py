"""Models and graphs as something to ask, and what their answers have in common."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from onnxruntime import InferenceSession

from export.graph import Answering
from export.grid import Inputs
from export.source import Source
from export.tasks import has_place_per_token

Answer: TypeAlias = Mapping[str, Float[np.ndarray, "batch ..."]]
"""What a model or graph says to one batch, output by output."""

SOURCE_TOKENS = 2048
"""Padded tokens that PyTorch is asked at a time: its eager attention keeps whole matrices, a graph does not."""


Ask = Callable[[Inputs], Answer]


def ask_torch(source: Source) -> Ask:
    """The source model, as something to ask; a large batch is asked a few texts at a time, as wide as it is."""
    model = Answering(source)

    def ask(inputs: Inputs) -> Answer:
        rows, length = inputs["input_ids"].shape
        step = max(1, SOURCE_TOKENS // length)
        with torch.inference_mode():
            answers = [
                model(**{name: torch.from_numpy(values[first : first + step]) for name, values in inputs.items()})
                for first in range(0, rows, step)
            ]
        return {name: torch.cat([answer[name] for answer in answers]).numpy() for name in answers[0]}

    return ask


def ask_onnx(session: InferenceSession) -> Ask:
    """A graph, as something to ask."""
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def max_abs_difference(found: Answer, expected: Answer) -> float:
    """Largest difference of any component of any output of `expected`; NaN if any is."""
    differences = [np.abs(found[name] - values).max() for name, values in expected.items()]
    return float(np.max(differences))  # the built-in max would lose a NaN


def real(answer: Answer, kept: Bool[np.ndarray, "batch seq"]) -> Answer:
    """`answer` where it is about texts and tokens: what a graph says of padding is nobody's business."""
    return {name: values[kept] if has_place_per_token(name, values.ndim) else values for name, values in answer.items()}


def row_of(answer: Answer, row: int, kept: Bool[np.ndarray, "batch seq"]) -> Answer:
    """The answer to one text of the batch, as a batch of its own without padding."""
    return {
        name: values[row : row + 1, kept[row]] if has_place_per_token(name, values.ndim) else values[row : row + 1]
        for name, values in answer.items()
    }


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """One thread for PyTorch inside the block: its small operators wait for each other longer than they work.

    On two busy cores the default grid takes a tenth of the time, and the source's answers do not depend on the machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
