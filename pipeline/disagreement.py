"""Where two rows part ways: labels that changed, and the examples on which one earns most less than the other."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from pipeline.metrics import rightness, said, scored_of
from pipeline.results import Answer, Evaluation
from pipeline.scores.quality import tally_of
from pipeline.scores.tally import Numbers


@dataclass(frozen=True, kw_only=True)
class Discordance:
    """The 2 x 2 table of two rows being right, in numbers of examples."""

    both_right: int
    only_candidate_right: int
    only_reference_right: int
    both_wrong: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """Examples of one truth on which the reference gives one answer and the candidate another; label indices."""

    truth: int
    reference: int
    candidate: int
    examples: tuple[int, ...]
    """Positions in the test file."""


@dataclass(frozen=True, kw_only=True)
class Parting:
    """One example that two rows answer differently."""

    example: int
    """Position in the test file."""
    truth: Answer
    reference: Answer
    candidate: Answer


def count_discordance(evaluation: Evaluation, candidate: str, reference: str) -> Discordance:
    """On how many examples both rows, one of them, or neither is right."""
    first, second = (rightness(scored_of(evaluation, row)) for row in (candidate, reference))
    return Discordance(
        both_right=int(np.sum(first & second)),
        only_candidate_right=int(np.sum(first & ~second)),
        only_reference_right=int(np.sum(~first & second)),
        both_wrong=int(np.sum(~first & ~second)),
    )


def find_changes(evaluation: Evaluation, candidate: str, reference: str) -> list[Change]:
    """Where `candidate` and `reference` give other labels, the most frequent change first, then by label."""
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    answers = (evaluation.truths, evaluation.rows[reference].predictions, evaluation.rows[candidate].predictions)
    for position, labels in enumerate(zip(*answers, strict=True)):
        truth, before, after = cast("tuple[int, int, int]", labels)
        if before != after:
            groups[truth, before, after].append(position)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [
        Change(truth=truth, reference=before, candidate=after, examples=tuple(positions))
        for (truth, before, after), positions in ordered
    ]


def find_partings(evaluation: Evaluation, candidate: str, reference: str) -> list[Parting]:
    """Examples that the two answer differently, what the candidate loses most on first, then in the file's order."""
    answers = [evaluation.rows[row].predictions for row in (reference, candidate)]
    losses = earned(evaluation, reference) - earned(evaluation, candidate)
    apart = [
        place
        for place, (before, after) in enumerate(zip(*answers, strict=True))
        if said(evaluation.task, before) != said(evaluation.task, after)
    ]
    return [
        Parting(example=place, truth=evaluation.truths[place], reference=answers[0][place], candidate=answers[1][place])
        for place in sorted(apart, key=lambda place: (-losses[place], place))
    ]


def earned(evaluation: Evaluation, row: str) -> Numbers:
    """`[examples]`: what the row earns on each alone: 1 for a right label, the metric, or less by how far it is off."""
    scored = scored_of(evaluation, row)
    if evaluation.task == "classification":
        return rightness(scored).astype(float)
    if evaluation.task == "regression":
        truths, found = (np.asarray(cast("Sequence[float]", each)) for each in (scored.truths, scored.predictions))
        return np.asarray(-np.abs(truths - found), dtype=np.float64)
    tally = tally_of(evaluation.metric, scored)
    return tally.score(tally.columns)
