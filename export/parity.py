"""Parity: every graph against the model it was made from, over a grid of batches; a miss leaves no bundle."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifact.errors import ParityError
from export.answers import (
    Answer,
    Ask,
    ask_onnx,
    ask_torch,
    max_abs_difference,
    one_torch_thread,
    real,
    row_of,
)
from export.config import Parity, Precision, min_cosine_field
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
from export.tasks import VECTOR
from export.vectors import cosines


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
    """`ask`'s answer to one batch beside the `expected` one, at the places that hold a token."""
    found, kept = ask(inputs), inputs["attention_mask"].astype(bool)
    padding_shift = None
    if cell.batch > 1:
        row = most_padded_row(inputs)
        padding_shift = max_abs_difference(ask(alone(inputs, row)), row_of(found, row, kept))
    return Comparison(
        cell=cell,
        max_abs_error=max_abs_difference(real(found, kept), real(expected, kept)),
        min_cosine=float(cosines(found[VECTOR], expected[VECTOR]).min()),
        padding_shift=padding_shift,
    )


def check(precision: Precision, comparisons: list[Comparison], parity: Parity) -> None:
    """Raise `ParityError` when the worst cell misses the bound of `precision`, or when any answer is not a number."""
    least, most = worst(comparisons, "min_cosine"), worst(comparisons, "max_abs_error")
    if not math.isfinite(most.max_abs_error):
        raise ParityError(f"the {precision} graph answers with NaN or infinity\n  in {most.cell}")
    bound = parity.min_cosine(precision)
    if bound is None:
        _check_exact(precision, comparisons, parity.float32_max_abs_error)
    elif least.min_cosine < bound:
        found = f"has cosine {least.min_cosine:.4f} to its source, less than {bound:g}"
        field = min_cosine_field(precision)
        hint = f"leave {precision} out of precisions, or lower parity.{field} if the task's quality allows it"
        raise ParityError(f"the {precision} graph {found}\n  in {least.cell}", hint)


def _check_exact(precision: Precision, comparisons: list[Comparison], bound: float) -> None:
    most = worst(comparisons, "max_abs_error")
    hint = "the export is wrong: no bundle was sealed"
    if most.max_abs_error > bound:
        found = f"differs from its source by {most.max_abs_error:.3g}, more than {bound:g}"
        raise ParityError(f"the {precision} graph {found}\n  in {most.cell}", hint)
    shared = [found for found in comparisons if found.padding_shift is not None]
    if shared and (shifted := worst(shared, "padding_shift")).padding_shift > bound:  # type: ignore[operator]  # not None
        found = f"answers a text otherwise when it is padded, by {shifted.padding_shift:.3g}, more than {bound:g}"
        raise ParityError(f"the {precision} graph {found}\n  in {shifted.cell}", hint)


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
    """How far the source's own answer to a text moves when it is padded on the left, over all outputs.

    Measured, not looked up: absolute positions move it, rotary and relative ones do not, and a head that reads the
    first place of the batch, as most do, finds padding there whatever the positions.
    """
    vocabulary, ask, random = vocabulary_of(source), ask_torch(source), np.random.default_rng(0)
    inputs = fill(Cell(batch=8, length=min(16, source.max_tokens), side="left"), vocabulary, random)
    row = most_padded_row(inputs)
    padded = row_of(ask(inputs), row, inputs["attention_mask"].astype(bool))
    return max_abs_difference(ask(alone(inputs, row)), padded)


def token_types_of(source: Source) -> tuple[TokenTypes, ...]:
    """Token types worth comparing: `mixed` only where the model was built with more than one."""
    several = "token_type_ids" in vocabulary_of(source).names and source.model.config.type_vocab_size > 1
    return ("zero", "mixed") if several else ("zero",)
