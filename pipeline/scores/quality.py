"""The metrics that quality can be: how each is called, written and computed from answers, in one table.

    tally_of("span_f1", Scored(truths=truths, predictions=predictions, labels=labels)).value

The names are those of `artifact.dataset.METRICS`, and `none_f1` beside them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from artifact.errors import BenchError
from pipeline.results import Answer
from pipeline.scores import answers, domain, labels, selection, spans
from pipeline.scores.tally import Tally


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One row's answers, and what they are scored against; of each task as `pipeline.results.Answer` says."""

    truths: Sequence[Answer]
    predictions: Sequence[Answer]
    labels: Sequence[str] = ()
    none_threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One metric."""

    word: str
    """In a sentence: `keeps 98 % of the accuracy of teacher/pytorch`."""
    header: str
    """Of a column."""
    meaning: str
    tally: Callable[[Scored], Tally]
    is_share: bool = True
    """Whether it is written as a percentage; a correlation is not."""


def tally_of(metric: str, scored: Scored) -> Tally:
    """What each example adds to that metric; `BenchError` for one that is not known, or does not fit the labels."""
    if metric not in QUALITIES:
        raise BenchError(f"{metric!r} is no metric that we know", f"there are {', '.join(QUALITIES)}")
    return QUALITIES[metric].tally(scored)


def span_f1_of(scored: Scored, label: str | None = None) -> Tally:
    """F1 of spans of one label, such as `PER`, or of all."""
    return spans.span_f1(_tags(scored, scored.truths), _tags(scored, scored.predictions), label=label)


def _accuracy(scored: Scored) -> Tally:
    return labels.accuracy(_ints(scored.truths), _ints(scored.predictions))


def _of_two(score: Callable[[Sequence[int], Sequence[int]], Tally], scored: Scored) -> Tally:
    if len(scored.labels) != 2:
        problem = f"F1 and Matthews' correlation are of 2 labels, the data set has {len(scored.labels)}"
        raise BenchError(problem, "set data.metric to accuracy or macro_f1")
    return score(_ints(scored.truths), _ints(scored.predictions))


def _macro_f1(scored: Scored) -> Tally:
    return labels.macro_f1(_ints(scored.truths), _ints(scored.predictions), labels=len(scored.labels))


def _correlation(score: Callable[[Sequence[float], Sequence[float]], Tally], scored: Scored) -> Tally:
    return score(cast("Sequence[float]", scored.truths), cast("Sequence[float]", scored.predictions))


def _tag_accuracy(scored: Scored) -> Tally:
    return spans.tag_accuracy(_tags(scored, scored.truths), _tags(scored, scored.predictions))


def _texts(score: Callable[[Sequence[Sequence[str]], Sequence[str]], Tally], scored: Scored) -> Tally:
    return score(cast("Sequence[Sequence[str]]", scored.truths), cast("Sequence[str]", scored.predictions))


def _ranked(score: Callable[[NDArray[np.float64]], Tally], scored: Scored) -> Tally:
    ranks = np.array([rank for rank, _ in _rankings(scored)], dtype=float)
    return score(np.where(ranks > 0, ranks, np.inf))


def _none_f1(scored: Scored) -> Tally:
    found = [1 - best for _, best in _rankings(scored)]
    threshold = np.inf if scored.none_threshold is None else scored.none_threshold
    return selection.none_f1(found, _ints(scored.truths), threshold=float(threshold))


def _ints(found: Sequence[Answer]) -> Sequence[int]:
    return cast("Sequence[int]", found)


def _rankings(scored: Scored) -> Sequence[tuple[float, float]]:
    return cast("Sequence[tuple[float, float]]", scored.predictions)


def _tags(scored: Scored, found: Sequence[Answer]) -> list[list[str]]:
    return [[scored.labels[index] for index in tags] for tags in cast("Sequence[Sequence[int]]", found)]


def _auroc(scored: Scored) -> Tally:
    return domain.area(_ints(scored.truths), cast("Sequence[float]", scored.predictions))


_RIGHT = "of the queries that have a right candidate"

QUALITIES: Mapping[str, Quality] = {
    "accuracy": Quality(
        word="accuracy", header="accuracy", meaning="share of the test examples answered correctly", tally=_accuracy
    ),
    "f1": Quality(
        word="F1", header="F1", meaning="harmonic mean of precision and recall of the second label",
        tally=partial(_of_two, labels.f1),
    ),
    "macro_f1": Quality(
        word="macro F1", header="macro F1", meaning="mean over the labels of each one's F1", tally=_macro_f1
    ),
    "matthews_correlation": Quality(
        word="Matthews correlation", header="Matthews", meaning="correlation of the labels with the true ones",
        tally=partial(_of_two, labels.matthews_correlation), is_share=False,
    ),
    "spearman": Quality(
        word="Spearman correlation", header="Spearman", meaning="correlation of ranks with those of the truth",
        tally=partial(_correlation, labels.spearman), is_share=False,
    ),
    "pearson": Quality(
        word="Pearson correlation", header="Pearson", meaning="linear correlation with the true quantities",
        tally=partial(_correlation, labels.pearson), is_share=False,
    ),
    "span_f1": Quality(
        word="span F1", header="span F1", meaning="harmonic mean of precision and recall of exact spans",
        tally=span_f1_of,
    ),
    "tag_accuracy": Quality(
        word="tag accuracy", header="tag accuracy", meaning="share of the words with the right tag", tally=_tag_accuracy
    ),
    "word_f1": Quality(
        word="word F1", header="word F1", meaning="mean overlap in words with the closest answer (SQuAD 2.0)",
        tally=partial(_texts, answers.word_f1),
    ),
    "exact_match": Quality(
        word="exact match", header="exact match", meaning="share of the questions with one of their answers",
        tally=partial(_texts, answers.exact_match),
    ),
    "mean_mrr_recall_10": Quality(
        word="mean of MRR and R@10", header="MRR/R@10", meaning=f"mean of MRR and recall at 10, {_RIGHT}",
        tally=partial(_ranked, selection.track_score),
    ),
    "mrr": Quality(
        word="MRR", header="MRR", meaning=f"mean of 1 / rank of the right candidate, {_RIGHT}",
        tally=partial(_ranked, selection.mean_reciprocal_rank), is_share=False,
    ),
    **{
        f"recall_{k}": Quality(
            word=f"R@{k}", header=f"R@{k}", meaning=f"share {_RIGHT} with it among their first {k}",
            tally=partial(_ranked, partial(selection.recall_at, k=k)),
        )
        for k in (1, 2, 5, 10)
    },
    "auroc": Quality(
        word="AUROC", header="AUROC", meaning="chance that a text from outside is farther than one of the domain",
        tally=_auroc,
    ),
    "none_f1": Quality(
        word="NONE F1", header="NONE F1", meaning="F1 of saying that no candidate is right", tally=_none_f1
    ),
}  # fmt: skip
"""In the order in which further metrics are shown."""
