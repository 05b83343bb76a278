"""A grammar of sentences whose slots carry a tag: words and their IOB2 tags, for the task `token-classification`.

One file says all: sizes, slots and the templates of each split (`pipeline.template` has their syntax). What fills a
slot with a `tag` is a name: its first word is `B-`, the others `I-`. Words are runs of letters, digits, hyphens and
apostrophes; every other sign is a word of its own, so a name may stand before a full stop.

    rows = generate_tagged(Path("recipes/data/names.yaml"), seed=1)
    rows["test"][0]  # (("Mira", "Falk", "moved", "to", "Oslo", "."), ("B-PER", "I-PER", "O", "O", "B-LOC", "O"))
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, model_validator

from artifact.config import Config, load_config
from artifact.dataset import OUTSIDE
from artifact.errors import ConfigError, DataError
from pipeline.grammar import Templates
from pipeline.noise import Values
from pipeline.template import expand, pick

Tagged = tuple[tuple[str, ...], tuple[str, ...]]
"""The words of a sentence, and the tag of each."""

_DRAWS = 200  # draws in a row without a new sentence after which a split counts as exhausted
_MARK = "\ue000"  # of private use: stands between a word and its tag until the words are cut
_WORD = re.compile(rf"([\w'’-]+)(?:{_MARK}([BI]-[A-Z]+))?|([^\w\s])")  # noqa: RUF001 - as people write it


class Fillers(Values):
    """What may fill a slot; unseen values are for the test split alone."""

    tag: str | None = Field(default=None, pattern=r"^[A-Z]+$")
    """Kind of name that they are, such as PER; left out, none."""


class SplitSizes(Config):
    """Sentences of each split."""

    train: int = Field(gt=0)
    validation: int = Field(gt=0)
    test: int = Field(gt=0)


class TaggedGrammar(Config):
    """The whole grammar."""

    sizes: SplitSizes
    slots: dict[str, Fillers]
    train: Templates
    validation: Templates
    test: Templates

    @model_validator(mode="after")
    def _check(self) -> "TaggedGrammar":
        named = [(split, template) for split in ("train", "validation", "test") for template in getattr(self, split)]
        twice = [text for text, count in Counter(template.text for _, template in named).items() if count > 1]
        faults = [f"the template {text!r} stands in two places" for text in twice]
        for split, template in named:
            faults += [f"{split}: no slot {name!r}" for name in sorted(template.slots() - self.slots.keys())]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def generate_tagged(path: Path, seed: int) -> dict[str, list[Tagged]]:
    """Sentences of the splits train, validation and test, no two of which have the same words.

    The same file and seed give the same rows on every machine. Raises `ConfigError` for a grammar that does not parse
    and `DataError` for one that cannot yield the sizes it asks for.
    """
    grammar = load_config(TaggedGrammar, path)
    known: set[tuple[str, ...]] = set()
    rows: dict[str, list[Tagged]] = {}
    for split in ("train", "validation", "test"):
        count = getattr(grammar.sizes, split)
        rows[split] = list(_draw(grammar, split, count, known, random.Random(f"{seed}/{split}")))  # noqa: S311 - no secret
        if len(rows[split]) < count:
            problem = f"the grammar {path} yields {len(rows[split])} of {count} distinct sentences for {split}"
            raise DataError(problem, "add templates or values of slots, or lower `sizes`")
    return rows


def _draw(
    grammar: TaggedGrammar, split: str, count: int, known: set[tuple[str, ...]], rng: random.Random
) -> Iterator[Tagged]:
    values = {name: _marked(fillers, split) for name, fillers in grammar.slots.items()}
    found, vain = 0, 0
    while found < count and vain < _DRAWS:
        words, tags = cut_words(expand(pick(getattr(grammar, split), rng), values, rng))
        key = tuple(word.casefold() for word in words)
        vain += 1
        if key not in known:
            known.add(key)
            found, vain = found + 1, 0
            yield words, tags


def cut_words(text: str) -> Tagged:
    """The words of a text whose names carry their marks, and the tag of each."""
    found = [(word or sign, tag or OUTSIDE) for word, tag, sign in _WORD.findall(text)]
    return tuple(word for word, _ in found), tuple(tag for _, tag in found)


def _marked(fillers: Fillers, split: str) -> tuple[str, ...]:
    if fillers.tag is None:
        return fillers.of(split)
    return tuple(_mark(value, fillers.tag) for value in fillers.of(split))


def _mark(value: str, tag: str) -> str:
    words = value.split()
    if not all(_WORD.fullmatch(word) for word in words):
        raise ConfigError(f"{value!r} is tagged and has a sign that is a word of its own", "use letters and hyphens")
    return " ".join(f"{word}{_MARK}{'I' if place else 'B'}-{tag}" for place, word in enumerate(words))
