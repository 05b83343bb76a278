"""A metric as what each example adds to it.

    ours, theirs = tally_labels(truths, predictions), tally_labels(truths, others)
    low, high = np.quantile(draw([ours, theirs], seed=1)[0], [0.025, 0.975])

Accuracy, F1 of any kind, Matthews' correlation, recall at k and mean reciprocal rank are all functions of sums over
examples. So drawing examples with replacement is drawing how often each one counts, and the metric of a draw is a
product of matrices. Metrics of the same examples share their draws, which is what makes a comparison paired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artifact.errors import BenchError

Numbers = NDArray[np.float64]

RESAMPLES = 10_000
_CHUNK_NUMBERS = 5_000_000
"""Counts held in memory at once: 40 MB."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What each example adds, and what their sums mean."""

    metric: str
    """Its usual name: `accuracy`, `f1`, `matthews_correlation`."""
    columns: Numbers
    """`[examples, columns]`."""
    score: Callable[[Numbers], Numbers]
    """The metric of sums, `[..., columns]` to `[...]`; 0 where it is not defined."""

    @property
    def value(self) -> float:
        """The metric of all examples; raises `BenchError` without any."""
        if not len(self.columns):
            raise BenchError(f"{self.metric} of no examples has no value", "give the split at least one example")
        return float(self.score(self.columns.sum(axis=0)))

    def take(self, examples: Sequence[int] | NDArray[np.intp]) -> "Tally":
        """The same metric of some of the examples, such as those of one language."""
        return Tally(metric=self.metric, columns=self.columns[np.asarray(examples, dtype=np.intp)], score=self.score)


def draw(tallies: Sequence[Tally], *, seed: int, resamples: int = RESAMPLES) -> Numbers:
    """`[tallies, resamples]`: each metric of examples drawn with replacement, the same ones for all.

    Raises `BenchError` unless all are of the same number of examples, at least one.
    """
    counts = {len(tally.columns) for tally in tallies}
    if len(counts) != 1 or not min(counts):
        found = ", ".join(str(count) for count in sorted(counts))
        raise BenchError(f"metrics of {found} examples cannot be compared", "measure all on the same examples")
    (examples,) = counts
    generator = np.random.default_rng(seed)
    columns = np.concatenate([tally.columns for tally in tallies], axis=1)
    sums = []
    for start in range(0, resamples, step := max(1, _CHUNK_NUMBERS // examples)):
        times = min(step, resamples - start)
        sums.append(generator.multinomial(examples, np.full(examples, 1 / examples), size=times) @ columns)
    bounds = np.cumsum([tally.columns.shape[1] for tally in tallies])[:-1]
    parts = np.split(np.concatenate(sums), bounds, axis=1)
    return np.stack([tally.score(part) for tally, part in zip(tallies, parts, strict=True)])


def mean_tally(metric: str, values: ArrayLike) -> Tally:
    """The mean of one number an example."""
    numbers = np.asarray(values, dtype=float)
    columns = np.stack([numbers, np.ones_like(numbers)], axis=-1)
    return Tally(metric=metric, columns=columns, score=lambda sums: divide(sums[..., 0], sums[..., 1]))


def divide(above: Numbers, below: Numbers) -> Numbers:
    """`above / below`, and 0 where `below` is 0: no prediction, or nothing to find."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=np.asarray(below) != 0)
