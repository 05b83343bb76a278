"""Conversations to choose an answer in, generated from a grammar of topics: the same seed gives the same bytes.

Somebody asks, is asked back, says more, and is answered; a topic's slots have one value in all of it, so that what was
talked of tells the answer from those to others. Templates are those of `pipeline.template`, the form of the file is
described in `recipes/noesis/conversations.yaml`.

    rows = generate_conversations(Path("recipes/noesis/conversations.yaml"), seed=1)
    rows["test"][0]  # {"context": [{"speaker": "asker", "utterance": "..."}, ...], "candidates": [...], "label": 3}
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from artifact.config import Config, load_config
from artifact.errors import DataError
from pipeline.grammar import Slots, Templates
from pipeline.template import expand, pick

SPLITS = ("train", "validation", "test")
_DRAWS = 200
"""Draws in a row without a new conversation after which a grammar counts as exhausted."""
_TURNS = (("asker", "opens"), ("helper", "asks"), ("asker", "says"))
"""Who speaks, and of which templates, before the answer."""


class Sizes(Config):
    """Conversations of each split."""

    train: int = Field(gt=0)
    validation: int = Field(gt=0)
    test: int = Field(gt=0)


class Topic(Config):
    """What is talked about: the templates of each turn."""

    slots: Slots = {}
    opens: Templates
    asks: Templates
    says: Templates
    answers: Templates

    @model_validator(mode="after")
    def _check_slots(self) -> "Topic":
        for name in ("opens", "asks", "says", "answers"):
            for template in getattr(self, name):
                if strange := sorted(template.slots() - self.slots.keys()):
                    raise ValueError(f"no slot {strange[0]!r}, asked for by {template.text!r}")
        return self


class Topics(Config):
    """The file."""

    sizes: Sizes
    candidates: int = Field(gt=1)
    """Of each conversation of validation and test."""
    none_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of those that have no right one among them."""
    topics: dict[str, Topic] = Field(min_length=2)


@dataclass(frozen=True)
class _Conversation:
    about: tuple[str, ...]
    """Topic and values: an answer to another conversation about the same would be right here too."""
    turns: tuple[str, ...]
    answer: str


def generate_conversations(path: Path, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of response selection by split, no two of the same turns; evaluated ones have candidates and a label.

    Raises `ConfigError` for a grammar that does not parse, `DataError` for one that cannot yield what it asks for.
    """
    grammar = load_config(Topics, path)
    known: set[tuple[str, ...]] = set()
    made: dict[str, list[dict[str, Any]]] = {}
    for split in SPLITS:
        rng = random.Random(f"{seed}/{split}")  # noqa: S311 - a data set, not a secret
        found = _draw(grammar, split, known, rng)
        if len(found) < getattr(grammar.sizes, split):
            hint = "add templates, alternatives or slot values, or lower `sizes`"
            raise DataError(f"the grammar {path} yields only {len(found)} conversations for the {split} split", hint)
        made[split] = [_row(one) for one in found] if split == "train" else _with_candidates(grammar, found, path, rng)
    return made


def _draw(grammar: Topics, split: str, known: set[tuple[str, ...]], rng: random.Random) -> list[_Conversation]:
    """New conversations, the topics taking turns; `known` grows by their turns."""
    found: list[_Conversation] = []
    names, misses = list(grammar.topics), 0
    while len(found) < getattr(grammar.sizes, split) and misses < _DRAWS:
        name = names[(len(found) + misses) % len(names)]
        one = _talk(name, grammar.topics[name], split, rng)
        misses += 1
        if one.turns not in known:
            known.add(one.turns)
            found.append(one)
            misses = 0
    return found


def _talk(name: str, topic: Topic, split: str, rng: random.Random) -> _Conversation:
    values = {slot: pick(choice.of(split), rng) for slot, choice in topic.slots.items()}
    fixed: Mapping[str, Sequence[str]] = {slot: (value,) for slot, value in values.items()}
    turns = tuple(expand(pick(getattr(topic, turn), rng), fixed, rng) for _, turn in _TURNS)
    return _Conversation((name, *values.values()), turns, expand(pick(topic.answers, rng), fixed, rng))


def _row(one: _Conversation) -> dict[str, Any]:
    context = [{"speaker": who, "utterance": said} for (who, _), said in zip(_TURNS, one.turns, strict=True)]
    return {"context": context, "response": one.answer}


def _with_candidates(
    grammar: Topics, found: Sequence[_Conversation], path: Path, rng: random.Random
) -> list[dict[str, Any]]:
    return [_evaluated(grammar, one, found, path, rng) for one in found]


def _evaluated(
    grammar: Topics, one: _Conversation, found: Iterable[_Conversation], path: Path, rng: random.Random
) -> dict[str, Any]:
    """The row with candidates: answers to conversations about something else and, unless none is right, its own."""
    others = sorted({other.answer for other in found if other.about != one.about} - {one.answer})
    if len(others) < grammar.candidates:
        problem = f"{len(others)} other answers are too few for {grammar.candidates} candidates"
        raise DataError(f"the grammar {path}: {problem}", "raise `sizes`, or lower `candidates`")
    drawn = sorted(others, key=lambda _: rng.random())[: grammar.candidates]
    label = -1
    if rng.random() >= grammar.none_share:
        label = int(rng.random() * grammar.candidates)
        drawn[label] = one.answer
    return {**_row(one), "candidates": drawn, "label": label}
