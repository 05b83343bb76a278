"""Whether the benchmark goes on: more rounds while a gate on speed is inconclusive, up to the recipe's limit.

All rows go on together, not only those the open gates name: each ratio of the report is then of the same rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from artifact.progress import say
from pipeline.bench_config import BenchRequest
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


def ask_gates(config: BenchRequest, judge: Undecided = undecided) -> Callable[[Mapping[str, Sequence[Round]]], bool]:
    """What decides, from all turns so far, whether as many more are taken; it tells a person why."""

    def more(taken: Mapping[str, Sequence[Round]]) -> bool:
        if config.candidate is None or not config.gates:
            return False
        rows = {name: speed_row(turns, threads=config.threads) for name, turns in taken.items()}
        open_rows = judge(config.gates, config.candidate, rows, looks=config.looks)
        return bool(open_rows) and _goes_on(config, len(rows[config.candidate].single_ms), sorted(open_rows))

    return more


def _goes_on(config: BenchRequest, rounds: int, open_rows: Sequence[str]) -> bool:
    why = f"{rounds} rounds do not decide the gates on speed ({', '.join(open_rows)})"
    if 2 * rounds > config.max_rounds:
        say(f"  {why}, and bench.max_rounds = {config.max_rounds} does not allow twice as many")
        return False
    say(f"  {why}: rounds {rounds + 1} to {2 * rounds} of at most {config.rounds << (config.looks - 1)}")
    return True
