"""Where rows come from: a grammar, local files, NOESIS II's own, or the Hub, all as tables of columns."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from artifact.dataset import Split, Task
from artifact.errors import DataError
from pipeline.data_config import Conversations, DataConfig, Dstc8, Fields, Files, Generator, Hub, Source
from pipeline.data_contrast import Contrast

EVALUATED: tuple[Split, ...] = ("validation", "test")
LEARNT: tuple[Split, ...] = ("train", *EVALUATED)
NAMED = 3
"""Files that an error names."""
HINT = "set data.source.directory=DIR to where the files lie"


@dataclass(frozen=True)
class Table:
    """Rows of a split, or of one group's part of it, as the source has them."""

    split: Split
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    group: str | None = None
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of the classes that a column holds by index."""
    held_out: bool = False
    """Whether these are training rows of which some are held out."""

    @property
    def where(self) -> str:
        """What errors call it."""
        of_group = "" if self.group is None else f" of {self.group}"
        return f"the {'train' if self.held_out else self.split} split{of_group}"


def source_files(source: Source) -> dict[str, Path]:
    """All files that are read, by what they are; raises `DataError` when one is not there or empty."""
    match source:
        case Generator(grammar=grammar):
            files = {"grammar": grammar} | {f"grammar:{p.name}": p for p in sorted(grammar.parent.glob("*.yaml"))}
        case Conversations(grammar=grammar):
            files = {"grammar": grammar}
        case Files():
            files = _named_files(source)
        case Contrast() | Dstc8():
            files = source.files()
        case Hub():
            return {}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise DataError(f"there is no file {_some(missing)}", "" if "grammar" in files else HINT)
    empty = [path for path in files.values() if not path.stat().st_size]
    if empty:
        raise DataError(f"there is nothing in {_some(empty)}")
    return files


def _some(paths: Sequence[Path]) -> str:
    """The first of them, and how many more: many groups have many files."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(str(path) for path in paths[:NAMED]) + more


def _named_files(source: Files) -> dict[str, Path]:
    files = {}
    for split in LEARNT:
        named = getattr(source, split)
        for group, folder in source.folders(split).items():
            prefix = "" if group is None else f"{group}/"
            files[prefix + (split if named else "train")] = folder / (named or source.train)
    if source.out_of_domain is not None:
        files["out_of_domain"] = source.directory / source.out_of_domain
    return files


def without_paths(source: Source) -> Source:
    """The same data in another folder is the same request: content counts, by digest."""
    match source:
        case Generator() | Conversations():
            return source.model_copy(update={"grammar": Path(source.grammar.name)})
        case Files() | Contrast() | Dstc8():
            return source.model_copy(update={"directory": Path()})
        case Hub():
            return source


def read_tables(config: DataConfig) -> Iterator[Table]:
    """Every table of `config`'s source, the training split first; raises `DataError` for what cannot be read."""
    source, fields = config.source, config.fields
    match source:
        case Generator():
            columns = (fields.text, fields.label or "label")
            for name, pairs in _generated(source, config.task).items():
                yield Table(cast("Split", name), columns, [dict(zip(columns, pair, strict=True)) for pair in pairs])
        case Conversations():
            from pipeline.conversations import generate_conversations

            for name, rows in generate_conversations(source.grammar, source.seed).items():
                yield Table(cast("Split", name), tuple(rows[0]), rows)
        case Files():
            yield from _read_files(source, fields)
        case Contrast():
            from pipeline.data_contrast import read_contrast

            columns = (fields.text, fields.label or "label")
            for name, pairs in read_contrast(source, *columns, config.out_of_domain_labels).items():
                yield Table(cast("Split", name), columns, [dict(zip(columns, pair, strict=True)) for pair in pairs])
        case Dstc8():
            yield from _read_dstc8(source, fields)
        case Hub():
            yield from _read_hub(source, fields)


def _generated(source: Generator, task: Task) -> Mapping[str, Sequence[tuple[Any, Any]]]:
    """Texts with their label, or words with their tags, by split."""
    from pipeline.grammar import generate
    from pipeline.grammar_tags import generate_tagged

    if task == "token-classification":
        rows = generate_tagged(source.grammar, source.seed)
        return {split: [(list(words), list(tags)) for words, tags in some] for split, some in rows.items()}
    return generate(source.grammar, source.seed)


def _read_dstc8(source: Dstc8, fields: Fields) -> Iterator[Table]:
    from pipeline.data_dstc8 import read_dialogues

    for split in LEARNT:
        path, evaluated = source.directory / getattr(source, split), split in EVALUATED
        with _readable(str(path)):
            rows = list(read_dialogues(path, fields, evaluated=evaluated))
        yield Table(split, tuple(rows[0]) if rows else (), rows)


def _read_files(source: Files, fields: Fields) -> Iterator[Table]:
    for split in LEARNT:
        named = getattr(source, split)
        for group, folder in source.folders(split).items():
            is_part = None in (source.validation, source.test) and (split == "train" or named is None)
            loaded = _load(folder / (named or source.train))
            yield _table(split, loaded, fields, group=group, held_out=is_part)
    if source.out_of_domain is not None:
        yield _table("out_of_domain", _load(source.directory / source.out_of_domain), fields)


def _load(path: Path) -> Any:
    import datasets

    kind = _kind_of(path)
    with _scratch() as scratch, _readable(str(path)):
        return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=scratch, keep_in_memory=True)


def _read_hub(source: Hub, fields: Fields) -> Iterator[Table]:
    import datasets

    for split in LEARNT:
        with _readable(f"the data set {source.name!r} of the Hub"):
            loaded = datasets.load_dataset(
                source.name, source.configuration, revision=source.revision, split=getattr(source, split)
            )
        yield _table(split, loaded, fields)


def _table(split: Split, loaded: Any, fields: Fields, *, group: str | None = None, held_out: bool = False) -> Table:
    """The columns that a task may read; the others, which may be pictures, are only named."""
    columns = loaded.column_names
    read = [name for name in (*fields.model_dump().values(), "is_impossible") if name in columns]
    classes = {}
    for name in read:
        kind = loaded.features[name]
        names = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None)
        if names:
            classes[name] = names
    table = Table(split, columns, (), group=group, classes=classes, held_out=held_out)
    with _readable(table.where):
        return replace(table, rows=loaded.select_columns(read).to_list())


def _kind_of(path: Path) -> str:
    endings = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
    for suffix in reversed(path.suffixes):
        if suffix in endings:
            return endings[suffix]
    raise DataError(f"{path} is of no known form", "use JSON lines, CSV or Parquet (.gz too)")


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn what `datasets` raises for an unreadable source into one clear error."""
    import datasets

    try:
        yield
    except (OSError, EOFError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"cannot read {what}: {reason[0][:200]}") from None


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A cache for this once: a local file needs no copy among the user's downloads, where a stale one could be read."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        yield folder
