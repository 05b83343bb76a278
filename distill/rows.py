"""Rows of files and of the Hub, one after the other, parsed only when asked for: most may be another process's."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact.errors import DataError
from distill.config_corpora import TextFiles, TextHub

PARQUET_ROWS = 1_000
COMPRESSIONS = (".gz", ".zst")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, compressed or not, with their 1-based numbers."""
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {str(error) or type(error).__name__}", "is it whole?") from None


def decode(line: bytes, place: str) -> str:
    """`line` without its end; `DataError` when it is not UTF-8, as UTF-16 may seem to be but for its NULs."""
    nul = line.find(b"\0")
    encoding = "WINDOWS-1252" if nul < 0 else "UTF-16"
    hint = f"convert the file, for instance with `iconv -f {encoding} -t UTF-8`"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        fault = f"{place} is not UTF-8: byte {line[error.start]:#04x} at column {error.start + 1}"
        raise DataError(fault, hint) from None
    if nul >= 0:
        raise DataError(f"{place} holds a NUL at column {nul + 1}, which is no text", hint)
    return text.rstrip("\r\n")


def parse_object(line: bytes, place: str) -> dict[str, Any]:
    """The JSON object in `line`; `DataError` when it holds none."""
    try:
        value = json.loads(decode(line, place))
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise DataError(f"{place} is not JSON that can be read: it is nested too deeply") from None
    if not isinstance(value, dict):
        raise DataError(f"{place} holds a {type(value).__name__}, expected one JSON object a line")
    return value


@dataclass(frozen=True)
class Row:
    """One record before it is parsed."""

    raw: Any
    place: str
    number: int
    fields: tuple[str, ...]
    parse: "_Parse"

    def texts(self) -> list[str]:
        """The fields, in the order in which the recipe names them; `DataError` for what is no text."""
        return [self.parse(self.raw, f"{self.place}, line {self.number}", field) for field in self.fields]


def _text_of_line(line: bytes, place: str, _field: str) -> str:
    return decode(line, place)


def _text_of_json(line: bytes, place: str, field: str) -> str:
    return _text_of_row(parse_object(line, place), place, field)


def _text_of_row(row: dict[str, Any], place: str, field: str) -> str:
    if field not in row:
        raise DataError(f"{place} has no field {field!r}, found {', '.join(row) or 'none'}", "set source.field")
    value = "" if row[field] is None else row[field]
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        value = " ".join(value)
    if not isinstance(value, str):
        raise DataError(f"{place}: the field {field!r} holds a {type(value).__name__}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: the field {field!r} holds half of a surrogate pair, which is no text") from None
    return value


def rows_of(source: TextFiles | TextHub) -> Iterator[Row]:
    """All rows, in the order of the files and of the rows in them; `DataError` for what cannot be opened."""
    return _hub_rows(source) if isinstance(source, TextHub) else _file_rows(source)


def is_known(path: Path) -> bool:
    """Whether there is a reader for files of its kind."""
    return _kind_of(path) in READERS


def _file_rows(source: TextFiles) -> Iterator[Row]:
    for name in source.files:
        path = source.directory / name
        read, parse = READERS[_kind_of(path)]
        for number, raw in read(path, source.fields()):
            yield Row(raw, str(path), number, source.fields(), parse)


def _hub_rows(source: TextHub) -> Iterator[Row]:
    from datasets import load_dataset

    try:
        rows = load_dataset(
            source.name, source.configuration, split=source.split, revision=source.revision, streaming=True
        )
        for number, row in enumerate(rows, start=1):
            yield Row(row, source.name, number, source.fields(), _text_of_row)
    except (OSError, ValueError, RuntimeError) as error:  # what datasets raises, of its many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "check source.name, configuration, split and the connection, or read local files"
        raise DataError(f"cannot read {source.name!r} from the Hub: {reason}", hint) from None


def _line_rows(path: Path, _fields: tuple[str, ...]) -> Iterator[tuple[int, bytes]]:
    return read_lines(path)


def _parquet_rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            columns = list(fields) if set(fields) <= set(file.schema_arrow.names) else None  # all, to name them
            chunks = file.iter_batches(batch_size=PARQUET_ROWS, columns=columns)
            yield from enumerate((row for chunk in chunks for row in chunk.to_pylist()), start=1)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}", "is it a whole Parquet file?") from None


def _open(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _kind_of(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


_Read = Callable[[Path, tuple[str, ...]], Iterator[tuple[int, Any]]]
_Parse = Callable[[Any, str, str], str]

READERS: dict[str, tuple[_Read, _Parse]] = {
    ".jsonl": (_line_rows, _text_of_json),
    ".json": (_line_rows, _text_of_json),
    ".txt": (_line_rows, _text_of_line),
    ".parquet": (_parquet_rows, _text_of_row),
}
