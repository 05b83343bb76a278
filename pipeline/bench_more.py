"""Whether the benchmark goes on: more rounds while a gate on speed is inconclusive, up to the recipe's limit.

All rows go on together, not only those the open gates name: each ratio of the report is then of the same rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from artifact.progress import say
from pipeline.bench_config import BenchRequest, rounds_to_next
from pipeline.bench_samples import speed_row
from pipeline.gate import undecided
from pipeline.gate_config import Gate
from pipeline.results import SpeedRow
from serve.latency.plan import Round


class Undecided(Protocol):
    """What names the rows of which more rounds may decide a gate; `pipeline.gate.undecided` is one."""

    def __call__(
        self, gates: Mapping[str, Gate], candidate: str, rows: Mapping[str, SpeedRow], *, looks: int
    ) -> frozenset[str]:
        """`looks` is how often it may be asked in all."""


def ask_gates(config: BenchRequest, judge: Undecided = undecided) -> Callable[[Mapping[str, Sequence[Round]]], int]:
    """What decides, from all turns so far, how many more rounds are taken, 0 for none; it tells a person why."""

    def more(taken: Mapping[str, Sequence[Round]]) -> int:
        if config.candidate is None or not config.gates:
            return 0
        rows = {name: speed_row(turns, threads=config.threads) for name, turns in taken.items()}
        open_rows = judge(config.gates, config.candidate, rows, looks=len(config.looks))
        return _go_on(config, len(rows[config.candidate].single_ms), sorted(open_rows)) if open_rows else 0

    return more


def _go_on(config: BenchRequest, rounds: int, open_rows: Sequence[str]) -> int:
    wanted = rounds_to_next(config.looks, rounds)
    why = f"{rounds} rounds do not decide the gates on speed ({', '.join(open_rows)})"
    if not wanted:
        say(f"  {why}, and bench.max_rounds = {config.max_rounds} does not allow twice as many")
    else:
        say(f"  {why}: rounds {rounds + 1} to {rounds + wanted} of at most {config.looks[-1]}")
    return wanted
