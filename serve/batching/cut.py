"""Rows of many lengths cut into runs, where padding and the runs themselves cost least."""

from collections.abc import Sequence

RUN_TOKENS = 8
"""What it costs to run a graph at all, in tokens: below it, a run of its own is dearer than some padding."""

THREAD_TOKENS = 128
"""Padded tokens of a run on one thread: a run takes as long as its tokens, and whoever comes meanwhile waits for it."""


def cut(lengths: Sequence[int], budget: int, run_tokens: int = RUN_TOKENS) -> list[range]:
    """Places of `lengths`, which ascend, as neighbours that run together.

    The cost of a run is its padded tokens and `run_tokens`, and the sum over all runs is the least there is. Nothing
    is padded beyond `budget`, but for a row that is longer by itself.
    """
    costs, begins = [0], [0]
    for stop, length in enumerate(lengths, start=1):
        # Places before `first` would not fit beside this row, which is the widest of the run.
        first = max(0, stop - max(1, budget // length))
        best, begin = min((costs[start] + (stop - start) * length, start) for start in range(first, stop))
        costs.append(best + run_tokens)
        begins.append(begin)
    runs, stop = [], len(lengths)
    while stop:
        runs.append(range(begins[stop], stop))
        stop = begins[stop]
    return runs[::-1]
