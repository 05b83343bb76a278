"""A text as its tokenizer sees it: what may be handed to one, and what it makes of it."""

import re
import time
from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer  # type: ignore[import-untyped]  # ships no types

from serve.engine import Side, Text, Token
from serve.passages.alignment import align
from serve.passages.passage import Passage

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of UTF-16 pairs: legal in a Python string, not in UTF-8, so the tokenizer cannot be handed one."""


def mend(text: Text) -> Text:
    """`text` with U+FFFD for each lone surrogate, as many characters long as before."""
    if isinstance(text, str):
        return _SURROGATES.sub("\ufffd", text)
    first, second = text
    return _SURROGATES.sub("\ufffd", first), _SURROGATES.sub("\ufffd", second)


def copy_untruncated(tokenizer: Tokenizer) -> Tokenizer:
    """Another of the same, which neither cuts nor pads; the one given is left as it is, for those who use it."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def copy_cutting(tokenizer: Tokenizer, max_tokens: int, side: Side) -> Tokenizer:
    """Another of the same, which drops what is beyond `max_tokens` at that side."""
    copy = copy_untruncated(tokenizer)
    copy.enable_truncation(max_tokens, direction=side)
    return copy


def show_tokens(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
    """The tokens of each text, with those the model adds when `special`; a `tokenizer` that does not cut shows all."""
    mended = [str(mend(text)) for text in texts]
    encodings = tokenizer.encode_batch(mended, add_special_tokens=special)
    return [_spell(text, encoding) for text, encoding in zip(mended, encodings, strict=True)]


def read_passages(tokenizer: Tokenizer, texts: Sequence[Text]) -> tuple[list[Passage], float]:
    """`texts` as tokens, none cut off by a `tokenizer` that does not, and the seconds it took; of a pair, the second.

    All characters are those of the texts as given, lone surrogates too.
    """
    begun = time.perf_counter()
    encodings = tokenizer.encode_batch([mend(text) for text in texts])
    passages = [
        align(text, encoding) if isinstance(text, str) else align(text[1], encoding, second=True)
        for text, encoding in zip(texts, encodings, strict=True)
    ]
    return passages, time.perf_counter() - begun


def _spell(text: str, encoding: Encoding) -> list[Token]:
    rows = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Token(number, piece, special=True, start=None, stop=None)
        if special
        else Token(number, text[start:stop], special=False, start=start, stop=stop)
        for number, piece, special, (start, stop) in rows
    ]
