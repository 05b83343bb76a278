"""What every task has in common: the engines that are asked, and what comes back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from artifact.dataset import DatasetInfo, Example
from artifact.errors import BenchError
from pipeline.results import Answer
from pipeline.rows import Row
from serve.engine import Floats, Outputs, Tokens
from serve.passages.reading import Reader

CHUNK = 256
"""Texts between two steps of the progress bar; the engines sort and batch inside one."""

Step = Callable[[int], None]
"""Told how many examples were answered since the last call."""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One row, opened, and the data that it is asked about."""

    row: str
    engine: Row
    info: DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a row said of some examples, and where that tells how strange each looks to it, what it said of that."""

    answers: list[Answer]
    strangeness: NDArray[np.float64]
    """`[examples]`, higher for a text that looks less like those the model knows; empty where nothing is known."""
    by_distance: bool = False
    """Whether that is the graph's own distance, rather than one less the largest probability."""


Ask = Callable[[Asking, Sequence[Example], Step], Found]


class TokenReader(Row, Reader, Protocol):
    """A row that says something of every token."""

    def infer(self, tokens: Tokens) -> Outputs:
        """The answers to `tokens`, in their order."""


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """`items` in parts of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def check_finite(row: str, *found: Floats) -> None:
    """`BenchError` for what is no number: `argmax` of NaN is 0, so a broken graph would seem to say something."""
    if not all(np.isfinite(each).all() for each in found):
        raise BenchError(f"{row} gives outputs that are not finite", "export it again, or leave it out")
