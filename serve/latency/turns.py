"""Who works when: contestants in turns, one at a time, in random order in every round."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from artifact.progress import progress
from serve.latency.plan import Task, Workload

Turn = TypeVar("Turn")
"""What one turn of a contestant leaves behind: a `Round`, or one with more about it."""


def never(taken: Mapping[str, Sequence[object]]) -> bool:  # noqa: ARG001 - the signature of all that decide on more
    """No more rounds than those asked for."""
    return False


def take_turns(
    names: Sequence[str],
    workload: Workload,
    turn: Callable[[str, Task], Turn | None],
    keep: Callable[[str, Turn], None],
    description: str,
    *,
    more: Callable[[Mapping[str, Sequence[Turn]]], bool] = never,
) -> dict[str, tuple[Turn, ...]]:
    """Every round of every contestant, interleaved in random order, one at a time.

    `keep` sees each turn's samples as soon as they are there, so that nothing is lost when a later turn fails. A turn
    of None is the contestant's last: it is lost, and missing in what is returned. After the workload's rounds, `more`
    is shown all turns and decides whether as many rounds again are taken, until it has enough.
    """
    taken: dict[str, list[Turn]] = {name: [] for name in names}
    begin = 0
    while taken and (begin == 0 or more(taken)):
        rounds = range(begin, begin + workload.rounds)
        shown = description if begin == 0 else f"{description}, rounds {begin + 1} to {rounds.stop}"
        with progress(shown, total=len(rounds) * len(taken)) as advance:
            for name, task in _schedule(taken, workload, rounds):
                samples = turn(name, task)
                if samples is None:
                    del taken[name]
                else:
                    taken[name].append(samples)
                    keep(name, samples)
                advance(1, name)
        begin = rounds.stop
    return {name: tuple(turns) for name, turns in taken.items()}


def _schedule(still: Mapping[str, object], workload: Workload, rounds: range) -> Iterator[tuple[str, Task]]:
    """Whose turn it is and with what; in each round of those that are `still` there when it begins."""
    for index in rounds:
        task = workload.task(index)
        for name in workload.order(list(still), index):
            yield name, task
