"""Unlabelled text as a stream of records: files or the Hub in, one numbered text after the other out.

A record is a line of a text or JSON-lines file, a row of a Parquet file, or a row of a Hub data set. Their order is
that of the recipe's files and of the rows in them, on every run; those of a mixture take turns. Memory holds one
record, or one chunk of Parquet rows.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from artifact.errors import ConfigError, DataError
from distill.config_corpora import CorpusConfig, Mixture, TextFiles, TextHub
from distill.rows import COMPRESSIONS, READERS, is_known, rows_of

Unit = Literal["line", "document", "sentence"]

_SENTENCE_END = re.compile(
    r"""(?<![.!?؟۔…]) [.!?؟۔…]++ ["'”’»)\]]*+ (?=\s)   # with a space after: no end in 3.14
      | [。！？]++ [”’」』）]*+                          # without""",  # noqa: RUF001 - Chinese writes them so
    re.VERBOSE,
)
_INITIAL = re.compile(r"(?:^|[\s.])[^\W\d_]\.$")


@dataclass(frozen=True)
class Record:
    """One text of a corpus, before it is cut into units."""

    number: int
    """Place in the whole corpus, from 0."""
    text: str
    pair: str | None = None
    """The text that answers it, where the recipe names `pair_field`."""
    corpus: CorpusConfig = field(kw_only=True)
    """What it is a record of; of a mixture, the part."""

    def units(self) -> list[str]:
        """The training texts in it."""
        return cut(self.text, self.corpus.unit)


def read_records(config: CorpusConfig, *, rank: int = 0, world: int = 1, skip: int = 0) -> Iterator[Record]:
    """The corpus once, in order: the records whose number, modulo `world`, is `rank`, but for the first `skip` of them.

    What is passed over is read, but not parsed. Raises `DataError`, naming file and line, for what is not there or
    cannot be read. A null is a record without text.
    """
    if isinstance(config.source, Mixture):
        for number, record in enumerate(_mixed(config.source)):
            if number % world == rank and number // world >= skip:
                yield replace(record, number=number)
        return
    for number, row in enumerate(itertools.islice(rows_of(config.source), 0, None, config.one_in)):
        if number % world == rank and number // world >= skip:
            yield _record(number, row.texts(), config, config.source)


def read_pairs(config: CorpusConfig) -> Iterator[tuple[str, str]]:
    """Each text and its translation, of those that are not held out; the recipe names a `translation_field`."""
    if isinstance(config.source, Mixture) or config.source.translation_field is None:
        raise ConfigError("parallel texts need a source with a translation_field")
    for row in itertools.islice(rows_of(config.source), 0, None, config.one_in):
        text, translation = row.texts()
        yield text, translation


def _record(number: int, texts: Sequence[str], config: CorpusConfig, source: TextFiles | TextHub) -> Record:
    if source.translation_field is not None:
        return Record(number, " ".join(texts if number % 2 == 0 else texts[::-1]), corpus=config)
    return Record(number, texts[0], texts[1] if len(texts) > 1 else None, corpus=config)


def _mixed(mixture: Mixture) -> Iterator[Record]:
    """Each time of the part that has had the least of its share; until each has been read once."""
    parts = mixture.parts or {}
    readers = {name: read_records(part) for name, part in parts.items()}
    had, unread = dict.fromkeys(parts, 0.0), set(parts)
    while True:
        name = min(had, key=lambda name: had[name])
        record = next(readers[name], None)
        if record is None:
            unread.discard(name)
            if not unread:
                return
            readers[name] = read_records(parts[name])
            record = next(readers[name], None)
            if record is None:
                raise DataError(f"the corpus {name} of the mixture has no records")
        yield record
        had[name] += max(len(record.text), 1) / mixture.shares[name]


def corpus_files(config: CorpusConfig) -> dict[str, Path]:
    """The local files that the corpus is made of, by the name the recipe gives them: what to hash.

    Raises `DataError` that names all those that are missing or of an unknown kind.
    """
    files: dict[str, Path] = {}
    if isinstance(config.source, Mixture):
        each = ((name, corpus_files(part)) for name, part in (config.source.parts or {}).items())
        return {f"{name}:{file}": path for name, found in each for file, path in found.items()}
    if isinstance(config.source, TextFiles):
        files = {name.as_posix(): config.source.directory / name for name in config.source.files}
        unknown = [name for name in files if not is_known(files[name])]
        if unknown:
            kinds = ", ".join(READERS)
            hint = f"expected {kinds}, also as {' or '.join(COMPRESSIONS)}"
            raise DataError(f"no reader for {', '.join(unknown)}", hint)
    if config.code_switch is not None:
        files["code_switch.lexicon"] = config.code_switch.lexicon
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        hint = "check source.directory, source.files and code_switch.lexicon"
        raise DataError(f"there is no file {', '.join(missing)}", hint)
    return files


def cut(text: str, unit: Unit) -> list[str]:
    """The training texts of one record, stripped; those of nothing but white space are dropped.

    A sentence ends at a stop, question or exclamation mark of Latin or Arabic script, closing quotes included, if a
    space follows; but not at the stop of a lone letter, an initial. Chinese marks need no space. It is a rule of thumb:
    it also ends after `Dr.`, and no sentence goes beyond its line.
    """
    if unit == "document":
        texts = [text]
    elif unit == "line":
        texts = _lines(text)
    else:
        texts = [sentence for line in _lines(text) for sentence in _sentences(line)]
    return [stripped for part in texts if (stripped := part.strip())]


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", text)


def _sentences(line: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(line):
        if _INITIAL.search(line, max(start, end.start() - 2), end.end()) and end.group() == ".":
            continue
        yield line[start : end.end()]
        start = end.end()
    yield line[start:]
