"""Metrics of extractive question answering with unanswerable questions: exact match and word F1, as SQuAD 2.0 has them.

Rajpurkar et al., 2018 (arXiv 1806.03822): answers are compared without case, punctuation, articles and spare space;
each question counts the best of its references, and one without an answer counts 1 for saying so, else 0.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from artifact.errors import BenchError
from pipeline.scores.tally import Tally, mean_tally

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(references: Sequence[Sequence[str]], answers: Sequence[str]) -> Tally:
    """Share of the questions whose answer is one of its references; an empty answer says that there is none."""
    return mean_tally("exact_match", [_best(_same, r, a) for r, a in _questions(references, answers)])


def word_f1(references: Sequence[Sequence[str]], answers: Sequence[str]) -> Tally:
    """Mean over questions of the overlap in words with the closest reference."""
    return mean_tally("word_f1", [_best(_overlap, r, a) for r, a in _questions(references, answers)])


def normalize_answer(text: str) -> str:
    """What is compared of an answer."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def choose_threshold(margins: Sequence[float], answered: Sequence[float], unanswered: Sequence[float]) -> float:
    """The margin of answer over no answer, above which answering gives the best mean; chosen on validation alone.

    `answered` is what each question counts when it is answered, `unanswered` when it is not. Halfway between the two
    margins around the best cut, and infinite when it is best never to answer.
    """
    order = np.argsort(np.asarray(margins, dtype=float))[::-1]
    gains = (np.asarray(answered, dtype=float) - np.asarray(unanswered, dtype=float))[order]
    ascending = np.asarray(margins, dtype=float)[order]
    # A cut within equal margins cannot be made.
    ends = np.flatnonzero(np.append(ascending[1:] < ascending[:-1], True)) if len(ascending) else np.array([], np.intp)
    totals = np.concatenate([[0.0], np.cumsum(gains)[ends]])
    best = int(totals.argmax())
    if best == 0:
        return float("inf")
    last = ends[best - 1]
    below = ascending[last + 1] if last + 1 < len(ascending) else ascending[last] - 2.0
    return float((ascending[last] + below) / 2)


def _best(score: Callable[[str, str], float], references: Sequence[str], answer: str) -> float:
    # A reference of articles alone is one that nobody can match.
    known = [reference for reference in references if normalize_answer(reference)] or [""]
    return max(score(normalize_answer(reference), normalize_answer(answer)) for reference in known)


def _same(reference: str, answer: str) -> float:
    return float(reference == answer)


def _overlap(reference: str, answer: str) -> float:
    expected, found = reference.split(), answer.split()
    if not expected or not found:
        return float(expected == found)
    common = sum((Counter(expected) & Counter(found)).values())
    return 2 * common / (len(expected) + len(found))


def _questions(references: Sequence[Sequence[str]], answers: Sequence[str]) -> list[tuple[Sequence[str], str]]:
    if len(references) != len(answers):
        raise BenchError(f"there are {len(answers)} answers to {len(references)} questions")
    return list(zip(references, answers, strict=True))
