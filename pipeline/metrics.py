"""How rows answered the test split: scores of each, and where two of them part ways."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.results import Evaluation, Interval, QualityRow
from pipeline.statistics import accuracy_ratio, mcnemar, wilson


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


def score_rows(
    predictions: Mapping[str, Sequence[int]], reference: str, truths: Sequence[int], *, seed: int
) -> dict[str, QualityRow]:
    """Every row's accuracy, its ratio to and agreement with the `reference` row, with intervals, and McNemar's p."""
    return {name: _score(predictions, name, reference, truths, seed=seed) for name in predictions}


def quality_ratio(evaluation: Evaluation, candidate: str, reference: str, *, seed: int) -> Interval:
    """Accuracy of one row of `evaluation` over that of another, paired; a row over itself is exactly 1."""
    predictions = {name: row.predictions for name, row in evaluation.rows.items()}
    return _ratio(predictions, candidate, reference, evaluation.truths, seed=seed)


def count_discordance(evaluation: Evaluation, candidate: str, reference: str) -> Discordance:
    """On how many examples both rows, one of them, or neither is right."""
    first = _is_right(evaluation.rows[candidate].predictions, evaluation.truths)
    second = _is_right(evaluation.rows[reference].predictions, evaluation.truths)
    return Discordance(
        both_right=int(np.sum(first & second)),
        only_candidate_right=int(np.sum(first & ~second)),
        only_reference_right=int(np.sum(~first & second)),
        both_wrong=int(np.sum(~first & ~second)),
    )


def find_changes(evaluation: Evaluation, candidate: str, reference: str) -> list[Change]:
    """Where `candidate` and `reference` answer differently, the most frequent change first, then by label."""
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    answers = (evaluation.truths, evaluation.rows[reference].predictions, evaluation.rows[candidate].predictions)
    for position, (truth, before, after) in enumerate(zip(*answers, strict=True)):
        if before != after:
            groups[truth, before, after].append(position)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [
        Change(truth=truth, reference=before, candidate=after, examples=tuple(positions))
        for (truth, before, after), positions in ordered
    ]


def _is_right(predictions: Sequence[int], truths: Sequence[int]) -> NDArray[np.bool_]:
    return np.asarray(np.asarray(predictions) == np.asarray(truths), dtype=np.bool_)


def _score(
    predictions: Mapping[str, Sequence[int]], name: str, reference: str, truths: Sequence[int], *, seed: int
) -> QualityRow:
    answers = predictions[name]
    right, reference_right = (_is_right(predictions[row], truths) for row in (name, reference))
    agreeing = int(_is_right(answers, predictions[reference]).sum())
    return QualityRow(
        accuracy=wilson(int(right.sum()), len(truths)),
        ratio=_ratio(predictions, name, reference, truths, seed=seed),
        agreement=wilson(agreeing, len(truths)),
        mcnemar_p=mcnemar(int((right & ~reference_right).sum()), int((~right & reference_right).sum())),
        predictions=tuple(answers),
    )


def _ratio(
    predictions: Mapping[str, Sequence[int]], candidate: str, reference: str, truths: Sequence[int], *, seed: int
) -> Interval:
    if candidate == reference:
        return Interval(value=1, low=1, high=1)
    right, reference_right = (_is_right(predictions[name], truths) for name in (candidate, reference))
    return accuracy_ratio(right, reference_right, seed=seed)
