"""Words of a text replaced by their translations, after GigaBERT (Lan et al., arXiv 2004.14519).

GigaBERT lower-cases its text and takes words between spaces. Here the rest of the text stays as it is, and a word is a
run of letters, digits, and apostrophes and hyphens between them, looked up without its case and Arabic vowel marks.
"""

import bisect
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from artifact.errors import DataError
from distill.rows import decode, parse_object, read_lines

_LETTERS = r"(?:[^\W_][\u0300-\u036f\u064b-\u065f\u0670]*)+"  # with combining accents, which are no letters to `re`
_WORD = re.compile(rf"{_LETTERS}(?:['\u2019\-]{_LETTERS})*")
_ARABIC_MARKS = re.compile(r"[\u064b-\u065f\u0670\u0640]")
_NO_LANGUAGE = frozenset({"id", "weight", "dir"})


@dataclass(frozen=True)
class Translations:
    """What a word can become."""

    words: tuple[str, ...]
    cumulative: tuple[float, ...]
    """Running sums of the weights."""

    def draw(self, uniform: float) -> str:
        """The translation that a number from [0, 1) picks, with probability proportional to its weight."""
        place = bisect.bisect_right(self.cumulative, uniform * self.cumulative[-1])
        return self.words[min(place, len(self.words) - 1)]


Lexicon = Mapping[str, Translations]
"""By word, case-folded and without vowel marks; of either language, if the file lists both directions."""


def code_switch(text: str, lexicon: Lexicon, generator: torch.Generator, text_share: float, word_share: float) -> str:
    """`text` with `word_share` of its words replaced, as far as the lexicon knows so many.

    `text_share` is the chance of being touched at all. Words are visited in random order until their share is reached.
    A share of a word is a chance: 0.3 of one word is that word in three texts of ten.
    """
    words = list(_WORD.finditer(text))
    touch, luck = torch.rand(2, generator=generator).tolist()
    wanted = math.floor(word_share * len(words) + luck) if touch < text_share else 0
    order = torch.randperm(len(words), generator=generator).tolist()
    draws = torch.rand(len(words), generator=generator).tolist()
    keys = [_key(word.group()) for word in words]
    known = (index for index in order if keys[index] in lexicon)
    chosen = sorted(itertools.islice(known, wanted))
    pieces, end = [], 0
    for index in chosen:
        word = words[index]
        pieces += [text[end : word.start()], lexicon[keys[index]].draw(draws[index])]
        end = word.end()
    return "".join([*pieces, text[end:]])


def read_lexicon(path: Path) -> Lexicon:
    """The lexicon in `path`, `.gz` or not: lines of `word<TAB>translation<TAB>weight`, or `.jsonl`.

    A JSON object has a field for each of two languages, a `weight`, and in `dir` the direction, such as `en-ar`, or
    `both`. Entries of more than one word are left out, as words are looked up one by one; translations may have more.
    Raises `DataError`, naming the line, for one that cannot be read, and for a lexicon without entries.
    """
    if not path.is_file():
        raise DataError(f"there is no lexicon {path}")
    found: dict[str, dict[str, float]] = {}
    for word, translation, weight in entries_of(path):
        if _WORD.fullmatch(word):
            weights = found.setdefault(_key(word), {})
            weights[translation] = weights.get(translation, 0.0) + weight
    if not found:
        raise DataError(f"the lexicon {path} has no words")
    return {
        word: Translations(tuple(weights), tuple(itertools.accumulate(weights.values())))
        for word, weights in found.items()
    }


def _key(word: str) -> str:
    return _ARABIC_MARKS.sub("", word).casefold()


def entries_of(path: Path) -> Iterator[tuple[str, str, float]]:
    """Word, translation and weight of each entry, also of those of more than one word, in each direction it names."""
    is_json = ".jsonl" in path.suffixes
    for number, line in read_lines(path):
        place = f"{path}, line {number}"
        if is_json:
            yield from _from_json(parse_object(line, place), place)
        else:
            yield _from_columns(decode(line, place), place)


def _from_columns(line: str, place: str) -> tuple[str, str, float]:
    columns = [column.strip() for column in line.split("\t")]
    if len(columns) != 3 or not all(columns):
        found = f"{len(columns)} columns" + ("" if all(columns) else ", one of them empty")
        raise DataError(f"{place} has {found}, expected word<TAB>translation<TAB>weight")
    word, translation, weight = columns
    return word, translation, _weight(weight, place)


def _from_json(row: dict[str, Any], place: str) -> Iterator[tuple[str, str, float]]:
    languages = [name for name in row if name not in _NO_LANGUAGE]
    if len(languages) != 2 or not all(isinstance(row[name], str) and row[name].strip() for name in languages):
        raise DataError(f"{place} has words in {', '.join(languages) or 'no language'}, expected two languages")
    weight = _weight(row.get("weight"), place)
    directions = list(itertools.permutations(languages))
    named = {"-".join(direction): [direction] for direction in directions} | {"both": directions}
    if row.get("dir") not in named:
        raise DataError(f"{place} has dir {row.get('dir')!r}, expected one of {', '.join(named)}")
    for source, target in named[row["dir"]]:
        yield row[source].strip(), row[target].strip(), weight


def _weight(value: Any, place: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight < math.inf:
        raise DataError(f"{place} has weight {value!r}, expected a number above 0")
    return weight
