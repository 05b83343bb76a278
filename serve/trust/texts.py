"""Held-out texts from a file of JSON lines."""

import gzip
import json
import zlib
from pathlib import Path

from artifact.errors import DataError

FIELD = "text"


def read_texts(path: Path) -> list[str]:
    """The field `text` of every line, empty lines left out; the file may be compressed, its name then ends in `.gz`.

    Raises `DataError` that names the line, or says why the file cannot be read.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    texts = []
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    texts.append(_text_of(line, path, number))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0][:200]
        raise DataError(f"cannot read texts from {path}: {reason}", "name a file of JSON lines in UTF-8") from None
    if not texts:
        raise DataError(f"there is no text in {path}")
    return texts


def _text_of(line: str, path: Path, number: int) -> str:
    try:
        text = json.loads(line)[FIELD]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise DataError(f"{path}, line {number}, has no text", f'each line is a JSON object: {{"{FIELD}": "…"}}')
    return text
