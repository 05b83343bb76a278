"""Parity: every graph against the model it was made from, over a grid of batches; a miss leaves no bundle."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from onnxruntime import InferenceSession

from artifact.errors import ParityError
from export.config import Parity, Precision
from export.graph import OUTPUTS, ClassifierWithEmbedding
from export.grid import (
    Cell,
    Inputs,
    Side,
    TokenTypes,
    alone,
    fill,
    fill_cells,
    make_cells,
    most_padded_row,
    vocabulary_of,
)
from export.session import open_session
from export.source import Source


class Answer(NamedTuple):
    """What a model or graph says to one batch."""

    logits: Float[np.ndarray, "batch labels"]
    embedding: Float[np.ndarray, "batch hidden"]


Ask = Callable[[Inputs], Answer]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far a graph is from its source in one cell."""

    cell: Cell
    max_abs_error: float
    """Over logits and embedding components."""
    min_cosine: float
    """Over the embeddings of the batch."""
    padding_shift: float | None
    """How far the graph's own answer to the shortest text moves when it is asked alone; `None` in a batch of one."""


def prove(source: Source, graphs: Mapping[Precision, Path], parity: Parity) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare each graph with `source` on the whole grid: facts of the grid, and facts of each precision.

    Each cell's answer of the source is computed once, for all precisions. Raises `ParityError` naming the worst
    cell of the first precision that misses its bound.
    """
    with one_torch_thread():
        return _prove(source, graphs, parity)


def _prove(source: Source, graphs: Mapping[Precision, Path], parity: Parity) -> tuple[dict[str, Any], dict[str, Any]]:
    ask_source = ask_torch(source)
    shift = left_padding_shift(source)
    sides: tuple[Side, ...] = ("right", "left") if shift <= parity.float32_max_abs_error else ("right",)
    cells = make_cells(parity, source.max_tokens, sides, token_types_of(source))
    asks = {precision: ask_onnx(open_session(path)) for precision, path in graphs.items()}
    compared: dict[Precision, list[Comparison]] = {precision: [] for precision in graphs}
    for cell, inputs in fill_cells(cells, vocabulary_of(source)):
        expected = ask_source(inputs)
        for precision, ask in asks.items():
            compared[precision].append(compare(cell, inputs, expected, ask))
    for precision, comparisons in compared.items():
        check(precision, comparisons, parity)
    return describe_grid(cells, shift), {precision: summarize(found) for precision, found in compared.items()}


def compare(cell: Cell, inputs: Inputs, expected: Answer, ask: Ask) -> Comparison:
    """`ask`'s answer to one batch beside the `expected` one."""
    found = ask(inputs)
    padding_shift = None
    if cell.batch > 1:
        row = most_padded_row(inputs)
        shared = Answer(found.logits[row : row + 1], found.embedding[row : row + 1])
        padding_shift = max_abs_difference(ask(alone(inputs, row)), shared)
    return Comparison(
        cell=cell,
        max_abs_error=max_abs_difference(found, expected),
        min_cosine=float(cosines(found.embedding, expected.embedding).min()),
        padding_shift=padding_shift,
    )


def check(precision: Precision, comparisons: list[Comparison], parity: Parity) -> None:
    """Raise `ParityError` when the worst cell misses the bound of `precision`, or when any answer is not a number."""
    least, most = worst(comparisons, "min_cosine"), worst(comparisons, "max_abs_error")
    if not math.isfinite(most.max_abs_error):
        raise ParityError(f"the {precision} graph answers with NaN or infinity\n  in {most.cell}")
    if precision == "float32" and most.max_abs_error > parity.float32_max_abs_error:
        bound = f"differs from its source by {most.max_abs_error:.3g}, more than {parity.float32_max_abs_error:g}"
        raise ParityError(f"the float32 graph {bound}\n  in {most.cell}", "the export is wrong: no bundle was sealed")
    if precision == "int8" and least.min_cosine < parity.int8_min_cosine:
        bound = f"has cosine {least.min_cosine:.4f} to its source, less than {parity.int8_min_cosine:g}"
        hint = "leave int8 out of precisions, or lower parity.int8_min_cosine if the task's quality allows it"
        raise ParityError(f"the int8 graph {bound}\n  in {least.cell}", hint)


def worst(comparisons: list[Comparison], measure: str) -> Comparison:
    """The cell farthest from its source: least cosine, or greatest error; NaN is worse than any number."""
    sign = -1 if measure == "min_cosine" else 1
    return max(comparisons, key=lambda found: _badness(sign * getattr(found, measure)))


def _badness(value: float) -> float:
    return math.inf if math.isnan(value) else value


def summarize(comparisons: list[Comparison]) -> dict[str, Any]:
    """The worst of each measure, with the cell it was found in."""
    error, cosine = worst(comparisons, "max_abs_error"), worst(comparisons, "min_cosine")
    facts: dict[str, Any] = {
        "max_abs_error": error.max_abs_error,
        "max_abs_error_cell": str(error.cell),
        "min_cosine": cosine.min_cosine,
        "min_cosine_cell": str(cosine.cell),
    }
    shared = [found for found in comparisons if found.padding_shift is not None]
    if shared:
        shifted = worst(shared, "padding_shift")
        facts |= {"max_padding_shift": shifted.padding_shift, "max_padding_shift_cell": str(shifted.cell)}
    return facts


def describe_grid(cells: list[Cell], shift: float) -> dict[str, Any]:
    """What was compared, and why not more."""
    left = any(cell.side == "left" for cell in cells)
    reason = f"left out: the source's own answer moves by {shift:.3g} when a text is padded on the left"
    return {
        "cells": len(cells),
        "batch_sizes": sorted({cell.batch for cell in cells}),
        "lengths": sorted({cell.length for cell in cells}),
        "token_types": sorted({cell.types for cell in cells}),
        "padding": {"right": "compared", "left": "compared" if left else reason},
    }


def left_padding_shift(source: Source) -> float:
    """How far the source's own answer to a text moves when it is padded on the left, over logits and embedding.

    Measured, not looked up: absolute positions move it, rotary and relative ones do not, and a head that reads the
    first place of the batch, as most do, finds padding there whatever the positions.
    """
    vocabulary, ask, random = vocabulary_of(source), ask_torch(source), np.random.default_rng(0)
    inputs = fill(Cell(batch=8, length=min(16, source.max_tokens), side="left"), vocabulary, random)
    row = most_padded_row(inputs)
    shared = ask(inputs)
    padded = Answer(shared.logits[row : row + 1], shared.embedding[row : row + 1])
    return max_abs_difference(ask(alone(inputs, row)), padded)


def token_types_of(source: Source) -> tuple[TokenTypes, ...]:
    """Token types worth comparing: `mixed` only where the model was built with more than one."""
    several = "token_type_ids" in vocabulary_of(source).names and source.model.config.type_vocab_size > 1
    return ("zero", "mixed") if several else ("zero",)


def ask_torch(source: Source) -> Ask:
    """The source model, as something to ask."""
    model = ClassifierWithEmbedding(source.model)

    def ask(inputs: Inputs) -> Answer:
        with torch.inference_mode():
            answer = model(**{name: torch.from_numpy(values) for name, values in inputs.items()})
        return Answer(answer["logits"].numpy(), answer["sentence_embedding"].numpy())

    return ask


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


def ask_onnx(session: InferenceSession) -> Ask:
    """A graph, as something to ask."""
    return lambda inputs: Answer(*session.run(list(OUTPUTS), dict(inputs)))


def max_abs_difference(found: Answer, expected: Answer) -> float:
    """Largest difference of any component of either answer; NaN if any is."""
    differences = [np.abs(a - b).max() for a, b in zip(found, expected, strict=True)]
    return float(np.max(differences))  # the built-in max would lose a NaN


def cosines(
    found: Float[np.ndarray, "batch hidden"], expected: Float[np.ndarray, "batch hidden"]
) -> Float[np.ndarray, " batch"]:
    """Cosine of each pair of rows."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine: Float[np.ndarray, " batch"] = (found * expected).sum(axis=1) / lengths
    return cosine
