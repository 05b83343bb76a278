"""A grammar that generates a labelled data set: intents, their templates, slots, and noise on top.

Every template belongs to one split, so the test split asks in words that training never heard; texts are distinct
within and across the splits. The format of the files is described in `recipes/data/intents.yaml`.

    rows = generate(Path("recipes/data/intents.yaml"), seed=1)
    rows["train"][0]  # ("when is my water bill due?", "bill_due")
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

from pydantic import Field, PlainValidator

from artifact.config import Config, load_config
from artifact.errors import ConfigError, DataError
from pipeline.noise import Style, Values, add_noise
from pipeline.template import Template, expand, parse_template

OUT_OF_DOMAIN = "out_of_domain"
"""Name of the fourth split, and the label of its rows."""
_DRAWS = 60  # draws in a row without a new text after which a template counts as exhausted

_Item = TypeVar("_Item")
Slots: TypeAlias = Mapping[str, Values]
Templates: TypeAlias = Annotated[tuple[Annotated[Template, PlainValidator(parse_template)], ...], Field(min_length=1)]


class Sizes(Config):
    """Utterances of each split; every intent gets the same share, give or take one."""

    train: int = Field(gt=0)
    validation: int = Field(gt=0)
    test: int = Field(gt=0)
    out_of_domain: int = Field(gt=0)


class Intent(Config):
    """The templates of one label, by split."""

    train: Templates
    validation: Templates
    test: Templates


class Domain(Config):
    """One part file: intents that share slots."""

    domain: str
    slots: dict[str, Values] = {}
    intents: dict[str, Intent] = Field(min_length=1)


class OutOfDomain(Config):
    """Text that fits no intent."""

    slots: dict[str, Values] = {}
    templates: Templates


class Index(Config):
    """The grammar's first file: what the parts share, and where they are."""

    sizes: Sizes
    parts: tuple[Path, ...] = Field(min_length=1)
    """Domain files, relative to this one."""
    out_of_domain: Path
    style: Style
    slots: dict[str, Values] = {}
    """Slots of every part; where a part has one of the same name, its own wins."""


@dataclass(frozen=True)
class Source:
    """Where the rows of one label in one split come from."""

    split: str
    label: str
    templates: tuple[Template, ...]
    slots: Slots
    count: int
    """Rows asked for."""


@dataclass(frozen=True)
class Grammar:
    """All files of a grammar, checked against each other; `sources` in the order in which rows are drawn."""

    style: Style
    domains: tuple[Domain, ...]
    sources: tuple[Source, ...]


def load_grammar(path: Path) -> Grammar:
    """The grammar at `path` with its parts; `ConfigError` names every template or label that does not fit."""
    index = load_config(Index, path)
    domains = tuple(load_config(Domain, path.parent / part) for part in index.parts)
    other = load_config(OutOfDomain, path.parent / index.out_of_domain)
    sources = (*_intent_sources(index, domains), _other_source(index, other))
    faults = [*_repeated_labels(domains), *_repeated_templates(sources), *_undefined_slots(sources)]
    if faults:
        raise ConfigError(f"the grammar {path} does not fit together:\n" + "\n".join(f"  {fault}" for fault in faults))
    return Grammar(index.style, domains, sources)


def generate(path: Path, seed: int) -> dict[str, list[tuple[str, str]]]:
    """Rows of (text, label) in the splits train, validation, test and out_of_domain, shuffled.

    The same files and seed give the same rows on every machine. No two texts are equal, within or across splits, when
    case, punctuation and white space are ignored; nor do two differ by their noise alone. Raises `ConfigError` for a
    grammar that does not parse and `DataError` for one that cannot yield the sizes it asks for.
    """
    grammar = load_grammar(path)
    rows: dict[str, list[tuple[str, str]]] = {source.split: [] for source in grammar.sources}
    known: set[str] = set()
    shortages = []
    for source in grammar.sources:
        texts = _draw_texts(source, grammar.style, known, _random(seed, source.split, source.label))
        rows[source.split] += [(text, source.label) for text in texts]
        if len(texts) < source.count:
            shortages.append(f"  {source.label}, {source.split}: {len(texts)} of {source.count}")
    if shortages:
        problem = f"the grammar {path} yields too few distinct utterances:\n" + "\n".join(shortages)
        raise DataError(problem, "add templates, alternatives or slot values to these, or lower `sizes`")
    return {split: _shuffle(found, _random(seed, split)) for split, found in rows.items()}


def _intent_sources(index: Index, domains: Sequence[Domain]) -> Iterator[Source]:
    intents = [(label, intent, domain) for domain in domains for label, intent in domain.intents.items()]
    for split in ("train", "validation", "test"):
        share, rest = divmod(getattr(index.sizes, split), len(intents))
        for number, (label, intent, domain) in enumerate(intents):
            slots = {**index.slots, **domain.slots}
            yield Source(split, label, getattr(intent, split), slots, share + (number < rest))


def _other_source(index: Index, other: OutOfDomain) -> Source:
    slots = {**index.slots, **other.slots}
    return Source(OUT_OF_DOMAIN, OUT_OF_DOMAIN, other.templates, slots, index.sizes.out_of_domain)


def _repeated_labels(domains: Sequence[Domain]) -> Iterator[str]:
    labels = Counter(label for domain in domains for label in domain.intents)
    labels[OUT_OF_DOMAIN] += 1
    yield from (f"intent {label}: its name is taken" for label, count in labels.items() if count > 1)


def _repeated_templates(sources: Sequence[Source]) -> Iterator[str]:
    """A template in two splits would let the test split ask what training said."""
    places: dict[str, str] = {}
    for source in sources:
        for template in source.templates:
            place, key = f"{source.label}, {source.split}", _fold(template.text)
            if key in places:
                yield f"{place}: the template {template.text!r} already stands under {places[key]}"
            places.setdefault(key, place)


def _undefined_slots(sources: Sequence[Source]) -> Iterator[str]:
    for source in sources:
        for template in source.templates:
            for name in sorted(template.slots() - source.slots.keys()):
                yield f"{source.label}, {source.split}: no slot {name!r}, asked for by {template.text!r}"


def _draw_texts(source: Source, style: Style, known: set[str], rng: random.Random) -> list[str]:
    """Up to `source.count` new texts, the templates taking turns until they are exhausted; `known` grows by them."""
    values = {name: slot.of(source.split) for name, slot in source.slots.items()}
    waiting = _shuffle(source.templates, rng)
    texts: list[str] = []
    while waiting and len(texts) < source.count:
        template = waiting.pop(0)
        for _ in range(_DRAWS):
            plain = expand(template, values, rng)
            typed = add_noise(plain, style, source.split, rng)
            keys = {_fold(plain), _fold(typed)}
            if known.isdisjoint(keys):
                known |= keys
                texts.append(typed)
                waiting.append(template)
                break
    return texts


def _fold(text: str) -> str:
    """What two texts have in common that a reader would call the same."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _random(seed: int, *names: str) -> random.Random:
    """A generator of its own for each source: more rows of one intent leave the others as they were."""
    return random.Random("/".join((str(seed), *names)))  # noqa: S311 - a data set, not a secret


def _shuffle(items: Iterable[_Item], rng: random.Random) -> list[_Item]:
    """The items in random order. NB: not `rng.shuffle`, for the reason that `pick` gives."""
    return sorted(items, key=lambda _: rng.random())
