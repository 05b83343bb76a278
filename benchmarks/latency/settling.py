"""How long a contestant is slow after the turns of others: all calls of its turns, timed from the first."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from artifact.dataset import read_split
from pipeline.rows import opener
from pipeline.statistics import ratio_of_medians
from serve.latency.contestant import Contestant
from serve.latency.in_process import measure
from serve.latency.plan import Workload
from serve.latency.timing import SETTLE_CALLS, SETTLE_MS, SETTLE_TIMES, is_settled

TEXTS = 256
TURNS = 5
"""Of each contestant in a round."""
CALLS = 40
"""Of a turn: enough to be settled, if anything is."""
LAST = 10
"""Of them, what the others are held to."""
SHOWN = (1, 2, 3, 4, 6, 8, 10, 15, 20)
"""Calls of a turn, in the table."""


def measure_settling(rows: Sequence[str], out: Path, *, threads: int, rounds: int) -> dict[str, Any]:
    """Milliseconds by row, turn and call; rows as in a report of the recipe that was run into `out`."""
    contestants = [Contestant(name=row, factory=opener(row, out, threads), threads=threads) for row in rows]
    texts = tuple(example.text for example in read_split(out / "data", "test")[:TEXTS])
    workload = Workload(
        texts=texts, rounds=rounds, calls_per_round=TURNS * CALLS, parts=TURNS, settle_ms=0.0, batch_size=1,
        batches_per_round=0,
    )  # fmt: skip
    # A turn that does not settle still answers its first text once, untimed: it is the call before the first here.
    single_ms = {
        row.name: [
            [round(ms, 4) for ms in turn.single_ms[part * CALLS : (part + 1) * CALLS]]
            for turn in row.rounds
            for part in range(TURNS)
        ]
        for row in measure(contestants, workload)
    }
    return {"threads": threads, "single_ms": single_ms}


def settling_table(found: Mapping[str, Any], bar: float) -> Iterator[str]:
    """Medians by the place of a call, and how far the first that would be timed is from the last ones."""
    yield "## How long others' turns are felt\n"
    yield (
        f"Contestants in processes of their own, {found['threads']} threads each, in turns of {CALLS} calls after one "
        "that is not timed. Medians by the place of a call in its turn; *settled* is the first call that a benchmark "
        f"times, after {SETTLE_CALLS} calls and {SETTLE_MS:g} ms, or {SETTLE_MS * SETTLE_TIMES:g} ms where calls are "
        f"long, over the last {LAST}.\n"
    )
    yield f"| row | {' | '.join(f'call {place + 1}' for place in SHOWN)} | last {LAST} | settled |  |"
    yield f"| --- |{' ---: |' * (len(SHOWN) + 2)} --- |"
    for row, turns in found["single_ms"].items():
        medians = [f"{median(turn[place - 1] for turn in turns):.3f}" for place in SHOWN]
        times = ratio_of_medians(*settled_and_last(turns), seed=1)
        said = f"{100 * (times.value - 1):+.1f} % [{100 * (times.low - 1):+.1f}, {100 * (times.high - 1):+.1f}]"
        word = "**holds**" if times.high <= 1 + bar else "**missed**" if times.low > 1 + bar else "**open**"
        last = median(ms for turn in turns for ms in turn[-LAST:])
        yield f"| {row} | {' | '.join(medians)} | {last:.3f} | {said} | at most {bar:.0%}: {word} |"


def settled_and_last(turns: Sequence[Sequence[float]]) -> tuple[list[list[float]], list[list[float]]]:
    """Of each turn the first call that a benchmark would time (`is_settled`), and its last `LAST` calls.

    The untimed first call is taken to have been as long as the second.
    """
    settled = []
    for turn in turns:
        spent = accumulate([turn[0], *turn[:-1]])  # before each call, the untimed one included
        ready = (ms for n, (ms, before) in enumerate(zip(turn, spent, strict=True), start=1)
                 if is_settled(n, before, SETTLE_MS))  # fmt: skip
        settled.append([next(ready, turn[-1])])
    return settled, [list(turn[-LAST:]) for turn in turns]
