"""A text as its tokenizer sees it: what may be handed to one, and what it makes of it."""

import re
from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer  # type: ignore[import-untyped]  # ships no types

from serve.engine import Text, Token

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of UTF-16 pairs: legal in a Python string, not in UTF-8, so the tokenizer cannot be handed one."""


def mend(text: Text) -> Text:
    """`text` with U+FFFD for each lone surrogate, as many characters long as before."""
    if isinstance(text, str):
        return _SURROGATES.sub("\ufffd", text)
    first, second = text
    return _SURROGATES.sub("\ufffd", first), _SURROGATES.sub("\ufffd", second)


def show_tokens(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
    """The tokens of each text, none cut off; with those the model adds of its own when `special`.

    Not for two threads at once: the tokenizer's truncation is lifted meanwhile.
    """
    truncation = tokenizer.truncation
    tokenizer.no_truncation()
    try:
        mended = [str(mend(text)) for text in texts]
        encodings = tokenizer.encode_batch(mended, add_special_tokens=special)
    finally:
        if truncation:
            tokenizer.enable_truncation(**truncation)
    return [_spell(text, encoding) for text, encoding in zip(mended, encodings, strict=True)]


def _spell(text: str, encoding: Encoding) -> list[Token]:
    rows = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Token(number, piece, special=True, start=None, stop=None)
        if special
        else Token(number, text[start:stop], special=False, start=start, stop=stop)
        for number, piece, special, (start, stop) in rows
    ]
