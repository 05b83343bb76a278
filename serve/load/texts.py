"""Texts to load an endpoint with where nobody gave any: of mixed lengths, as people's questions are."""

from collections.abc import Sequence

import numpy as np

MEDIAN_TOKENS = 20
P99_TOKENS = 200
LONGEST_TOKENS = 250
"""Many models cut at 256."""
SHORTEST_TOKENS = 4
NORMAL_P99 = 2.3263
"""Of the standard normal distribution."""
SPECIAL_TOKENS = 2

_COMMON = (
    "about account after again answer back because before bill book bring buy call card change check city cold "
    "could country day door early every family few find first food friend from give good great group hand help "
    "here home house how hour keep know large last late learn leave left letter light like list little long look "
    "lost make many money month more morning most move much music name need never new next night number often old "
    "only open order other over paper part pay phone place plan please point power price question read ready real "
    "right road room school send should show side small some sound start station still stop store story street "
    "such sure table take tell than that their there these thing think this time today tomorrow town train travel "
    "tree turn under until very wait walk want water way week well what when where which while white who why "
    "window with without word work world would write year yesterday young your"
)
WORDS = tuple(_COMMON.split())
"""Common enough to be one token each in the vocabularies we know."""


def draw_lengths(count: int, seed: int, longest: int = LONGEST_TOKENS) -> list[int]:
    """Lengths in tokens, lognormal with the median and 99th percentile above, cut at both ends."""
    spread = np.log(P99_TOKENS / MEDIAN_TOKENS) / NORMAL_P99
    drawn = np.random.default_rng(seed).lognormal(np.log(MEDIAN_TOKENS), spread, count)
    return [int(length) for length in np.clip(np.round(drawn), SHORTEST_TOKENS, longest)]


def make_plain_texts(lengths: Sequence[int], seed: int) -> list[str]:
    """A text of about each length in tokens, of common English words."""
    random = np.random.default_rng(seed)
    picks = (random.integers(len(WORDS), size=max(1, length - SPECIAL_TOKENS)) for length in lengths)
    return [" ".join(WORDS[place] for place in places) for places in picks]
