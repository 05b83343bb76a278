"""The data stage: texts and labels from a generator, local files or the Hub become one sealed data set."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifact.dataset import Example, Split, write_dataset
from artifact.digest import hash_file
from artifact.errors import DataError
from artifact.stage import Stage
from pipeline.recipe import DataConfig, Files, Generator, Hub

VERSION = 1

Row = tuple[str, str]
"""A text and the name of its label."""


def data_stage(config: DataConfig, out: Path) -> tuple[Stage, Callable[[Path], Mapping[str, Any]]]:
    """The stage that makes the data set, and its work; raises `DataError` when a source file is not there."""
    digests = {name: hash_file(path) for name, path in _source_files(config).items()}
    where = config.model_copy(update={"source": _without_paths(config.source)})
    stage = Stage(name="data", version=VERSION, kind="dataset", out=out, config=where, digests=digests)
    return stage, lambda directory: run_data(config, directory)


def run_data(config: DataConfig, out: Path) -> Mapping[str, Any]:
    """Write the data set of `config` to `out`; returns the rows of each split and the labels' number.

    Raises `DataError` for an empty split, a field that is not there, or a label outside the label list.
    """
    rows = _read(config)
    labels = config.labels or tuple(sorted({label for _, label in rows["train"]} - set(config.out_of_domain_labels)))
    splits: dict[Split, list[Example]] = {"out_of_domain": []}
    for split in ("train", "validation", "test"):
        kept, outside = _divide(rows[split], config.out_of_domain_labels)
        splits[split] = _examples(kept, labels, split)
        # Out-of-domain text is for testing; what the source has for training a detector is left alone.
        if split == "test":
            splits["out_of_domain"] += [Example(text=text, label=-1) for text, _ in outside]
    splits["out_of_domain"] += [Example(text=text, label=-1) for text, _ in rows.get("out_of_domain", [])]
    info = write_dataset(out, labels, splits)
    return {"examples": info.examples, "labels": len(labels)}


def _source_files(config: DataConfig) -> dict[str, Path]:
    match config.source:
        case Generator(grammar=grammar):
            files = {"grammar": grammar} | {f"grammar:{p.name}": p for p in sorted(grammar.parent.glob("*.yaml"))}
        case Files(directory=directory, train=train, validation=validation, test=test):
            files = {"train": directory / train, "validation": directory / validation, "test": directory / test}
        case Hub():
            return {}
    empty = [path for path in files.values() if path.is_file() and not path.stat().st_size]
    if empty:
        raise DataError(f"there is nothing in {', '.join(map(str, empty))}")
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        hint = "set data.source.directory=DIR to where the files lie" if isinstance(config.source, Files) else ""
        raise DataError(f"there is no file {', '.join(map(str, missing))}", hint)
    return files


def _without_paths(source: Generator | Files | Hub) -> Generator | Files | Hub:
    """The same data in another folder is the same request: content counts, by digest."""
    match source:
        case Generator():
            return source.model_copy(update={"grammar": Path(source.grammar.name)})
        case Files():
            return source.model_copy(update={"directory": Path()})
        case Hub():
            return source


def _read(config: DataConfig) -> Mapping[str, Sequence[Row]]:
    if isinstance(config.source, Generator):
        from pipeline.grammar import generate

        generated: Mapping[str, Sequence[Row]] = generate(config.source.grammar, config.source.seed)
        return generated
    loaded = _load_hub(config.source) if isinstance(config.source, Hub) else _load_files(config.source)
    rows = {}
    for split, table in loaded.items():
        with _readable(f"the {split} split"):
            rows[split] = _rows(table, config, split)
    return rows


def _load_files(source: Files) -> dict[str, Any]:
    import datasets

    paths = {"train": source.train, "validation": source.validation, "test": source.test}
    tables = {}
    for split, path in paths.items():
        kind = _kind_of(path)
        with _scratch() as scratch, _readable(str(source.directory / path)):
            tables[split] = datasets.load_dataset(
                kind, data_files=str(source.directory / path), split="train", cache_dir=scratch, keep_in_memory=True
            )
    return tables


def _load_hub(source: Hub) -> dict[str, Any]:
    import datasets

    splits = {"train": source.train, "validation": source.validation, "test": source.test}
    with _readable(f"the data set {source.name!r} of the Hub"):
        return {
            name: datasets.load_dataset(source.name, source.configuration, revision=source.revision, split=split)
            for name, split in splits.items()
        }


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
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"cannot read {what}: {reason[0][:200]}") from None


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A cache for this once: a local file needs no copy among the user's downloads, where a stale one could be read."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def _rows(table: Any, config: DataConfig, split: str) -> list[Row]:
    for field in (config.text_field, config.label_field):
        if field not in table.column_names:
            raise DataError(
                f"the {split} split has no field {field!r}, only {', '.join(table.column_names)}",
                "set data.text_field and data.label_field",
            )
    names = getattr(table.features[config.label_field], "names", None)
    texts, labels = table[config.text_field], table[config.label_field]
    return [(str(text), names[label] if names else str(label)) for text, label in zip(texts, labels, strict=True)]


def _divide(rows: Sequence[Row], outside: Sequence[str]) -> tuple[list[Row], list[Row]]:
    return [row for row in rows if row[1] not in outside], [row for row in rows if row[1] in outside]


def _examples(rows: Sequence[Row], labels: Sequence[str], split: str) -> list[Example]:
    if not rows:
        raise DataError(f"the {split} split has no rows", "check the file, and data.out_of_domain_labels")
    index = {label: position for position, label in enumerate(labels)}
    unknown = sorted({label for _, label in rows} - set(labels))
    if unknown:
        raise DataError(
            f"{len(unknown)} label(s) of the {split} split are not in the label list: {', '.join(unknown[:5])}",
            "add them to data.labels, or name them in data.out_of_domain_labels",
        )
    return [Example(text=text, label=index[label]) for text, label in rows]
