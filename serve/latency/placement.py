"""On which cores the threads of a turn begin: dealt anew for every turn, alike for all contestants.

    settle(call, texts, milliseconds, first=dealt(task.hand))  # threads that slept wake where they were put

A kernel wakes a thread where it ran last. Beside another program on one core, whoever's first thread happened to stay
on that core is then slower than its equal, for seconds on end: a difference between two processes and not between two
builds. Dealt anew, it is a difference between turns, of which there are many (`docs/log.md`, 2026-11-29).
"""

import contextlib
import os
import random
import threading
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def dealt(hand: int) -> Iterator[None]:
    """Every thread of this process on one core, which the same `hand` deals alike in any process; free again after.

    The calling thread is on a core of its own, the others are dealt to the rest in the order in which they were
    started. Threads that somebody else has bound are left alone. Without effect where a process cannot say on which
    cores it runs, or has only one.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        yield
        return
    own, (first, *rest) = threading.get_native_id(), random.Random(hand).sample(cores, len(cores))  # noqa: S311
    bound = {thread for thread in _threads() if _cores_of(thread) != cores}
    _bind(own, [first])
    for place, thread in enumerate(sorted({*_threads()} - bound - {own})):
        _bind(thread, [rest[place % len(rest)]])
    try:
        yield
    finally:
        for thread in _threads():  # those that were started meanwhile too: they have their parent's one core
            if thread not in bound:
                _bind(thread, cores)


def _threads() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]  # noqa: PTH208 - names, no paths


def _cores_of(thread: int) -> list[int]:
    with contextlib.suppress(ProcessLookupError):
        return sorted(os.sched_getaffinity(thread))
    return []


def _bind(thread: int, cores: Sequence[int]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended, or a sandbox forbids it
        os.sched_setaffinity(thread, cores)
