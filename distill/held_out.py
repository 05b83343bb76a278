"""Texts of a corpus that nothing learns from, to evaluate on: one record in a hundred, by its own text.

Nobody has to number them: every process, every order of the files and a copy of a record elsewhere agree on them.
"""

import itertools
import zlib
from collections.abc import Iterator

from distill.config_corpora import CorpusConfig, Mixture, TextFiles
from distill.corpus import Record, read_records

ONE_IN = 100
RECORDS = 64
"""Held-out records that are looked at, spread evenly over the files: a read of 6,400 records, or of the whole."""
UNITS_PER_RECORD = 8
"""First texts of each, so that a few long documents are not all there is."""


def is_held_out(text: str) -> bool:
    """Whether a record of this text is kept from training."""
    return zlib.crc32(text.encode()) % ONE_IN == 0


def held_out_texts(corpus: CorpusConfig) -> list[str]:
    """At most `RECORDS * UNITS_PER_RECORD` held-out texts, no words switched; none of a corpus of a few records.

    Raises `DataError` for what cannot be read.
    """
    parts = _files_of(corpus)
    each = -(-RECORDS // len(parts))
    records = itertools.chain.from_iterable(itertools.islice(_held_out(part), each) for part in parts)
    return [unit for record in records for unit in record.units()[:UNITS_PER_RECORD]]


def _held_out(corpus: CorpusConfig) -> Iterator[Record]:
    return (record for record in read_records(corpus) if is_held_out(record.text))


def _files_of(corpus: CorpusConfig) -> list[CorpusConfig]:
    """The corpus file by file, for it may be sorted by language."""
    source = corpus.source
    if isinstance(source, Mixture):
        return [file for part in (source.parts or {}).values() for file in _files_of(part)]
    if not isinstance(source, TextFiles):
        return [corpus]
    sources = [source.model_copy(update={"files": (name,)}) for name in source.files]
    return [corpus.model_copy(update={"source": one}) for one in sources]
