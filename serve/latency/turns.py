"""Who works when: contestants in turns, one at a time, in random order in every round."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from artifact.progress import Advance, progress
from serve.latency.plan import Task, Workload

Turn = TypeVar("Turn")
"""What one turn of a contestant leaves behind: a `Round`, or one with more about it."""


def none(taken: Mapping[str, Sequence[object]]) -> int:  # noqa: ARG001 - the signature of all that decide on more
    """No more rounds than those asked for."""
    return 0


def only(parts: Sequence[Turn]) -> Turn:
    """The one part of a round that is not cut; `ValueError` for several, which need to be joined."""
    (whole,) = parts
    return whole


def take_turns(
    names: Sequence[str],
    workload: Workload,
    turn: Callable[[str, Task], Turn | None],
    keep: Callable[[str, Turn], None],
    description: str,
    *,
    more: Callable[[Mapping[str, Sequence[Turn]]], int] = none,
    join: Callable[[Sequence[Turn]], Turn] = only,
) -> dict[str, tuple[Turn, ...]]:
    """Every round of every contestant, interleaved in random order, one at a time.

    A round may have several parts (`Workload.parts`); `join` makes one turn of theirs. `keep` sees each contestant's
    round as soon as it is over, so that nothing is lost when a later one fails. A turn of None is the contestant's
    last: it is lost, and missing in what is returned. After the workload's rounds, `more` is shown all turns and says
    how many further rounds are taken, until it says 0.
    """
    taken: dict[str, list[Turn]] = {name: [] for name in names}
    rounds = range(workload.rounds)
    while taken and rounds:
        begin = rounds.start
        shown = description if begin == 0 else f"{description}, rounds {begin + 1} to {rounds.stop}"
        with progress(shown, total=len(rounds) * len(taken) * len(workload.tasks(0))) as advance:
            for index in rounds:
                for name, samples in _take_round(list(taken), workload, index, turn, advance):
                    if samples:
                        whole = join(samples)
                        taken[name].append(whole)
                        keep(name, whole)
                    else:
                        del taken[name]
        rounds = range(rounds.stop, rounds.stop + more(taken)) if taken else range(0)
    return {name: tuple(turns) for name, turns in taken.items()}


def _take_round(
    names: Sequence[str],
    workload: Workload,
    index: int,
    turn: Callable[[str, Task], Turn | None],
    advance: Advance,
) -> Iterator[tuple[str, Sequence[Turn]]]:
    """Every contestant's parts of one round the moment they are complete; none of one that is lost."""
    parts: dict[str, list[Turn]] = {name: [] for name in names}
    tasks = workload.tasks(index)
    for part, task in enumerate(tasks):
        for name in workload.order(names, index, part):
            if name not in parts:
                continue
            samples = turn(name, task)
            advance(1, name)
            if samples is None:
                del parts[name]
                yield name, ()
                continue
            parts[name].append(samples)
            if len(parts[name]) == len(tasks):
                yield name, parts[name]
