"""What each row keeps of its teacher: intervals over test examples and seeds, paired by both.

Of each task, all cells are scored on the same draws of its test examples. A draw also takes seeds anew, the same ones
for a row and its teacher. Tasks are drawn apart, since they have no example in common.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.errors import BenchError
from benchmarks.minilm.grid import TEACHER
from pipeline.results import Interval
from pipeline.scores.quality import Scored, tally_of
from pipeline.scores.tally import draw
from pipeline.statistics import interval_of

RESAMPLES = 4_000
Key = tuple[str, str]
"""Row and precision."""
REFERENCE: Key = (TEACHER, "float32")


@dataclass(frozen=True)
class Drawn:
    """A number, and what it might have been."""

    value: float
    draws: NDArray[np.float64]

    @property
    def interval(self) -> Interval:
        """95 %; without draws in which the ratio has no meaning, the teacher being no better than chance."""
        return interval_of(self.value, self.draws[np.isfinite(self.draws)])

    def over(self, other: "Drawn") -> "Drawn":
        """Their ratio, draw by draw."""
        return Drawn(self.value / other.value, self.draws / np.where(other.draws > 0, other.draws, np.nan))


@dataclass(frozen=True)
class Kept:
    """One row on one task."""

    quality: Drawn
    share: Drawn | None
    """Of the teacher's, of the seeds that both have; None where the teacher is no better than chance."""
    seeds: int


def keep_of(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[Key, Kept]]:
    """By task, every row in every precision; tasks whose teacher is missing are left out."""
    tasks = sorted({cell["task"] for cell in cells if cell["row"] == TEACHER})
    return {task: _task([cell for cell in cells if cell["task"] == task], seed=1 + n) for n, task in enumerate(tasks)}


def mean_of(found: Sequence[Drawn]) -> Drawn:
    """Over tasks."""
    return Drawn(float(np.mean([each.value for each in found])), np.mean([each.draws for each in found], axis=0))


def _task(cells: Sequence[Mapping[str, Any]], seed: int) -> dict[Key, Kept]:
    if any(cell["truths"] != cells[0]["truths"] for cell in cells):
        raise BenchError(f"cells of {cells[0]['task']} answered other test examples", "measure them in one --out")
    metric, labels = cells[0]["metric"], cells[0]["labels"]
    asked = [
        ((cell["row"], precision), cell["seed"], answers)
        for cell in cells
        for precision, answers in cell["predictions"].items()
    ]
    tallies = [tally_of(metric, _scored(cells[0]["truths"], answers, labels)) for _, _, answers in asked]
    draws = draw(tallies, seed=seed, resamples=RESAMPLES)
    runs: dict[Key, dict[int, Drawn]] = {}
    for (key, number, _), tally, drawn in zip(asked, tallies, draws, strict=True):
        runs.setdefault(key, {})[number] = Drawn(tally.value, drawn)
    generator = np.random.default_rng(seed)
    return {key: _kept(found, runs[REFERENCE], generator) for key, found in runs.items()}


def _scored(truths: Sequence[Any], answers: Sequence[Any], labels: Sequence[str]) -> Scored:
    return Scored(truths=truths, predictions=answers, labels=labels)


def _kept(found: Mapping[int, Drawn], teacher: Mapping[int, Drawn], generator: np.random.Generator) -> Kept:
    common = sorted(found.keys() & teacher.keys())
    if not common:
        raise BenchError("a row and its teacher have no seed in common", "measure the teacher with the row's seeds")
    picks = generator.integers(len(common), size=(RESAMPLES, len(common)))
    ours, theirs = (_mean(runs, common, picks) for runs in (found, teacher))
    if theirs.value <= 0:
        return Kept(ours, None, len(common))
    same = Drawn(1.0, np.ones(RESAMPLES))
    return Kept(ours, same if found is teacher else ours.over(theirs), len(common))


def _mean(runs: Mapping[int, Drawn], seeds: Sequence[int], picks: NDArray[np.intp]) -> Drawn:
    """Over the seeds, drawn anew."""
    draws = np.stack([runs[seed].draws for seed in seeds])
    picked = np.mean([draws[picks[:, place], np.arange(picks.shape[0])] for place in range(len(seeds))], axis=0)
    return Drawn(float(np.mean([runs[seed].value for seed in seeds])), picked)
