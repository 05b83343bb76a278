"""Texts of known numbers of tokens: made of whole words of the tokenizer's own vocabulary, no two alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no types

from artifact.errors import BenchError
from serve.load.texts import LONGEST_TOKENS, draw_lengths

SINGLE_TOKENS = 16

BANDS = {"up to 16 tokens": (0, 16), "17 to 64": (17, 64), "over 64": (65, 10_000)}


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A text and its tokens, special ones included."""

    text: str
    tokens: int


def find_words(tokenizer: Tokenizer) -> list[str]:
    """Words of the vocabulary that are one token each wherever they stand."""
    special = len(tokenizer.encode("").ids)
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and word.islower())
    known = [word for word in words if len(word) > 2 and len(tokenizer.encode(word).ids) == special + 1]
    if not known:
        raise BenchError("the tokenizer knows no whole word", "benchmark a bundle of a word-piece model")
    return known


def make_texts(tokenizer: Tokenizer, lengths: Sequence[int], seed: int) -> list[Sized]:
    """A text of each length, of random words; `BenchError` when the tokenizer counts otherwise."""
    words, special = find_words(tokenizer), len(tokenizer.encode("").ids)
    random = np.random.default_rng(seed)
    made = []
    for length in lengths:
        text = " ".join(words[place] for place in random.integers(len(words), size=max(1, length - special)))
        made.append(Sized(text=text, tokens=max(1, length - special) + special))
    wrong = next((one for one in made if len(tokenizer.encode(one.text).ids) != one.tokens), None)
    if wrong is not None:
        raise BenchError(
            f"{wrong.text[:40]!r} has not {wrong.tokens} tokens", "benchmark a bundle of a word-piece model"
        )
    return made


def open_plain_tokenizer(bundle: Path) -> Tokenizer:
    """The bundle's tokenizer, which neither cuts nor pads."""
    tokenizer: Any = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def mixed_texts(bundle: Path, count: int, seed: int, longest: int = LONGEST_TOKENS) -> list[Sized]:
    """So many texts of mixed lengths."""
    return make_texts(open_plain_tokenizer(bundle), draw_lengths(count, seed, longest), seed + 1)


def even_texts(bundle: Path, count: int, seed: int, tokens: int = SINGLE_TOKENS) -> list[Sized]:
    """So many texts of one length."""
    return make_texts(open_plain_tokenizer(bundle), [tokens] * count, seed)
