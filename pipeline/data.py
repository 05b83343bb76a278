"""The data stage: rows of a generator, local files or the Hub become one sealed data set (docs/data.md)."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifact.dataset import DETECTION, ONE_COLUMN, OUTSIDE, Example, Split, metrics_of, pick_evenly, write_dataset
from artifact.digest import hash_file
from artifact.errors import DataError
from artifact.stage import Stage
from pipeline.data_config import DataConfig, Files
from pipeline.data_rows import NO_LABEL, Reading, Record, Row, read_outside, read_row, wanted_fields
from pipeline.data_sources import EVALUATED, LEARNT, Table, read_tables, source_files, without_paths

VERSION = 2

_HIDDEN = {NO_LABEL, "-1"}
"""Labels by which data sets say that the true one is not public."""


def data_stage(config: DataConfig, out: Path) -> tuple[Stage, Callable[[Path], Mapping[str, Any]]]:
    """The stage that makes the data set, and its work; raises `DataError` when a source file is not there."""
    digests = {name: hash_file(path) for name, path in source_files(config.source).items()}
    where = config.model_copy(update={"source": without_paths(config.source)})
    stage = Stage(name="data", version=VERSION, kind="dataset", out=out, config=where, digests=digests)
    return stage, lambda directory: run_data(config, directory)


def run_data(config: DataConfig, out: Path) -> Mapping[str, Any]:
    """Write the data set of `config` to `out`; returns the rows of each split and the labels' number.

    Raises `DataError` for an empty split, a field that is not there, a row that is not what the task needs, or a label
    outside the label list.
    """
    rows: dict[Split, list[Row]] = defaultdict(list)
    for table in read_tables(config):
        rows[table.split] += _rows(table, config)
    labels = _labels(rows, config)
    _check_metric(config, labels)
    splits: dict[Split, Sequence[Example]] = {}
    outside = [row.example for row in _divide(rows["test"], config)[1]]
    # Out-of-domain text is for testing; what the source has for training a detector is left alone.
    splits["out_of_domain"] = outside + [row.example for row in rows["out_of_domain"]]
    for split in LEARNT:
        splits[split] = _examples(_divide(rows[split], config)[0], labels, config, split)
    most = config.rows or {}
    spread = {split: pick_evenly(found, most.get(split, len(found))) for split, found in splits.items()}
    if config.task == DETECTION:
        spread["test"] = _told_apart(spread["test"], spread["out_of_domain"])
    info = write_dataset(out, labels, spread, task=config.task, metric=config.metric)
    return {"examples": info.examples, "labels": len(labels)}


def held_out_of(key: str, share: float, splits: Sequence[Split]) -> Split:
    """The one of `splits` that a training row of this text goes to, each with probability `share`, or `train`.

    The text alone decides: rows of one text stay together, on every machine and in every order of the file.
    """
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return next((split for i, split in enumerate(splits) if i * share <= place < (i + 1) * share), "train")


def _rows(table: Table, config: DataConfig) -> list[Row]:
    strange = table.split == "out_of_domain"
    evaluated = table.split in EVALUATED
    wanted = [config.fields.text] if strange else wanted_fields(config, evaluated=evaluated)
    for name in wanted:
        if name not in table.columns:
            raise DataError(
                f"{table.where} has no field {name!r}, only {', '.join(table.columns)}",
                "set data.text_field and data.label_field, or another one that names a column (docs/data.md)",
            )
    reading = Reading(config, evaluated=evaluated, classes=table.classes)
    read = read_outside if strange else read_row
    records = (Record(values, number, table.where) for number, values in enumerate(table.rows, start=1))
    rows = [row for record in records if (row := read(record, reading)) is not None]
    if table.held_out and isinstance(config.source, Files):
        rows = list(_held_out(rows, config.source, table.split))
    if table.group is None:
        return rows
    return [row.within(table.group) for row in rows]


def _held_out(rows: Sequence[Row], source: Files, split: Split) -> Iterator[Row]:
    # The test split comes first, so that it stays the same when a validation file is added.
    left_out: list[Split] = [name for name in ("test", "validation") if getattr(source, name) is None]
    for row in rows:
        example = row.example
        # Questions of one context stay together, else the held-out ones would be asked of a context learnt from.
        key = example.text if example.answers is None else str(example.pair)
        if held_out_of(key, source.held_out_share, left_out) == split:
            yield row


def _labels(rows: Mapping[Split, Sequence[Row]], config: DataConfig) -> tuple[str, ...]:
    if config.task not in ("classification", "token-classification"):
        return (ONE_COLUMN[config.task],) if config.task in ONE_COLUMN else ()
    if config.labels is not None:
        return config.labels
    names = {split: {name for row in rows[split] for name in row.names} for split in LEARNT}
    found = names["train"] - {NO_LABEL} - set(config.out_of_domain_labels)
    if config.task == "token-classification":
        # A tag that only a test sentence has can be no better than missed, but the other words count.
        found |= (names["validation"] | names["test"]) - _HIDDEN
    return tuple(sorted(found, key=lambda name: (config.task == "token-classification" and name != OUTSIDE, name)))


def _check_metric(config: DataConfig, labels: Sequence[str]) -> None:
    """`DataError` for a metric that these labels cannot have, before anything learns them."""
    known = metrics_of(config.task, labels)
    if config.metric is not None and config.metric not in known:
        some = ", ".join(labels[:5])
        raise DataError(
            f"data.metric is {config.metric!r}, which {len(labels)} labels such as {some} cannot have",
            f"spans need IOB2 tags, F1 and Matthews' correlation two labels: set data.metric to {' or '.join(known)}",
        )


def _divide(rows: Sequence[Row], config: DataConfig) -> tuple[list[Row], list[Row]]:
    outside = set(config.out_of_domain_labels)
    if not outside:
        return list(rows), []
    return [row for row in rows if row.names[0] not in outside], [row for row in rows if row.names[0] in outside]


def _told_apart(inside: Sequence[Example], outside: Sequence[Example]) -> list[Example]:
    """The texts of both sides with the label that says which: 1 for those from outside."""
    if not outside:
        raise DataError(
            "there is no text from outside the domain to test on", "set data.out_of_domain_labels, or name such a file"
        )
    sides = enumerate((inside, outside))
    return [example.model_copy(update={"label": side}) for side, examples in sides for example in examples]


def _examples(rows: Sequence[Row], labels: Sequence[str], config: DataConfig, split: str) -> list[Example]:
    if not rows:
        raise DataError(f"the {split} split has no rows", "check the file, and data.out_of_domain_labels")
    if config.task == DETECTION:
        return [row.example for row in rows]
    index = {label: position for position, label in enumerate(labels)}
    unknown = sorted({name for row in rows for name in row.names} - index.keys())
    if unknown and set(unknown) <= _HIDDEN:
        count = sum(not _HIDDEN.isdisjoint(row.names) for row in rows)
        raise DataError(
            f"{count} of {len(rows)} rows of the {split} split have no label (null, empty or -1): it is not public",
            "test on the validation split: name its file as test, and leave validation out (docs/data.md)",
        )
    if unknown:
        raise DataError(
            f"{len(unknown)} label(s) of the {split} split are not in the label list: {', '.join(unknown[:5])}",
            "add them to data.labels, or name them in data.out_of_domain_labels",
        )
    if config.task == "classification":
        return [row.example.model_copy(update={"label": index[row.names[0]]}) for row in rows]
    if config.task == "token-classification":
        return [row.example.model_copy(update={"tags": tuple(index[name] for name in row.names)}) for row in rows]
    return [row.example for row in rows]
