"""Raw scores on disk: `NAME.npz` holds every score of every text, `NAME.json` what is known of the rows."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.out_of_domain.scores import Distances, Sides

RESULTS = Path(__file__).parent / "results"
GROUPS = "groups"
WORDS = "tf-idf"
"""The row that needs no encoder, and its score."""


@dataclass
class Raw:
    """What was measured on one data set; rows are `setting/teacher/float32` and the like."""

    about: dict[str, Any] = field(default_factory=lambda: {"rows": {}})
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, Any]:
        """What is known of each row: digest, gate, facts."""
        found: dict[str, Any] = self.about["rows"]
        return found

    def add(self, row: str, about: Mapping[str, Any], scores: Mapping[str, Sides]) -> None:
        """A row, in place of an earlier one of its name."""
        self.arrays = {key: values for key, values in self.arrays.items() if not key.startswith(f"{row}|")}
        self.rows[row] = dict(about)
        for name, sides in scores.items():
            self.arrays[f"{row}|{name}|inside"] = sides.inside.astype(np.float32)
            self.arrays[f"{row}|{name}|outside"] = sides.outside.astype(np.float32)

    def scores_of(self, row: str) -> list[str]:
        """Names of the scores of a row."""
        return [key.split("|")[1] for key in self.arrays if key.startswith(f"{row}|") and key.endswith("|inside")]

    def all_sides(self, row: str) -> dict[str, Sides]:
        """Every score of a row."""
        return {score: self.sides(row, score) for score in self.scores_of(row)}

    def sides(self, row: str, score: str, group: str | None = None) -> Sides:
        """One score, of all texts from outside or of one group of them."""
        inside, outside = (_wide(self.arrays[f"{row}|{score}|{side}"]) for side in ("inside", "outside"))
        if group is not None:
            outside = outside[self.arrays[GROUPS] == self.about["groups"].index(group)]
        return Sides(inside, outside)


def load(name: str, folder: Path = RESULTS) -> Raw:
    """What is there of `name`; an empty one when nothing is."""
    if not (folder / f"{name}.json").is_file():
        return Raw()
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    return Raw(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), arrays)


def save(raw: Raw, name: str, folder: Path = RESULTS) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **raw.arrays)  # type: ignore[arg-type]  # numpy's stub means a flag
    text = json.dumps(raw.about, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def load_all(folder: Path = RESULTS) -> Iterator[tuple[str, Raw]]:
    """Every data set that was measured."""
    for path in sorted(folder.glob("*.npz")):
        yield path.stem, load(path.stem, folder)


def _wide(values: NDArray[Any]) -> Distances:
    return values.astype(np.float64)
