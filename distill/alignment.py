"""Which pieces of one language are translations of which of another, from texts that mean the same.

IBM Model 1 (Brown et al., Computational Linguistics 19(2), 1993, section 4.3), in both directions: a text's pieces are
made by the other's, each by one of them, whichever order they stand in. What a direction thinks alone is biased to
rare pieces; as in Liang, Taskar and Klein (HLT-NAACL 2006, "Alignment by Agreement") only what both think is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 5
LONGEST = 24
"""Pieces of the longer side; longer pairs say little of a word, and cost the product of their lengths."""

Ids = Sequence[int]


@dataclass(frozen=True)
class Links:
    """Piece `new[i]` stands for `old[i]` about `count[i]` times; each pair of pieces once."""

    new: NDArray[np.int64]
    old: NDArray[np.int64]
    count: NDArray[np.float64]


def align(pairs: Iterable[tuple[Ids, Ids, float]]) -> Links:
    """Links between the pieces of (old, new, weight) triples, as often as one was made by the other.

    A weight counts the pair so many times. Pairs with an empty side, or one of more than `LONGEST` pieces, are left
    out. Counts are the geometric mean of both directions' expected counts.
    """
    old, new, weight, rows, columns = _products(pairs)
    if not len(old):
        return Links(new, old, weight)
    names, link = np.unique(new << 32 | old, return_inverse=True)
    of_new, of_old = names >> 32, names & 0xFFFFFFFF
    made = _counts(link, rows, of_old, weight)  # each new piece by one of the old
    found = _counts(link, columns, of_new, weight)
    return Links(of_new, of_old, np.sqrt(made * found))


def _products(
    pairs: Iterable[tuple[Ids, Ids, float]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Each new piece beside each old one of its pair; the numbers of both among all pieces of all pairs."""
    olds, news, weights, rows, columns = [], [], [], [], []
    row = column = 0
    for old, new, weight in pairs:
        if not (0 < len(old) <= LONGEST and 0 < len(new) <= LONGEST):
            continue
        size = len(old) * len(new)
        olds.append(np.tile(np.asarray(old, dtype=np.int64), len(new)))
        news.append(np.repeat(np.asarray(new, dtype=np.int64), len(old)))
        weights.append(np.full(size, weight))
        rows.append(np.repeat(np.arange(row, row + len(new)), len(old)))
        columns.append(np.tile(np.arange(column, column + len(old)), len(new)))
        row, column = row + len(new), column + len(old)
    if not olds:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, np.zeros(0), empty, empty
    return tuple(np.concatenate(parts) for parts in (olds, news, weights, rows, columns))  # type: ignore[return-value]  # five


def _counts(
    link: NDArray[np.int64], place: NDArray[np.int64], maker: NDArray[np.int64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected count of each link when each `place` is made by one of the pieces beside it."""
    chance = np.ones(len(maker))
    for step in range(ITERATIONS):
        each: NDArray[np.float64] = chance[link]
        each *= weight / np.bincount(place, weights=each)[place]
        counts = np.bincount(link, weights=each, minlength=len(maker)).astype(np.float64)
        if step + 1 == ITERATIONS:
            return counts
        chance = counts / np.bincount(maker, weights=counts)[maker]
    return chance
