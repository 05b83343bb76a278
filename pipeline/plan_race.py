"""Candidates against the clock and on the scales: rounds in one process, memory in one each."""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from artifact.progress import progress
from pipeline.bench_config import BenchConfig
from pipeline.plan_config import PlanConfig
from pipeline.plan_engine import Opening, PacedRound, Yardstick, measure_memory, staying, take_paced_turn
from pipeline.processes import own_processes, work_all
from serve.latency.plan import Task, Workload
from serve.latency.turns import take_turns
from serve.threads import available_cores

SLOW = 1.25
"""The machine is slow when its yardstick takes longer than this multiple of its best."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """Every turn of every row."""

    turns: Mapping[str, tuple[PacedRound, ...]]
    yardstick: str
    """The row that the machine's speed was read from."""
    retaken: int
    """Turns that were taken again."""


def make_plan_workload(config: PlanConfig, texts: list[str]) -> Workload:
    """The texts of a plan and their rounds, one batch in each; `DataError` when there is no text."""
    from pipeline.bench_inputs import make_workload

    shared = BenchConfig.model_fields.keys() & PlanConfig.model_fields.keys() - {"threads"}
    asked = BenchConfig(scenarios=("SingleStream", "Offline"), **config.model_dump(include=shared))
    return replace(make_workload(asked, texts), batches_per_round=1, parts=1)  # paced, and retaken, whole


def race_all(openings: Mapping[str, Opening], workload: Workload, patience_seconds: float) -> Race:
    """Every round of each opening: all in one process, one at a time, in random order in every round.

    A virtual machine may lose half its speed for half a minute, and which rows are hit is chance. So each turn stands
    between two looks at a yardstick, one of the candidates, and turns taken while the machine was slow are taken
    again, for at most `patience_seconds`.
    """
    sizes = {name: opening.size_bytes for name, opening in openings.items()}
    stays = staying(sizes)
    name = choose_yardstick(sizes, stays)
    yardstick = Yardstick(opening=openings[name], task=workload.task(0))

    with own_processes(1) as pool:

        def turn(name: str, task: Task) -> PacedRound:
            stay = name in stays
            return pool.submit(take_paced_turn, openings[name], task, yardstick, stays=stay).result()

        taken = take_turns(
            list(openings),
            workload,
            turn,
            lambda _name, _round: None,  # nothing to go on from: a plan that was cut short begins anew
            "measure candidates",
        )
        turns = {name: list(rounds) for name, rounds in taken.items()}
        retaken = retake(turns, lambda name, index: turn(name, workload.task(index)), patience_seconds)
    return Race(turns={name: tuple(rounds) for name, rounds in turns.items()}, yardstick=name, retaken=retaken)


def retake(
    turns: dict[str, list[PacedRound]],
    again: Callable[[str, int], PacedRound],
    patience_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Take the turns again that the machine was slow at, in a circle, until none is left or patience ends.

    A turn is replaced only by one at which the machine was faster. Changes `turns`; returns how many were taken again.
    """
    shown = {name: [turn.yardstick_ms for turn in taken] for name, taken in turns.items()}
    waiting, best = deque(slow_turns(shown)), min(min(taken) for taken in shown.values())
    end, count = clock() + patience_seconds, 0
    if not waiting or not patience_seconds:
        return 0
    with progress("retake turns of a slow machine", total=len(waiting)) as advance:
        while waiting and clock() < end:
            name, index = waiting.popleft()
            taken, count = again(name, index), count + 1
            best = min(best, taken.yardstick_ms)
            if taken.yardstick_ms < turns[name][index].yardstick_ms:
                turns[name][index] = taken
            slow = taken.yardstick_ms > SLOW * best
            if slow:
                waiting.append((name, index))
            advance(0 if slow else 1, name)
    return count


def slow_turns(yardstick_ms: Mapping[str, Sequence[float]]) -> list[tuple[str, int]]:
    """Name and round of each turn at which the machine was slow beside its best, round by round."""
    best = min(ms for taken in yardstick_ms.values() for ms in taken)
    slow = [(name, index) for name, taken in yardstick_ms.items() for index, ms in enumerate(taken) if ms > SLOW * best]
    return sorted(slow, key=lambda turn: turn[1])


def choose_yardstick(sizes: Mapping[str, int], stays: Collection[str]) -> str:
    """The row in the middle by size, of those that stay open; or the smallest of all when none does."""
    by_size = sorted(sizes, key=lambda name: sizes[name])
    staying_open = [name for name in by_size if name in stays]
    return staying_open[len(staying_open) // 2] if staying_open else by_size[0]


def weigh_all(openings: Mapping[str, Opening], workload: Workload) -> dict[str, int]:
    """Peak resident bytes of each opening, alone in a process that takes one turn.

    As many at a time as there are cores: memory, unlike time, does not depend on who else is at work.
    """
    peaks = work_all(
        partial(measure_memory, task=workload.task(0)), list(openings.values()),
        processes=available_cores(), description="weigh candidates", lives=1,
    )  # fmt: skip
    return dict(zip(openings, peaks, strict=True))
