"""Texts as people send them: many short ones and a few long ones, of known numbers of tokens."""

from pathlib import Path

from serve.bundle import TOKENIZER
from serve.latency.inputs import Sized, make_texts, open_plain_tokenizer
from serve.load.texts import LONGEST_TOKENS, draw_lengths

SINGLE_TOKENS = 16

BANDS = {"up to 16 tokens": (0, 16), "17 to 64": (17, 64), "over 64": (65, 10_000)}


def mixed_texts(bundle: Path, count: int, seed: int, longest: int = LONGEST_TOKENS) -> list[Sized]:
    """So many texts of mixed lengths."""
    return make_texts(open_plain_tokenizer(bundle / TOKENIZER), draw_lengths(count, seed, longest), seed + 1)


def even_texts(bundle: Path, count: int, seed: int, tokens: int = SINGLE_TOKENS) -> list[Sized]:
    """So many texts of one length."""
    return make_texts(open_plain_tokenizer(bundle / TOKENIZER), [tokens] * count, seed)
