"""What people do to a well-formed sentence: greet, thank, contract, hurry, misspell, forget capitals."""

import random
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, TypeAlias

from pydantic import Field

from artifact.config import Config
from pipeline.template import pick

Chance: TypeAlias = Annotated[float, Field(ge=0, le=1)]
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


class Values(Config):
    """What may fill a slot."""

    seen: tuple[str, ...] = Field(min_length=1)
    """Values of every split."""
    unseen: tuple[str, ...] = ()
    """Values that only the test split and the out-of-domain text use, beside the seen ones."""

    def of(self, split: str) -> tuple[str, ...]:
        """The values that `split` draws from."""
        return self.seen if split in ("train", "validation") else self.seen + self.unseen


class Affix(Values):
    """Small talk before or after an utterance."""

    chance: Chance
    """Share of the utterances that get one."""


class Contraction(Config):
    """Short forms, such as `what is: what's`, where a word follows."""

    chance: Chance
    """Share of the utterances whose long forms are shortened."""
    forms: dict[str, str]


class Telegraphic(Config):
    """The hurried style."""

    chance: Chance
    """Share of the utterances that leave out small words."""
    dropped: tuple[str, ...]
    """The words they leave out, in small letters."""


class Style(Config):
    """Noise on an expanded template, in the order in which it is applied."""

    contraction: Contraction
    telegraphic: Telegraphic
    no_question_mark: Chance
    """Share of the questions that lose their mark."""
    opener: Affix
    closer: Affix
    """Replaces the question mark, if there is one."""
    typo: Chance
    """Chance, for each letter that does not open a word, of being dropped, doubled, swapped or mistyped."""
    lower_case: Chance
    """Share of the utterances without capitals; the others open with one."""
    upper_case: Chance
    """Share of the utterances in capitals."""


def add_noise(text: str, style: Style, split: str, rng: random.Random) -> str:
    """`text` as somebody might type it; `split` decides which openers and closers there are."""
    if rng.random() < style.contraction.chance:
        text = contract(text, style.contraction.forms)
    if rng.random() < style.telegraphic.chance:
        text = drop_words(text, style.telegraphic.dropped)
    if rng.random() < style.no_question_mark:
        text = text.removesuffix("?")
    if rng.random() < style.opener.chance:
        text = f"{pick(style.opener.of(split), rng)} {text}"
    if rng.random() < style.closer.chance:
        text = text.removesuffix("?") + pick(style.closer.of(split), rng)
    return _change_case(misspell(text, style.typo, rng), style, rng)


def contract(text: str, forms: dict[str, str]) -> str:
    """`text` with the long forms shortened, except at its end: "tell me what it is" has no short form."""
    for long, short in forms.items():
        text = re.sub(rf"\b{re.escape(long)}\b(?= \w)", short, text)
    return text


def drop_words(text: str, dropped: Sequence[str]) -> str:
    """`text` without the dropped words, or as it was when nothing else is left."""
    return " ".join(word for word in text.split() if word.lower() not in dropped) or text


def misspell(text: str, chance: float, rng: random.Random) -> str:
    """`text` with about `chance` times as many slips as it has letters; the first letter of a word is safe."""
    typed = text[:1]
    for before, letter in pairwise(text):
        slips = before.isalpha() and letter.isalpha() and rng.random() < chance
        typed = pick(_SLIPS, rng)(typed, letter, rng) if slips else typed + letter
    return typed


def _mistype(typed: str, letter: str, rng: random.Random) -> str:
    """`typed` and a key beside the one meant."""
    for row in _KEYBOARD:
        if letter.lower() in row:
            at = row.index(letter.lower())
            return typed + pick(row[max(at - 1, 0) : at] + row[at + 1 : at + 2], rng)
    return typed + letter


_SLIPS = (
    lambda typed, _letter, _rng: typed,
    lambda typed, letter, _rng: typed + letter + letter,
    lambda typed, letter, _rng: typed[:-1] + letter + typed[-1:],
    _mistype,
)


def _change_case(text: str, style: Style, rng: random.Random) -> str:
    draw = rng.random()
    if draw < style.lower_case:
        return text.lower()
    return text.upper() if draw < style.lower_case + style.upper_case else text[:1].upper() + text[1:]
