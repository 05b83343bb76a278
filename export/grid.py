"""The cells of the parity grid: random texts of ragged lengths, as they would share a batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from export.config import Parity
from export.graph import input_names
from export.source import Source

Side = Literal["right", "left"]
TokenTypes = Literal["zero", "mixed"]
Inputs = Mapping[str, Int[np.ndarray, "batch seq"]]
"""A graph's inputs by name."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One batch: how many texts, padded to what length, on which side, with which token types."""

    batch: int
    length: int
    side: Side = "right"
    types: TokenTypes = "zero"

    def __str__(self) -> str:
        return f"batch {self.batch} x {self.length} tokens, padded {self.side}, token types {self.types}"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What random texts are made of."""

    words: Int[np.ndarray, " words"]
    """Every id that is not special."""
    first: tuple[int, ...]
    """What a text begins with: the classification token, where there is one."""
    last: tuple[int, ...]
    pad_id: int
    names: tuple[str, ...]
    """The model's inputs."""


def vocabulary_of(source: Source) -> Vocabulary:
    """The ids `source` understands; those above its embedding table (tokens added later) are left out."""
    tokenizer = source.tokenizer
    size = min(len(tokenizer), source.model.config.vocab_size)
    return Vocabulary(
        words=np.setdiff1d(np.arange(size), tokenizer.all_special_ids),
        first=() if tokenizer.cls_token_id is None else (tokenizer.cls_token_id,),
        last=() if tokenizer.sep_token_id is None else (tokenizer.sep_token_id,),
        pad_id=source.pad_id,
        names=input_names(source),
    )


def make_cells(parity: Parity, max_tokens: int, sides: Sequence[Side], types: Sequence[TokenTypes]) -> list[Cell]:
    """Every combination that fits `max_tokens` and `max_cell_tokens`, small ones first."""
    lengths = sorted({length for length in parity.lengths if length <= max_tokens} | {max_tokens})
    smallest = min(parity.batch_sizes)
    return [
        Cell(batch=batch, length=length, side=side, types=kind)
        for batch in sorted(set(parity.batch_sizes))
        for length in lengths
        if batch == smallest or batch * length <= parity.max_cell_tokens
        for side in sides
        for kind in types
    ]


def fill_cells(cells: Sequence[Cell], vocabulary: Vocabulary) -> Iterator[tuple[Cell, Inputs]]:
    """The cells with their inputs, the same ones every time."""
    random = np.random.default_rng(0)
    for cell in cells:
        yield cell, fill(cell, vocabulary, random)


def fill(cell: Cell, vocabulary: Vocabulary, random: np.random.Generator) -> Inputs:
    """Random texts for `cell`: the first as long as the cell, the others of any length from two tokens up.

    A text of one or two tokens is what remains of its frame: the first special token, then the last.
    """
    ids = np.full((cell.batch, cell.length), vocabulary.pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    types = np.zeros_like(ids)
    shortest = min(2, cell.length)
    lengths = [cell.length, *random.integers(shortest, cell.length + 1, size=cell.batch - 1).tolist()]
    for row, length in enumerate(lengths):
        place = slice(0, length) if cell.side == "right" else slice(cell.length - length, cell.length)
        count = max(0, length - len(vocabulary.first) - len(vocabulary.last))
        ids[row, place] = [*vocabulary.first, *random.choice(vocabulary.words, size=count), *vocabulary.last][:length]
        mask[row, place] = 1
        if cell.types == "mixed":
            types[row, place] = random.integers(0, 2, size=length)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: inputs[name] for name in vocabulary.names}


def most_padded_row(inputs: Inputs) -> int:
    """Which text of the batch is the shortest."""
    return int(inputs["attention_mask"].sum(axis=1).argmin())


def alone(inputs: Inputs, row: int) -> Inputs:
    """The text in `row` as a batch of its own, without its padding."""
    kept = inputs["attention_mask"][row].astype(bool)
    return {name: values[row : row + 1, kept] for name, values in inputs.items()}


def pad_texts(texts: Sequence[Inputs], pad_id: int) -> Inputs:
    """One batch of single rows, as long as the longest, padded on the right: ids with `pad_id`, all else with zero."""
    shape = len(texts), max(text["input_ids"].shape[1] for text in texts)
    batch = {
        name: np.full(shape, pad_id if name == "input_ids" else 0, dtype=values.dtype)
        for name, values in texts[0].items()
    }
    for row, text in enumerate(texts):
        for name, values in text.items():
            batch[name][row, : values.shape[1]] = values[0]
    return batch
