"""The gates on trial, and one run of a gate: look, and look again while the gate asks for more.

The verdicts are those of `pipeline.gate.judge`, with which `understudy run` and `understudy gate` decide.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.bench_config import BenchConfig, looks_of, rounds_to_next
from pipeline.gate import judge, undecided
from pipeline.gate_config import Gate
from pipeline.gate_defaults import COST_MARGIN
from pipeline.metrics import score_rows
from pipeline.results import Benchmark, Evaluation, GateResult, SpeedRow, Verdict

REFERENCE, CANDIDATE = "reference", "candidate"
SPEED = Gate(metric="latency_p50", reference=REFERENCE, min_ratio=0.95)
"""At most a twentieth slower."""
MEMORY = Gate(metric="memory", reference=REFERENCE, max_degradation=COST_MARGIN)
"""At most a twentieth more than the reference, as against a baseline by default."""
QUALITY = Gate(metric="quality", reference=REFERENCE, min_ratio=0.998)
"""Non-inferior by two thousandths of the accuracy."""
LABELS = ("right", "wrong")
NOT_ASKED = Evaluation(reference=REFERENCE, labels=LABELS, truths=(), rows={})
"""What a gate on speed does not look at."""
_BENCH = BenchConfig()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much a gate on speed may measure; the defaults are those of `bench` in a recipe."""

    rounds: int = _BENCH.rounds
    """Before the first look; each further one sees twice as many."""
    max_rounds: int = _BENCH.max_rounds
    calls: int = _BENCH.calls_per_round
    """Single texts of a round."""
    parts: int = _BENCH.parts
    """In which each contestant answers them, in turns."""
    openings: int = _BENCH.openings
    """So often all are started in these rounds."""

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many rounds the gate looks before it gives up."""
        return looks_of(self.rounds, self.max_rounds)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of a gate said, of what ratio, after how many rounds (0: none are needed)."""

    verdict: Verdict
    value: float
    low: float
    high: float
    rounds: int


def run_speed_gate(reference_ms: ArrayLike, candidate_ms: ArrayLike, plan: Plan) -> Outcome:
    """The verdict on latencies shaped `[rounds, calls]`, of which as many rounds are looked at as the gate wants."""
    reference, candidate = np.asarray(reference_ms, float), np.asarray(candidate_ms, float)
    seen = plan.rounds
    outcome, more = look(reference[:seen], candidate[:seen], plan)
    while more and seen + more <= len(reference):
        seen += more
        outcome, more = look(reference[:seen], candidate[:seen], plan)
    return outcome


def look(reference_ms: ArrayLike, candidate_ms: ArrayLike, plan: Plan) -> tuple[Outcome, int]:
    """The verdict on the rounds there are so far, and how many more the gate wants: 0 where it is decided or over."""
    rows = {REFERENCE: _speed_row(reference_ms), CANDIDATE: _speed_row(candidate_ms)}
    rounds = len(rows[REFERENCE].single_ms)
    benchmark = Benchmark(machine={}, in_process=rows, http={}, looks=len(plan.looks))
    (result,) = judge({"speed": SPEED}, CANDIDATE, NOT_ASKED, benchmark, {})
    wanted = undecided({"speed": SPEED}, CANDIDATE, rows, looks=len(plan.looks))
    return _outcome(result, rounds), rounds_to_next(plan.looks, rounds) if wanted else 0


def run_memory_gate(reference_bytes: int, candidate_bytes: int) -> Outcome:
    """The verdict on the peak memory of two processes."""
    peaks = {REFERENCE: reference_bytes, CANDIDATE: candidate_bytes}
    rows = {name: _speed_row([[1.0]]).model_copy(update={"peak_memory_bytes": peak}) for name, peak in peaks.items()}
    benchmark = Benchmark(machine={}, in_process=rows, http={})
    (result,) = judge({"memory": MEMORY}, CANDIDATE, NOT_ASKED, benchmark, {})
    return _outcome(result, 0)


def run_quality_gate(reference_right: NDArray[np.bool_], candidate_right: NDArray[np.bool_]) -> Outcome:
    """The verdict on which examples the two got right, in the same order."""
    rows = {REFERENCE: reference_right, CANDIDATE: candidate_right}
    truths = (0,) * len(reference_right)
    predictions = {name: tuple((~right).astype(int).tolist()) for name, right in rows.items()}
    scored = score_rows(predictions, REFERENCE, truths, seed=1)
    evaluation = Evaluation(reference=REFERENCE, labels=LABELS, truths=truths, rows=scored)
    (result,) = judge({"quality": QUALITY}, CANDIDATE, evaluation, Benchmark(machine={}, in_process={}, http={}), {})
    return _outcome(result, 0)


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How many runs gave each verdict, absent ones too, and what they took on average."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {
        "runs": len(outcomes),
        **{verdict: counts[verdict] for verdict in get_args(Verdict)},
        "mean_rounds": round(mean(outcome.rounds for outcome in outcomes), 2),
        "mean_width": round(mean(outcome.high - outcome.low for outcome in outcomes), 5),
    }


def _outcome(result: GateResult, rounds: int) -> Outcome:
    value, low, high = (round(each, 6) for each in (result.ratio.value, result.ratio.low, result.ratio.high))
    return Outcome(verdict=result.verdict, value=value, low=low, high=high, rounds=rounds)


def _speed_row(single_ms: ArrayLike) -> SpeedRow:
    turns: Sequence[Sequence[float]] = np.asarray(single_ms, float).tolist()
    return SpeedRow(
        single_ms=tuple(map(tuple, turns)),
        batch_texts_per_second=(1.0,) * len(turns),
        size_bytes=1,
        peak_memory_bytes=1,
        threads=1,
    )
