"""Where a passage answers a question, over all its windows, and how likely it is that it does not.

A span from token i to token j has the sum of the model's two logits, start at i and end at j. That there is no answer
has the sum of both at the first token, `[CLS]`, in the window that believes it least, for an answer elsewhere is
none in all the others (Devlin et al. 2019, section 4.3; SQuAD 2). Scores are shares of one among all spans allowed
and that.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from serve.engine import Floats
from serve.passages.alignment import whole
from serve.passages.passage import Passage
from serve.passages.windows import Window

Sums = NDArray[np.float64]


class Found(NamedTuple):
    """Characters that answer; none at all when it is likeliest that the passage has no answer."""

    score: float
    """Probability."""
    start: int
    stop: int


NOTHING = Found(1.0, 0, 0)
"""Of a passage without any character."""


def find_answers(
    passage: Passage,
    windows: Sequence[Window],
    starts: Sequence[Floats],
    ends: Sequence[Floats],
    *,
    count: int,
    most_tokens: int,
) -> tuple[list[Found], float]:
    """The `count` likeliest answers of at most `most_tokens` tokens, best first, and how likely there is none.

    `starts` and `ends` are `[tokens]` for each of `windows`. The empty answer, from 0 to 0, is among them where it
    belongs; fewer come back where there are fewer. Of spans that are the same characters the likeliest counts. A
    passage that does not begin with a special token has nowhere to say that there is none: that is then impossible,
    unless the passage has no characters.
    """
    most = min(most_tokens, max(1, len(passage.body)))
    sums = sum_spans(len(passage.body), windows, starts, ends, most)
    empty = _sum_empty(passage, starts, ends)
    peak = max(float(sums.max(initial=-np.inf)), empty)
    if peak == -np.inf:
        return [NOTHING], 1.0
    total = float(np.exp(sums - peak).sum()) + math.exp(empty - peak)
    ranked = [*_rank(passage, sums, count), *([(empty, 0, 0)] if empty > -np.inf else [])]
    ranked.sort(key=lambda each: -each[0])
    found = [Found(math.exp(logit - peak) / total, start, stop) for logit, start, stop in ranked[:count]]
    return found or [NOTHING], math.exp(empty - peak) / total if found else 1.0


def sum_spans(
    length: int, windows: Sequence[Window], starts: Sequence[Floats], ends: Sequence[Floats], most: int
) -> Sums:
    """`[length, most]`: the best sum, over the windows, of the span of 1 + j tokens from i on; -inf where none is."""
    sums = np.full((length, most), -np.inf)
    for window, start, end in zip(windows, starts, ends, strict=True):
        size = len(window.part)
        if not size:
            continue
        inner = slice(window.before, window.before + size)
        padded = np.concatenate([end[inner].astype(np.float64), np.full(most - 1, -np.inf)])
        band = start[inner].astype(np.float64)[:, None] + sliding_window_view(padded, most)
        rows = slice(window.part.start, window.part.stop)
        np.maximum(sums[rows], band, out=sums[rows])
    return sums


def _sum_empty(passage: Passage, starts: Sequence[Floats], ends: Sequence[Floats]) -> float:
    if not passage.opened:
        return -np.inf
    return min(float(start[0]) + float(end[0]) for start, end in zip(starts, ends, strict=True))


def _rank(passage: Passage, sums: Sums, count: int) -> Iterator[tuple[float, int, int]]:
    """The best `count` spans, best first: sum, first character, one past the last; each characters once.

    Of equal sums the span that begins first is first, and of those the shortest.
    """
    flat = sums.ravel()
    seen: set[tuple[int, int]] = set()
    looked = 4 * count
    while True:
        for number in _best(flat, looked):
            first, extra = divmod(int(number), sums.shape[1])
            tokens = passage.characters(first, first + extra + 1)
            place = tokens and whole(passage.text, *tokens)
            if place and place not in seen:
                seen.add(place)
                yield float(flat[number]), *place
                if len(seen) == count:
                    return
        if looked >= flat.size:
            return
        looked *= 8


def _best(flat: Sums, count: int) -> NDArray[np.intp]:
    """Places of the best `count` of `flat` and of what equals the last of them, best first."""
    count = min(count, flat.size)
    if not count:
        return np.zeros(0, dtype=np.intp)
    least = np.partition(flat, flat.size - count)[flat.size - count]
    places = np.flatnonzero((flat >= least) & (flat > -np.inf))
    return places[np.argsort(-flat[places], kind="stable")]
