"""The data set artefact: `dataset.json` and one JSON-lines file a split, as every stage reads it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from artifact.config import Config
from artifact.errors import DataError
from artifact.manifest import write_json

Split = Literal["train", "validation", "test", "out_of_domain"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "out_of_domain")


class DatasetInfo(Config):
    """`dataset.json`: the task and its label list, whose order is that of the model's outputs."""

    task: Literal["classification"] = "classification"
    labels: tuple[str, ...]
    examples: dict[str, int]
    """Rows of each split."""


class Example(Config):
    """One row: a text and the index of its label; -1 where it has none of the list (out of domain)."""

    text: str
    label: int


def read_info(directory: Path) -> DatasetInfo:
    """The `dataset.json` of a data set artefact."""
    try:
        return DatasetInfo.model_validate_json((directory / "dataset.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{directory} holds no data set: {str(error).splitlines()[0]}") from None


def read_split(directory: Path, split: Split) -> list[Example]:
    """The rows of one split, in the order of the file."""
    with (directory / f"{split}.jsonl").open(encoding="utf-8") as file:
        return [Example.model_validate_json(line) for line in file]


def write_dataset(directory: Path, labels: tuple[str, ...], splits: dict[Split, list[Example]]) -> DatasetInfo:
    """Write all splits and `dataset.json`; every split has its file, also when it is empty."""
    for split in SPLITS:
        _write_rows(directory / f"{split}.jsonl", splits.get(split, []))
    info = DatasetInfo(labels=labels, examples={split: len(splits.get(split, [])) for split in SPLITS})
    write_json(directory / "dataset.json", info.model_dump(mode="json"))
    return info


def _write_rows(path: Path, rows: Iterable[Example]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row.model_dump(), ensure_ascii=False) + "\n" for row in rows)
