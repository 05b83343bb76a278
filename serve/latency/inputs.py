"""Texts of known numbers of tokens: random words of the tokenizer's own vocabulary, each of them one token.

made = make_texts(open_plain_tokenizer(bundle / "tokenizer.json"), [16, 64, 128], seed=1)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no types

from artifact.errors import BenchError
from serve.session import open_tokenizer

SHORTEST_WORD = 3
LEADING_SPACES = "Ġ▁"
"""What vocabularies of bytes and of SentencePiece write for the space before a word."""
LONG_TOKENS = 512
"""Any length that leaves room for the special tokens."""
HINT = "measure on the recipe's own texts: leave out bench.lengths and bench.histogram"


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A text and its tokens, special ones included."""

    text: str
    tokens: int


def make_texts(tokenizer: Tokenizer, lengths: Sequence[int], seed: int) -> list[Sized]:
    """A text of each length; where a length leaves no room for a word, one of a single word.

    Raises `BenchError` when the tokenizer knows no whole words, or counts otherwise in company.
    """
    words, special = find_words(tokenizer), count_special(tokenizer)
    random = np.random.default_rng(seed)
    made = []
    for length in lengths:
        text = " ".join(words[place] for place in random.integers(len(words), size=max(1, length - special)))
        made.append(Sized(text=text, tokens=max(1, length - special) + special))
    counted = tokenizer.encode_batch([one.text for one in made])
    for one, encoding in zip(made, counted, strict=True):
        if len(encoding.ids) != one.tokens:
            raise BenchError(f"{one.text[:40]!r} has not {one.tokens} tokens but {len(encoding.ids)}", HINT)
    return made


def find_words(tokenizer: Tokenizer) -> list[str]:
    """Words of the vocabulary, sorted, that are one token each, alone as in company; `BenchError` for none."""
    special = count_special(tokenizer)
    plain = {word.lstrip(LEADING_SPACES) for word in tokenizer.get_vocab()}
    words = sorted(word for word in plain if len(word) >= SHORTEST_WORD and word.isascii() and _is_lower(word))
    alone, twice = tokenizer.encode_batch(words), tokenizer.encode_batch([f"{word} {word}" for word in words])
    known = [
        word
        for word, one, two in zip(words, alone, twice, strict=True)
        if (len(one.ids), len(two.ids)) == (special + 1, special + 2)
    ]
    if not known:
        raise BenchError("the tokenizer knows no whole word of lower-case letters, so no text can be made for it", HINT)
    return known


def count_special(tokenizer: Tokenizer) -> int:
    """Tokens that stand around every text."""
    return len(tokenizer.encode("").ids)


def open_plain_tokenizer(path: Path) -> Tokenizer:
    """The `tokenizer.json` at `path`, which neither cuts nor pads; `ArtifactError` when it does not load."""
    tokenizer = open_tokenizer(path, LONG_TOKENS)
    tokenizer.no_truncation()
    return tokenizer


def _is_lower(word: str) -> bool:
    return word.isalpha() and word.islower()
