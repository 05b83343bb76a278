"""Texts as people send them: many short ones and a few long ones, of known numbers of tokens."""

from pathlib import Path

import numpy as np

from serve.bundle import TOKENIZER
from serve.latency.inputs import Sized, make_texts, open_plain_tokenizer

MEDIAN_TOKENS = 20
P99_TOKENS = 200
LONGEST_TOKENS = 250
"""Peers cut at 256."""
SHORTEST_TOKENS = 4
SINGLE_TOKENS = 16
NORMAL_P99 = 2.3263
"""Of the standard normal distribution."""

BANDS = {"up to 16 tokens": (0, 16), "17 to 64": (17, 64), "over 64": (65, 10_000)}


def draw_lengths(count: int, seed: int, longest: int = LONGEST_TOKENS) -> list[int]:
    """Lengths in tokens, lognormal with the median and 99th percentile above, cut at both ends."""
    spread = np.log(P99_TOKENS / MEDIAN_TOKENS) / NORMAL_P99
    drawn = np.random.default_rng(seed).lognormal(np.log(MEDIAN_TOKENS), spread, count)
    return [int(length) for length in np.clip(np.round(drawn), SHORTEST_TOKENS, longest)]


def mixed_texts(bundle: Path, count: int, seed: int, longest: int = LONGEST_TOKENS) -> list[Sized]:
    """So many texts of mixed lengths."""
    return make_texts(open_plain_tokenizer(bundle / TOKENIZER), draw_lengths(count, seed, longest), seed + 1)


def even_texts(bundle: Path, count: int, seed: int, tokens: int = SINGLE_TOKENS) -> list[Sized]:
    """So many texts of one length."""
    return make_texts(open_plain_tokenizer(bundle / TOKENIZER), [tokens] * count, seed)
