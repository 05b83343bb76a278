"""Which texts come together in a step: pure functions of their lengths, a plan, and a generator.

A batch is a list of rows and a row a list of texts, by index: one text a row, unless texts are packed.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from artifact.config import Config
from artifact.errors import ConfigError

BATCHES_PER_GROUP = 50
"""Batches that are sorted by length together: enough that little is padded, few enough that order stays random."""

Rows = list[list[int]]


class FeedPosition(Config):
    """Where a feed stands; part of the checkpoint. A feed that starts from it goes on with the very same steps."""

    epoch: int = 0
    """Passes over the whole text."""
    window: int = 0
    """Streams only: windows of this pass done."""
    records: int = 0
    """Streams only: records of this process's share read before this window."""
    batch: int = 0
    """The next step's index inside the epoch or window."""


@dataclass(frozen=True)
class Plan:
    """How a phase wants its batches, and which share of them this process takes."""

    batch_size: int
    """Texts of a step, over all processes."""
    batch_tokens: int | None = None
    """Tokens of a step, padding included, over all processes; takes the place of `batch_size`."""
    packing: bool = False
    accumulate: int = 1
    """Parts of this process's share of a step."""
    seed: int = 0
    rank: int = 0
    world: int = 1
    first_position: int = 0
    """Of each packed text; `distill.batch.first_position_of`."""
    among_candidates: bool = False
    """Whether a row is a query: all its candidates, which then come in one batch and in one part of it."""

    def share(self) -> "Plan":
        """The plan of a process that makes its own batches, of its own texts; `ConfigError` when nothing is left."""
        if self.batch_tokens is None and self.batch_size < self.world:
            raise ConfigError(f"batch_size is {self.batch_size}, fewer than the {self.world} processes")
        size = max(1, len(range(self.rank, self.batch_size, self.world)))
        tokens = None if self.batch_tokens is None else max(1, self.batch_tokens // self.world)
        return replace(self, batch_size=size, batch_tokens=tokens, rank=0, world=1)


def planned(lengths: Sequence[int], plan: Plan, row_tokens: int, generator: torch.Generator) -> list[Rows]:
    """All batches of the texts, as `plan` wants them; packed rows hold at most `row_tokens`.

    `ConfigError` when the plan packs, and its budget is less than one row.
    """
    if plan.packing:
        budget = plan.batch_tokens or 0
        if budget < row_tokens:
            raise ConfigError(
                f"packing needs batch_tokens for at least one row of max_tokens, {row_tokens}, found {budget}",
                "a corpus has its batch_tokens divided between the processes",
            )
        return pack(lengths, row_tokens, budget // row_tokens, generator)
    if plan.batch_tokens is not None:
        batches = by_tokens(lengths, plan.batch_tokens, generator)
    else:
        batches = by_texts(lengths, plan.batch_size, generator)
    return [[[text] for text in batch] for batch in batches]


def by_texts(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """Batches of `batch_size` texts: in random order, but texts of like length together; the last may be short."""

    def cut(near: list[int]) -> Iterator[list[int]]:
        return (near[i : i + batch_size] for i in range(0, len(near), batch_size))

    return _grouped(lengths, batch_size * BATCHES_PER_GROUP, cut, generator)


def by_tokens(lengths: Sequence[int], budget: int, generator: torch.Generator) -> list[list[int]]:
    """Batches of like length whose padded size, texts times the longest, is at most `budget`.

    A text longer than the budget is a batch of its own.
    """

    def cut(near: list[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for text in near:
            if batch and (len(batch) + 1) * lengths[text] > budget:
                yield batch
                batch = []
            batch.append(text)
        yield batch

    return _grouped(lengths, _texts_in(lengths, BATCHES_PER_GROUP * budget), cut, generator)


def pack(lengths: Sequence[int], row_tokens: int, rows: int, generator: torch.Generator) -> list[Rows]:
    """Batches of `rows` rows, the last perhaps of fewer, in random order; each row holds texts of at most `row_tokens`.

    Best-fit decreasing: longest first, each into the row that it fills best, in groups of random texts, so that rows
    differ between epochs. Raises `ValueError` for a text that no row can hold.
    """
    if max(lengths, default=0) > row_tokens:
        raise ValueError(f"a text of {max(lengths)} tokens does not fit a row of {row_tokens}")
    group = _texts_in(lengths, BATCHES_PER_GROUP * rows * row_tokens)
    filled = _grouped(lengths, group, lambda near: _best_fit(near[::-1], lengths, row_tokens), generator)
    return [filled[i : i + rows] for i in range(0, len(filled), rows)]


def split(rows: Rows, parts: int) -> list[Rows]:
    """`rows` in `parts` runs whose sizes differ by at most one row; fewer runs when there are fewer rows."""
    ends = [len(rows) * part // parts for part in range(parts + 1)]
    return [rows[start:end] for start, end in itertools.pairwise(ends) if end > start]


def seeded(*numbers: int) -> torch.Generator:
    """A generator that the numbers fix: a seed, an epoch, and perhaps a window or a record."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number) % 2**63
    return torch.Generator().manual_seed(seed)


def _grouped(
    lengths: Sequence[int], group: int, cut: Callable[[list[int]], Iterator[list[int]]], generator: torch.Generator
) -> list[list[int]]:
    """What `cut` makes of random groups of texts, each group sorted by length; in random order."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    made: list[list[int]] = []
    for start in range(0, len(order), group):
        made += cut(sorted(order[start : start + group], key=lambda text: lengths[text]))
    return [made[i] for i in torch.randperm(len(made), generator=generator).tolist()]


def _texts_in(lengths: Sequence[int], tokens: int) -> int:
    """About how many of the texts have `tokens` together."""
    return max(1, tokens * len(lengths) // max(sum(lengths), 1))


def _best_fit(texts: Sequence[int], lengths: Sequence[int], row_tokens: int) -> Iterator[list[int]]:
    rows: Rows = []
    room: list[tuple[int, int]] = []  # of each row, sorted
    for text in texts:
        place = bisect.bisect_left(room, (lengths[text], -1))
        if place == len(room):
            rows.append([])
            left, row = row_tokens, len(rows) - 1
        else:
            left, row = room.pop(place)
        rows[row].append(text)
        bisect.insort(room, (left - lengths[text], row))
    return iter(rows)
