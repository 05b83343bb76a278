"""The texts a gate is fitted on, and those held out from it, out of one file of JSON lines or two."""

import gzip
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifact.errors import ExportError
from serve.engine import Text

HELD_OUT_SHARE = 0.25
BEYOND = 5
"""Held-out texts that have to lie beyond the quantile, so that the threshold does not rest on one of them."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """No text is in both."""

    fitted: tuple[Text, ...]
    held_out: tuple[Text, ...]


def read_parts(path: Path, held_out: Path | None = None, *, field: str, quantile: float, most_texts: int) -> Parts:
    """The texts of `path` in two parts, or those to hold out from a file of their own.

    At most `most_texts` in all, drawn the same way each time; a text that occurs twice counts once.
    Raises `ExportError` for a line without the field, and when the texts are too few for the quantile.
    """
    needed, aside = texts_needed(quantile), math.ceil(most_texts * HELD_OUT_SHARE)
    if held_out is None:
        drawn = _draw(read_texts(path, field), most_texts)
        _check(path, len(drawn), needed, quantile)
        aside = math.ceil(len(drawn) * HELD_OUT_SHARE)
        return Parts(fitted=drawn[aside:], held_out=drawn[:aside])
    fitted = _draw(read_texts(path, field), most_texts - aside)
    known = set(fitted)
    apart = _draw((text for text in read_texts(held_out, field) if text not in known), aside)
    beyond = math.ceil(needed * HELD_OUT_SHARE)
    _check(path, len(fitted), needed - beyond, quantile)
    _check(held_out, len(apart), beyond, quantile)
    return Parts(fitted=fitted, held_out=apart)


def _draw(texts: Iterable[Text], most: int) -> tuple[Text, ...]:
    different = list(dict.fromkeys(texts))
    places = np.random.default_rng(0).permutation(len(different))[:most]
    return tuple(different[place] for place in places)


def _check(path: Path, count: int, needed: int, quantile: float) -> None:
    if count < needed:
        hint = f"a quantile of {quantile:g} needs {needed}: name more, or a lower --quantile"
        raise ExportError(f"of {path} {count} different texts can be used", hint)


def texts_needed(quantile: float) -> int:
    """So many that `BEYOND` held-out texts lie beyond the quantile."""
    return math.ceil(round(BEYOND / (1 - quantile) / HELD_OUT_SHARE, 6))


def read_texts(path: Path, field: str) -> Iterator[Text]:
    """The value of `field` in each line: a text, or a list of two, which is a pair."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _text_of(line, field, f"{path}, line {number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ExportError(f"cannot read texts from {path}: {error}", "name a UTF-8 file of JSON lines") from None


def _text_of(line: str, field: str, where: str) -> Text:
    try:
        value: Any = json.loads(line)[field]
    except (ValueError, KeyError, TypeError):
        raise ExportError(f"{where}, has no {field!r}", "name another key with --field") from None
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value):
        return value[0], value[1]
    raise ExportError(f"{where}: {field!r} is neither a text nor a list of two", "name another key with --field")
