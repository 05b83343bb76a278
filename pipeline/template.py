"""The template syntax of a grammar, in which one template stands for many texts.

`{slot}` is one value of a slot, `[a|b|]` one alternative (they nest, hold slots and may be empty), `(text)` the text or
nothing; white space folds.

    template = parse_template("[when|what day] is my {bill} bill due (this month)?")
    expand(template, {"bill": ("water", "gas")}, random.Random(1))  # such as "when is my gas bill due?"
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar


@dataclass(frozen=True)
class Slot:
    """A place that one value of the named slot fills."""

    name: str


@dataclass(frozen=True)
class Choice:
    """A place that one of the phrases fills, each as likely as the others."""

    options: tuple["Phrase", ...]


Part: TypeAlias = str | Slot | Choice
Phrase: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True)
class Template:
    """A parsed template; `text` is what its author wrote and names it in errors."""

    text: str
    phrase: Phrase

    def slots(self) -> set[str]:
        """Names of the slots that an expansion may ask for."""
        return set(_slot_names(self.phrase))


_CLOSERS = {"[": "]", "(": ")", "{": "}"}
_Token: TypeAlias = tuple[int, str]  # the character it stands at, from 1, and its text; the last one is empty
_Item = TypeVar("_Item")


def parse_template(text: Any) -> Template:
    """`text` as a `Template`; `ValueError` says what is wrong with it and at which character."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a template is a text that is not empty")
    tokens = [(match.start() + 1, match.group()) for match in re.finditer(r"[][(){}|]|[^][(){}|]+|$", text)]
    phrase, stop = _parse_phrase(iter(tokens))
    if stop[1]:
        raise ValueError(f"{stop[1]!r} at character {stop[0]} stands outside brackets")
    return Template(text, phrase)


def expand(template: Template, values: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """One of the texts that `template` stands for; a slot that stands twice is drawn twice."""
    text = " ".join(_expand(template.phrase, values, rng).split())
    return re.sub(r" (?=[,.?!:])", "", text)


def pick(items: Sequence[_Item], rng: random.Random) -> _Item:
    """One of the items. NB: not `rng.choice`: of its methods, Python promises only `random()` never to change."""
    return items[int(rng.random() * len(items))]


def _parse_phrase(tokens: Iterator[_Token]) -> tuple[Phrase, _Token]:
    """The phrase that comes next, and the token that ended it."""
    parts: list[Part] = []
    while True:
        token = next(tokens)
        if token[1] in ("]", ")", "}", "|", ""):
            return tuple(parts), token
        parts.append(_parse_bracket(token, tokens) if token[1] in _CLOSERS else token[1])


def _parse_bracket(opening: _Token, tokens: Iterator[_Token]) -> Slot | Choice:
    position, bracket = opening
    phrase, stop = _parse_phrase(tokens)
    options = [phrase]
    while bracket == "[" and stop[1] == "|":
        phrase, stop = _parse_phrase(tokens)
        options.append(phrase)
    if stop[1] != _CLOSERS[bracket]:
        found = f"{stop[1]!r} at character {stop[0]}" if stop[1] else "the end"
        raise ValueError(f"{bracket!r} at character {position} needs {_CLOSERS[bracket]!r}, but {found} comes first")
    if bracket == "{":
        return _parse_slot(phrase, position)
    return Choice(((), phrase) if bracket == "(" else tuple(options))


def _parse_slot(phrase: Phrase, position: int) -> Slot:
    if len(phrase) == 1 and isinstance(phrase[0], str) and phrase[0].isidentifier():
        return Slot(phrase[0])
    raise ValueError(f"'{{' at character {position} needs the name of a slot, such as {{day}}")


def _slot_names(phrase: Phrase) -> Iterator[str]:
    for part in phrase:
        if isinstance(part, Slot):
            yield part.name
        elif isinstance(part, Choice):
            for option in part.options:
                yield from _slot_names(option)


def _expand(phrase: Phrase, values: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    return "".join(_expand_part(part, values, rng) for part in phrase)


def _expand_part(part: Part, values: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    if isinstance(part, Slot):
        return pick(values[part.name], rng)
    if isinstance(part, Choice):
        return _expand(pick(part.options, rng), values, rng)
    return part
