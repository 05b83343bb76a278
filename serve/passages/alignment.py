"""Tokens and the characters they stand for, in the text as it was sent.

A tokenizer says where each token begins and ends in the original text, whatever its normalizer did. What it does not
promise is that those are places where a person would cut: a stripped accent is left outside, a space may be inside,
one letter may be several tokens.
"""

import unicodedata
from collections.abc import Sequence

from tokenizers import Encoding  # type: ignore[import-untyped]  # ships no types

from serve.passages.passage import Passage

JOINER = "\u200d"
"""Makes one sign of the emoji on its two sides."""
NON_JOINER = "\u200c"
"""Keeps letters of one word apart, in Persian for one."""
TATWEEL = "\u0640"
"""Lengthens an Arabic word; a tokenizer that takes it off leaves it outside its tokens."""
KANA_MARKS = "\u3099\u309a"
"""Stand between letters that may well be of two words, Japanese having no spaces."""
SKIN_TONES = range(0x1F3FB, 0x1F400)
"""Emoji that change the one before them."""


def align(text: str, encoding: Encoding, *, second: bool = False) -> Passage:
    """`text` as `encoding` has it, in which nothing may be cut off: alone, or as the second of a pair.

    A word is the tokenizer's, but never begins without white space where the tokenizer knows of none, within a
    character, at a mark that belongs to the character before, or among letters that only a mark divides.
    """
    places = [place for place, number in enumerate(encoding.sequence_ids) if number == int(second)]
    body = range(places[0], places[-1] + 1) if places else range(0)
    offsets = encoding.offsets[body.start : body.stop]
    trimmed = [_trim(text, start, stop) for start, stop in offsets]
    numbers = encoding.word_ids[body.start : body.stop]
    return Passage(
        text=text,
        ids=encoding.ids,
        type_ids=encoding.type_ids,
        body=body,
        starts=[start for start, _ in trimmed],
        stops=[stop for _, stop in trimmed],
        words=_count_words(text, trimmed, numbers),
        opened=bool(encoding.special_tokens_mask) and encoding.special_tokens_mask[0] == 1,
    )


def whole(text: str, start: int, stop: int) -> tuple[int, int]:
    """The characters from `start` up to `stop`, and the rest of those that they cut through, accents and all."""
    while start and extends(text, start):
        start -= 1
    while stop < len(text) and stop > start and extends(text, stop):
        stop += 1
    return start, stop


def extends(text: str, place: int) -> bool:
    """Whether the character at `place`, which is not the first, belongs to the one before."""
    character = text[place]
    if character.isascii():
        return False
    return _is_mark(character) or ord(character) in SKIN_TONES or text[place - 1] == JOINER


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M") or character in (JOINER, NON_JOINER, TATWEEL)


def _trim(text: str, start: int, stop: int) -> tuple[int, int]:
    while start < stop and text[start].isspace():
        start += 1
    while start < stop and text[stop - 1].isspace():
        stop -= 1
    return start, stop


def _count_words(text: str, places: Sequence[tuple[int, int]], numbers: Sequence[int | None]) -> list[int]:
    words: list[int] = []
    word, reached, last = -1, 0, None
    for (start, stop), number in zip(places, numbers, strict=True):
        apart = number != last or any(character.isspace() for character in text[reached:start])
        if not words or (apart and not _is_inside(text, start, stop, reached)):
            word += 1
        words.append(word)
        reached, last = max(reached, stop), number
    return words


def _is_inside(text: str, start: int, stop: int, reached: int) -> bool:
    """Whether characters `start` up to `stop` go on with the word that ended at `reached`."""
    if start < reached:
        return True
    return 0 < start < stop and (extends(text, start) or _resumes(text, start))


def _resumes(text: str, place: int) -> bool:
    """Whether letters go on at `place` after a mark: for tokenizers of bytes, a mark ends a word."""
    base = place - 1
    if text[base].isascii() or text[base] in KANA_MARKS:
        return False
    while base and _is_mark(text[base]):
        base -= 1
    return base < place - 1 and text[base].isalpha() and text[place].isalpha()
