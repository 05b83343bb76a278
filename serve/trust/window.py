"""Numbers that look back on the last so many texts."""

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike


class Share:
    """How many of the last `size` were so."""

    def __init__(self, size: int) -> None:
        self._seen: deque[bool] = deque(maxlen=size)
        self.count = 0

    def __len__(self) -> int:
        """Of how many."""
        return len(self._seen)

    def add(self, found: Iterable[bool]) -> None:
        """One more each; the oldest go."""
        for each in found:
            if len(self._seen) == self._seen.maxlen:
                self.count -= self._seen[0]
            self._seen.append(each)
            self.count += each


class Drift:
    """How far the last `size` values lie from a reference: of the two distribution functions, the largest distance.

    That is the statistic of Kolmogorov and Smirnov, 0 where both are alike and 1 where they do not overlap. Two samples
    of 1,000 from the same source lie more than 0.061 apart one time in twenty. Without a reference, the first `size`
    values become it.
    """

    def __init__(self, size: int, reference: Sequence[float] | None = None) -> None:
        self._seen: deque[float] = deque(maxlen=size)
        self._size = size
        self._reference = None if reference is None else np.sort(np.asarray(reference, dtype=np.float64))
        self._fresh = 0

    def add(self, values: Iterable[float]) -> float | None:
        """The distance, once a whole window was seen and each tenth of a window from then on; else None."""
        for value in values:
            self._seen.append(value)
            self._fresh += 1
        if len(self._seen) < self._size or self._fresh < max(1, self._size // 10):
            return None
        self._fresh = 0
        if self._reference is None:
            self._reference = np.sort(np.array(self._seen, dtype=np.float64))
            self._seen.clear()
            return None
        return distance(self._reference, self._seen)


def distance(one: ArrayLike, other: ArrayLike) -> float:
    """Largest vertical distance between the distribution functions of two samples."""
    first, second = np.sort(np.asarray(one, dtype=np.float64)), np.sort(np.asarray(other, dtype=np.float64))
    both = np.concatenate([first, second])
    shares = [np.searchsorted(each, both, side="right") / len(each) for each in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())
