"""A histogram of latencies with buckets of nearly even relative width, as HdrHistogram has them.

Every power of two of microseconds is cut into sixteen equal buckets, so a latency is known to 6 % at any scale, and two
histograms add up bucket by bucket.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SLICES = 16
"""Of each power of two."""
MICROSECONDS = 1e3


class Bucket(NamedTuple):
    """How many latencies lie from one bound up to, and without, the next."""

    from_ms: float
    to_ms: float
    requests: int


def count_buckets(latency_ms: Sequence[float]) -> tuple[Bucket, ...]:
    """The buckets that hold something, from the fastest; latencies below a microsecond count as one."""
    counts = Counter(_place(max(ms * MICROSECONDS, 1.0)) for ms in latency_ms)
    return tuple(Bucket(_bound(place), _bound(place + 1), counts[place]) for place in sorted(counts))


def _place(microseconds: float) -> int:
    mantissa, exponent = math.frexp(microseconds)  # mantissa is 0.5 to below 1
    return (exponent - 1) * SLICES + int((2 * mantissa - 1) * SLICES)


def _bound(place: int) -> float:
    octave, piece = divmod(place, SLICES)
    return 2.0**octave * (1 + piece / SLICES) / MICROSECONDS
