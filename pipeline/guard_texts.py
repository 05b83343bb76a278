"""The texts a gate is fitted on, and those held out from it, out of one file of JSON lines."""

import gzip
import json
import math
from collections.abc import Iterator
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


def read_parts(path: Path, *, field: str, quantile: float, most_texts: int) -> Parts:
    """The texts of `path` in two parts, drawn the same way each time; texts that occur twice count once.

    Raises `ExportError` for a line without the field, and when the texts are too few for the quantile.
    """
    texts = list(dict.fromkeys(read_texts(path, field)))
    places = np.random.default_rng(0).permutation(len(texts))[:most_texts]
    needed = texts_needed(quantile)
    if len(places) < needed:
        found = f"{path} has {len(texts)} different texts, and {most_texts} are to be used at most"
        hint = f"a quantile of {quantile:g} needs {needed}: name more, or a lower --quantile"
        raise ExportError(found if len(texts) > most_texts else f"{path} has {len(texts)} different texts", hint)
    held_out = math.ceil(len(places) * HELD_OUT_SHARE)
    drawn = [texts[place] for place in places]
    return Parts(fitted=tuple(drawn[held_out:]), held_out=tuple(drawn[:held_out]))


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
