"""How rows answered the test split: scores of each, in whatever metric the data set has, and what they keep.

Accuracy has Wilson's interval, and a bootstrap of the 2 x 2 table of who was right. Any other metric is a tally, drawn
example by example (`pipeline.scores.tally`): all rows and metrics share one set of draws, which is what pairs them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from artifact.dataset import DETECTION, INSIDE, Task, metrics_of
from pipeline.results import Answer, Evaluation, Interval, NoneThreshold, QualityRow
from pipeline.scores.quality import Scored, tally_of
from pipeline.scores.tally import Numbers, Tally, draw
from pipeline.statistics import accuracy_difference, accuracy_ratio, interval_of, mcnemar, wilson

ACCURACY = "accuracy"
UNSEEN = 3.0
"""Examples that may yet differ, at 95 %, where none of those seen did: the rule of three."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The examples that rows answered, and how answers to them are scored."""

    truths: Sequence[Answer]
    task: Task = "classification"
    metric: str = ACCURACY
    labels: Sequence[str] = ()
    groups: Sequence[str | None] = ()
    """The part that each example belongs to; empty where the data has none."""

    def scored(self, predictions: Sequence[Answer], threshold: NoneThreshold | None = None) -> Scored:
        """One row's answers beside the truth."""
        value = None if threshold is None else threshold.value
        return Scored(truths=self.truths, predictions=predictions, labels=self.labels, none_threshold=value)


def score_rows(
    predictions: Mapping[str, Sequence[int]], reference: str, truths: Sequence[int], *, seed: int
) -> dict[str, QualityRow]:
    """Every row's accuracy, its ratio to and agreement with the `reference` row, with intervals, and McNemar's p."""
    return score_all(Asked(truths=truths), predictions, reference, seed=seed)


def score_all(
    asked: Asked,
    predictions: Mapping[str, Sequence[Answer]],
    reference: str,
    *,
    seed: int,
    thresholds: Mapping[str, NoneThreshold] | None = None,
) -> dict[str, QualityRow]:
    """Every row in the metric of `asked` and in the task's further ones, with intervals; ratios are to `reference`."""
    chosen = thresholds or {}
    scored = {name: asked.scored(found, chosen.get(name)) for name, found in predictions.items()}
    qualities = _measure(asked.metric, scored, seed=seed)
    ratios = compare_all(asked.metric, scored, reference, seed=seed)
    more = {name: _measure(name, rows, seed=seed) for name, rows in _more(asked, scored).items()}
    parts = {part: _measure(asked.metric, _take(scored, places), seed=seed) for part, places in _parts(asked).items()}
    return {
        name: QualityRow(
            quality=qualities[name],
            ratio=ratios[name],
            agreement=_agreement(asked.task, found, predictions[reference]),
            mcnemar_p=_mcnemar(asked, found, predictions[reference]),
            more={metric: intervals[name] for metric, intervals in more.items() if name in intervals},
            groups={part: intervals[name] for part, intervals in parts.items()},
            none_threshold=chosen.get(name),
            predictions=tuple(found),
        )
        for name, found in predictions.items()
    }


def scored_of(evaluation: Evaluation, row: str) -> Scored:
    """The answers of one row of `evaluation`, beside the truth."""
    asked = Asked(truths=evaluation.truths, labels=evaluation.labels)
    return asked.scored(evaluation.rows[row].predictions, evaluation.rows[row].none_threshold)


def quality_ratios(evaluation: Evaluation, reference: str, *, seed: int) -> dict[str, Interval | None]:
    """Quality of every row over that of `reference`, paired; None where that is not positive, of itself exactly 1."""
    scored = {name: scored_of(evaluation, name) for name in evaluation.rows}
    return compare_all(evaluation.metric, scored, reference, seed=seed)


def quality_ratio(evaluation: Evaluation, candidate: str, reference: str, *, seed: int) -> Interval | None:
    """Quality of one row of `evaluation` over that of another, as `quality_ratios` has it."""
    scored = {name: scored_of(evaluation, name) for name in (candidate, reference)}
    return compare_all(evaluation.metric, scored, reference, seed=seed)[candidate]


def compare_all(metric: str, scored: Mapping[str, Scored], reference: str, *, seed: int) -> dict[str, Interval | None]:
    """By row, its metric over that of the `reference` row on the same examples."""
    itself = {reference: Interval(value=1, low=1, high=1)}
    others = [name for name in scored if name != reference]
    if metric == ACCURACY:
        right = {name: rightness(each) for name, each in scored.items()}
        return {name: itself.get(name) or accuracy_ratio(right[name], right[reference], seed=seed) for name in scored}
    if not others:
        return dict(itself)
    tallies = {name: tally_of(metric, scored[name]) for name in (reference, *others)}
    base, *draws = draw(list(tallies.values()), seed=seed)
    found = {
        name: _compare("ratio", tallies[name], tallies[reference], ours, base)
        for name, ours in zip(others, draws, strict=True)
    }
    return {name: itself.get(name) or found[name] for name in scored}


def compare_two(
    metric: str, kind: Literal["ratio", "difference"], candidate: Scored, reference: Scored, *, seed: int
) -> Interval | None:
    """One row's metric over another's, or less it, paired; None for a ratio to what is not positive."""
    if metric == ACCURACY:
        compare = accuracy_ratio if kind == "ratio" else accuracy_difference
        return compare(rightness(candidate), rightness(reference), seed=seed)
    ours, theirs = tally_of(metric, candidate), tally_of(metric, reference)
    return _compare(kind, ours, theirs, *draw([ours, theirs], seed=seed))


def is_alike(metric: str, candidate: Scored, reference: Scored) -> bool:
    """Whether both rows earn the same on every example."""
    first, second = (tally_of(metric, each).columns for each in (candidate, reference))
    return bool(np.array_equal(first, second))


def rightness(scored: Scored) -> NDArray[np.bool_]:
    """Which examples got their label."""
    return np.asarray(np.asarray(scored.predictions) == np.asarray(scored.truths), dtype=np.bool_)


def _compare(kind: str, ours: Tally, theirs: Tally, drawn: Numbers, drawn_theirs: Numbers) -> Interval | None:
    value, base = ours.value, theirs.value
    if kind == "ratio" and base <= 0:
        return None
    spread = UNSEEN / len(ours.columns) if np.array_equal(ours.columns, theirs.columns) else 0.0
    if kind == "ratio":
        positive = drawn_theirs > 0
        found, spread = interval_of(value / base, drawn[positive] / drawn_theirs[positive]), spread / base
    else:
        found = interval_of(value - base, drawn - drawn_theirs)
    return Interval(value=found.value, low=found.low - spread, high=found.high + spread)


def _measure(metric: str, scored: Mapping[str, Scored], *, seed: int) -> dict[str, Interval]:
    """The metric of every row, with its interval."""
    if metric == ACCURACY:
        return {name: wilson(int(rightness(each).sum()), len(each.truths)) for name, each in scored.items()}
    tallies = {name: tally_of(metric, each) for name, each in scored.items()}
    draws = draw(list(tallies.values()), seed=seed)
    return {name: _interval(each, drawn) for (name, each), drawn in zip(tallies.items(), draws, strict=True)}


def _interval(tally: Tally, drawn: Numbers) -> Interval:
    """Where every draw says the same, as of a row without a fault, widened by what the sample cannot have seen."""
    found = interval_of(tally.value, drawn)
    if found.low < found.high:
        return found
    spread = UNSEEN / len(tally.columns)
    return Interval(
        value=found.value, low=max(found.low - spread, min(found.value, 0.0)), high=min(found.high + spread, 1.0)
    )


def _more(asked: Asked, scored: Mapping[str, Scored]) -> dict[str, dict[str, Scored]]:
    """Further metrics, and the rows that have them. Of labels only accuracy: the others do not suit any number."""
    names = (ACCURACY,) if asked.task == "classification" else metrics_of(asked.task, asked.labels)
    found = {name: dict(scored) for name in names if name != asked.metric}
    deciding = {name: each for name, each in scored.items() if each.none_threshold is not None}
    return found | ({"none_f1": deciding} if deciding else {})


def _parts(asked: Asked) -> dict[str, list[int]]:
    """The examples of each part, in the order in which the parts come up.

    A part from outside the domain is told apart from all that is within: alone it has nothing to be told from.
    """
    places: dict[str, list[int]] = {}
    detects = asked.task == DETECTION
    for place, part in enumerate(asked.groups):
        if part is not None and not (detects and asked.truths[place] == INSIDE):
            places.setdefault(part, []).append(place)
    inside = [place for place, truth in enumerate(asked.truths) if detects and truth == INSIDE]
    return {part: [*inside, *found] for part, found in places.items()}


def _take(scored: Mapping[str, Scored], places: Sequence[int]) -> dict[str, Scored]:
    return {
        name: Scored(
            truths=[each.truths[place] for place in places],
            predictions=[each.predictions[place] for place in places],
            labels=each.labels,
            none_threshold=each.none_threshold,
        )
        for name, each in scored.items()
    }


def _agreement(task: Task, found: Sequence[Answer], reference: Sequence[Answer]) -> Interval | None:
    if task in ("regression", DETECTION):
        return None
    same = sum(said(task, ours) == said(task, theirs) for ours, theirs in zip(found, reference, strict=True))
    return wilson(same, len(found))


def said(task: Task, answer: Answer) -> Answer:
    """What of an answer two rows may have in common: of a ranking the rank, not how sure the row is."""
    return answer[0] if task == "response-selection" and isinstance(answer, tuple) else answer


def _mcnemar(asked: Asked, found: Sequence[Answer], reference: Sequence[Answer]) -> float | None:
    if asked.task != "classification":
        return None
    ours, theirs = (rightness(asked.scored(each)) for each in (found, reference))
    return mcnemar(int((ours & ~theirs).sum()), int((~ours & theirs).sum()))
