"""The number that a gate holds against its bound, with its interval: from answers, samples and facts of manifests.

What was measured on the same examples or in the same rounds is compared pair by pair. The rest is compared by its two
intervals as if they were independent, which errs on the wide side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from artifact.errors import BenchError
from pipeline.gate_config import Gate, Limit, Metric
from pipeline.metrics import ACCURACY, compare_two, is_alike, rightness, scored_of
from pipeline.paired_rounds import confidence_of_looks, difference_of_rounds, median_of_one, ratio_of_rounds
from pipeline.results import Benchmark, Evaluation, Interval, SpeedRow
from pipeline.rows_config import BASELINE
from pipeline.scores.quality import QUALITIES, Scored
from pipeline.statistics import difference, mcnemar, ratio, wilson

SEED = 1

SPEED: tuple[Metric, ...] = ("latency_p50", "throughput")
"""Metrics of which more rounds can be measured."""

EXAMPLES_ALIKE = 300
"""Equal answers to so many examples leave at most 1 in 100 others to differ, at 95 % (the rule of three)."""

MEGABYTE = 1e6


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was measured of the rows."""

    evaluation: Evaluation
    benchmark: Benchmark
    sizes: Mapping[str, int]
    """Stored bytes by row."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts of manifests, by `bundle:NAME`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a gate judges."""

    value: Interval | None
    """The candidate's own number, in the metric's unit, where it is known."""
    compared: Interval
    """What is held against the bound: that number, its difference to the reference's, or their ratio."""
    rounds: int | None = None
    """How many rounds it is from, where it is from rounds."""
    confidence: float = 0.95
    """Of the intervals at this look; all looks together hold at 95 %."""
    notes: tuple[str, ...] = ()
    alike: bool = False
    """Whether the two rows earned the same on each of enough examples."""
    word: str | None = None
    """What quality is, in words; None for other metrics."""


def measure_gate(gate: Gate, candidate: str, evidence: Evidence) -> Finding:
    """What `gate` judges of the `candidate` row; raises `BenchError` when it needs what was not measured."""
    if gate.metric == "quality":
        return _measure_quality(gate, candidate, evidence)
    if gate.metric in SPEED:
        return measure_speed(gate, candidate, evidence.benchmark.in_process, looks=evidence.benchmark.looks)
    own = _OWN[gate.metric](candidate, evidence)
    if gate.reference is None:
        return Finding(value=own, compared=own)
    if gate.reference == candidate:
        return Finding(value=own, compared=_itself(gate.limit()))
    kind: Literal["ratio", "difference"] = "ratio" if gate.limit().kind == "ratio" else "difference"
    compared = (ratio if kind == "ratio" else difference)(own, _OWN[gate.metric](gate.reference, evidence))
    if gate.metric == "out_of_domain_auroc":
        compared = _compare_domain(kind, candidate, gate.reference, evidence) or compared
    return Finding(value=own, compared=compared)


def measure_speed(gate: Gate, candidate: str, rows: Mapping[str, SpeedRow], *, looks: int) -> Finding:
    """What a gate on speed judges, by the rounds that both rows took part in; a row over itself is exactly 1."""
    confidence, limit = confidence_of_looks(looks), gate.limit()
    ours = _samples(gate.metric, candidate, rows)
    value = median_of_one(ours, confidence=confidence)
    if gate.reference is None:
        return Finding(value=value, compared=value, rounds=len(ours), confidence=confidence)
    theirs = _samples(gate.metric, gate.reference, rows)
    if gate.reference == candidate:
        return Finding(value=value, compared=_itself(limit))
    # A row that no open gate needs stops before the others do; what it took part in are the first rounds.
    rounds = min(len(ours), len(theirs))
    first, second = (theirs, ours) if limit.is_speed else (ours, theirs)
    compare = ratio_of_rounds if limit.kind == "ratio" else difference_of_rounds
    compared = compare(first[:rounds], second[:rounds], confidence=confidence)
    return Finding(value=value, compared=compared, rounds=rounds, confidence=confidence)


def exact(value: float) -> Interval:
    """A number that was counted, not sampled: its interval is itself."""
    return Interval(value=value, low=value, high=value)


def read_answers(evaluation: Evaluation, row: str) -> Scored:
    """The row's answers beside the truth; raises `BenchError` when it was not evaluated."""
    if row not in evaluation.rows:
        raise BenchError(f"{row} was not evaluated, so no gate can judge its quality")
    return scored_of(evaluation, row)


def compare_quality(limit: Limit, own: Interval, metric: str, candidate: Scored, reference: Scored) -> Finding:
    """Both rows' metric on the same examples, paired; of accuracies, McNemar's p of their being equal is a note.

    Raises `BenchError` for a ratio to what is not positive.
    """
    compared = compare_two(metric, "ratio" if limit.kind == "ratio" else "difference", candidate, reference, seed=SEED)
    if compared is None:
        problem = f"the reference's {QUALITIES[metric].word} is not positive, so no ratio to it says anything"
        raise BenchError(problem, "give the gate a threshold, or max_degradation as a number")
    return Finding(
        value=own,
        compared=compared,
        notes=_describe_pairs(candidate, reference) if metric == ACCURACY else (),
        alike=len(candidate.truths) >= EXAMPLES_ALIKE and is_alike(metric, candidate, reference),
        word=QUALITIES[metric].word,
    )


def _describe_pairs(candidate: Scored, reference: Scored) -> tuple[str, ...]:
    ours, theirs = rightness(candidate), rightness(reference)
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return (f"{gained} examples won and {lost} lost, McNemar p {mcnemar(gained, lost):.2g}",)


def _measure_quality(gate: Gate, candidate: str, evidence: Evidence) -> Finding:
    evaluation, limit = evidence.evaluation, gate.limit()
    answers = read_answers(evaluation, candidate)
    own, word = evaluation.rows[candidate].quality, QUALITIES[evaluation.metric].word
    if gate.reference is None:
        return Finding(value=own, compared=own, word=word)
    if gate.reference == candidate:
        return Finding(value=own, compared=_itself(limit), word=word)
    return compare_quality(limit, own, evaluation.metric, answers, read_answers(evaluation, gate.reference))


def _itself(limit: Limit) -> Interval:
    return exact(1.0 if limit.kind == "ratio" else 0.0)


def _samples(metric: Metric, row: str, rows: Mapping[str, SpeedRow]) -> tuple[Any, ...]:
    """Rounds of the row: latencies of its calls, or one throughput each."""
    if row not in rows:
        raise BenchError(f"{row} was not benchmarked, so no gate can judge its speed")
    return rows[row].single_ms if metric == "latency_p50" else rows[row].batch_texts_per_second


def _size(row: str, evidence: Evidence) -> Interval:
    if row not in evidence.sizes:
        raise BenchError(f"the size of {row} was not measured")
    return exact(evidence.sizes[row] / MEGABYTE)


def _memory(row: str, evidence: Evidence) -> Interval:
    if row not in evidence.benchmark.in_process:
        raise BenchError(f"{row} was not benchmarked, so no gate can judge its memory")
    return exact(evidence.benchmark.in_process[row].peak_memory_bytes / MEGABYTE)


def _out_of_domain(row: str, evidence: Evidence) -> Interval:
    found = evidence.evaluation.rows.get(row)
    if found is None or found.out_of_domain_auroc is None:
        hint = "name data.out_of_domain_labels, or drop the gate"
        raise BenchError(f"{row} was not asked out-of-domain text, so no gate can judge how well it tells it", hint)
    return found.out_of_domain_auroc


def _compare_domain(
    kind: Literal["ratio", "difference"], candidate: str, reference: str, evidence: Evidence
) -> Interval | None:
    """Two rows' areas on the same texts, paired; None for an evaluation that did not keep the scores."""
    rows = [evidence.evaluation.rows[row] for row in (candidate, reference)]
    if not all(row.strangeness_outside for row in rows):
        return None
    ours, theirs = (
        Scored(
            truths=(*[0] * len(row.strangeness), *[1] * len(row.strangeness_outside)),
            predictions=(*row.strangeness, *row.strangeness_outside),
        )
        for row in rows
    )
    return compare_two("auroc", kind, ours, theirs, seed=SEED)


def _parity(row: str, evidence: Evidence) -> Interval:
    return exact(float(_fact(row, evidence, "parity", "min_cosine")))


def _batch_invariance(row: str, evidence: Evidence) -> Interval:
    """Texts of 10,000 whose label differs in any of their batches, with Wilson's interval."""
    labels = _fact(row, evidence, "invariance", "labels")
    if labels is None:
        raise BenchError(f"{row} gives no labels, so none can flip", "gate its parity instead")
    share = wilson(labels["texts_flipped"], labels["texts"])
    return Interval(value=1e4 * share.value, low=1e4 * share.low, high=1e4 * share.high)


def _fusion(row: str, evidence: Evidence) -> Interval:
    """Nodes that the optimizer fused in the whole form of the graph, whichever form ships, for each layer."""
    about = _bundle(row, evidence)
    fused = about["precisions"].get("float32", {}).get("fused", {}).get("whole")
    if fused is None:
        raise BenchError(f"the bundle of {row} does not say what was fused", "export it again")
    return exact(sum(fused.values()) / about["layers"])


_OWN: dict[Metric, Callable[[str, Evidence], Interval]] = {
    "size": _size,
    "memory": _memory,
    "parity": _parity,
    "fusion": _fusion,
    "batch_invariance": _batch_invariance,
    "out_of_domain_auroc": _out_of_domain,
}


def _bundle(row: str, evidence: Evidence) -> Mapping[str, Any]:
    """Facts of the bundle that the row opens: `bundle:NAME`, and those of the copy that the row `baseline` is."""
    name = row if row == BASELINE else f"bundle:{row.partition('/')[0]}"
    found: Mapping[str, Any] | None = evidence.facts.get(name)
    if found is None or "precisions" not in found:
        hint = "name a row that is one, such as student/int8"
        raise BenchError(f"{row} is no bundle, so nothing is known of its graph", hint)
    return found


def _fact(row: str, evidence: Evidence, *path: str) -> Any:
    """A fact of the graph that the row opens."""
    bundle = _bundle(row, evidence)
    origin = bundle["baseline"]["row"] if row == BASELINE else row
    node: Any = bundle["precisions"].get(origin.partition("/")[2], {})
    for name in path:
        if name not in node:
            raise BenchError(f"the bundle of {row} does not state its {path[0]}", "export it again")
        node = node[name]
    return node
