"""Dialogues of NOESIS II (DSTC 8, track 2, subtasks 1 and 2) as its organisers give them.

A file is one JSON array of dialogues: `messages-so-far` [{speaker, utterance, ...}], `options-for-next` [{candidate-id,
utterance, ...}] and `options-for-correct-answers` [{candidate-id, ...}], which is empty where no option is right.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from artifact.errors import DataError
from pipeline.data_config import Fields

CHUNK = 1 << 20
HINT = "each has messages-so-far, options-for-next, and of these the options-for-correct-answers"


def read_dialogues(path: Path, fields: Fields, *, evaluated: bool) -> Iterator[dict[str, Any]]:
    """The dialogues as rows of response selection under the names in `fields`, one at a time: the files are large.

    A training row has the right utterance (null where there is none), another row its options and the place of the
    first right one (-1: none). Raises `DataError` for what is no such file.
    """
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, dialogue in enumerate(_items(file, path), start=1):
            try:
                row = _row(dialogue, fields, evaluated=evaluated)
                json.dumps(row, ensure_ascii=False).encode()  # JSON may spell half a surrogate pair, which is no text
                yield row
            except UnicodeEncodeError:
                raise DataError(f"dialogue {number} of {path} holds half a surrogate pair", "mend its text") from None
            except (KeyError, TypeError) as error:
                fault = f"lacks {error}" if isinstance(error, KeyError) else f"is of another form: {error}"
                raise DataError(f"dialogue {number} of {path} {fault}", HINT) from None


def _row(dialogue: Mapping[str, Any], fields: Fields, *, evaluated: bool) -> dict[str, Any]:
    turns = [{key: turn[key] for key in ("speaker", "utterance")} for turn in dialogue["messages-so-far"]]
    options = dialogue["options-for-next"]
    right = [one["candidate-id"] for one in dialogue["options-for-correct-answers"]]
    places = [place for place, option in enumerate(options) if option["candidate-id"] in right]
    if right and not places:
        raise KeyError(right[0])
    label = places[0] if places else -1
    if not evaluated:
        return {fields.text: turns, str(fields.pair): options[label]["utterance"] if places else None}
    utterances = [option["utterance"] for option in options]
    return {fields.text: turns, str(fields.candidates): utterances, str(fields.label): label}


def _items(file: IO[str], path: Path) -> Iterator[Any]:
    """The items of a JSON array, decoded as they are read."""
    decoder, hint = json.JSONDecoder(), "name a file of NOESIS II: one JSON array of dialogues"
    rest = file.read(CHUNK).lstrip()
    if not rest.startswith("["):
        raise DataError(f"{path} is no JSON array", hint)
    rest = rest[1:]
    while True:
        rest = rest.lstrip().removeprefix(",").lstrip()
        if rest.startswith("]"):
            return
        try:
            item, end = decoder.raw_decode(rest)
        except json.JSONDecodeError:
            more = file.read(max(CHUNK, len(rest)))
            if not more:
                raise DataError(
                    f"{path} is no whole JSON array: what starts {rest[:40]!r} does not end", hint
                ) from None
            rest += more
            continue
        yield item
        rest = rest[end:]
