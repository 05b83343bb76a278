"""Real runs of the gate on speed: one bundle in three processes, one of them slowed by a known share.

Every run opens its processes anew, as the bench stage does: what a process happens to get (addresses, caches, threads)
is then part of what the gate must not be fooled by. Contestants take turns until both gates are decided.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from artifact.progress import say
from benchmarks.gate.neighbour import burning
from benchmarks.gate.raw import Run, Writer, open_writer, read_runs
from benchmarks.gate.rules import Plan, look, run_memory_gate, run_speed_gate
from benchmarks.gate.slowed import open_slowed
from pipeline.machine import fingerprint, load_average
from serve.bundle import open_bundle
from serve.latency.contestant import Contestant
from serve.latency.in_process import measure
from serve.latency.plan import Round, Workload
from serve.runtime import Runtime

Condition = Literal["quiet", "neighbour"]
REFERENCE, SAME, SLOWED = "reference", "identical", "10 % slower"
SHARE = 0.10
"""Of its own time that the slowed one adds to each call."""
LONGEST_RUN_SECONDS = 600.0
SECONDS_BETWEEN_LINES = 15.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured."""

    bundle: Path
    precision: str
    threads: int
    texts: tuple[str, ...]
    plan: Plan

    def setup(self) -> dict[str, Any]:
        """What runs must have in common to be counted together."""
        bundle = open_bundle(self.bundle)
        return {
            "model": bundle.info.name,
            "digest": bundle.digest,
            "precision": self.precision,
            "threads": self.threads,
            "texts": len(self.texts),
            "share": SHARE,
            "plan": asdict(self.plan),
            "machine": fingerprint(),
        }

    def contestants(self) -> list[Contestant]:
        """The bundle, the bundle again, and the bundle slowed."""
        honest = partial(Runtime.open, self.bundle, self.precision, threads=self.threads)
        late = partial(open_slowed, self.bundle, self.precision, self.threads, SHARE)
        factories = {REFERENCE: honest, SAME: honest, SLOWED: late}
        return [Contestant(name=name, factory=each, threads=self.threads) for name, each in factories.items()]


def measure_runs(subject: Subject, condition: Condition, runs: int, raw: Path) -> list[Run]:
    """So many runs, those in the file among them; each turn is added to the file as it comes."""
    setup = subject.setup()
    done = read_runs(raw, setup)
    if len(done) >= runs:
        return done
    begun = told = time.monotonic()
    say(f"{condition}: {len(done)} of {runs} runs are measured")
    with open_writer(raw, setup) as writer:
        for number in range(len(done), runs):
            measure_run(subject, condition, number, writer)
            now = time.monotonic()
            if now - told >= SECONDS_BETWEEN_LINES:
                told = now
                left = (now - begun) / (number + 1 - len(done)) * (runs - number - 1)
                say(f"  {condition} {number + 1}/{runs}, {left:.0f} s left")
    return read_runs(raw, setup)


def measure_run(subject: Subject, condition: Condition, number: int, writer: Writer) -> None:
    """Open everything, take turns until both gates are decided, and close everything."""

    def keep(row: str, turn: Round) -> None:
        writer.turn(row, turn.index, turn.single_ms)

    plan = subject.plan
    workload = Workload(
        texts=subject.texts,
        rounds=plan.rounds,
        calls_per_round=plan.calls,
        parts=plan.parts,
        openings=plan.openings,
        batch_size=1,
        batches_per_round=0,  # throughput is not judged here
        seed=number,
    )
    before, begun = load_average(), time.monotonic()
    writer.begin(number)
    with _company(condition):
        rows = measure(subject.contestants(), workload, keep=keep, more=lambda taken: rounds_wanted(taken, plan))
    writer.end(
        {
            "seconds": round(time.monotonic() - begun, 2),
            "load_average": before,
            "peak_memory_bytes": {row.name: row.peak_memory_bytes for row in rows},
        }
    )


def rounds_wanted(taken: Mapping[str, Sequence[Round]], plan: Plan) -> int:
    """Further rounds until the next look of a gate that is open: 0 where both are decided, or the plan has no more."""
    singles = {row: [turn.single_ms for turn in turns] for row, turns in taken.items()}
    return max(look(singles[REFERENCE], singles[row], plan)[1] for row in (SAME, SLOWED))


def judge_runs(runs: Sequence[Run], plan: Plan) -> dict[str, Any]:
    """Of each run what both gates on speed said, from the samples, and what one on the memory of identical ones did."""
    peaks = [run.facts["peak_memory_bytes"] for run in runs]
    return {
        "outcomes": {
            row: [asdict(run_speed_gate(run.single_ms[REFERENCE], run.single_ms[row], plan)) for run in runs]
            for row in (SAME, SLOWED)
        },
        "memory": [asdict(run_memory_gate(peak[REFERENCE], peak[SAME])) for peak in peaks],
        "p50_ms": round(statistics.median(ms for run in runs for turn in run.single_ms[REFERENCE] for ms in turn), 4),
        "round_spread": round(measure_spread(runs), 4),
        "seconds": [run.facts["seconds"] for run in runs],
        "load_average": [run.facts["load_average"] for run in runs],
    }


def measure_spread(runs: Sequence[Run]) -> float:
    """How much one round's ratio of two identical rows varies: half the width of its middle 68 %, as a logarithm."""
    reference, same = (
        np.array([np.median(turn) for run in runs for turn in run.single_ms[row]]) for row in (REFERENCE, SAME)
    )
    low, high = np.quantile(np.log(reference / same), [0.16, 0.84])
    return float(high - low) / 2


@contextlib.contextmanager
def _company(condition: Condition) -> Iterator[None]:
    with burning(LONGEST_RUN_SECONDS) if condition == "neighbour" else contextlib.nullcontext():
        yield
