"""Metrics of cutting a channel into conversations (NOESIS II, subtask 4): exact matches, information, Rand.

A clustering is a conversation's name for each message. As the task's own script does, exact matches are counted over
conversations of more than one message.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from artifact.errors import BenchError


def cluster_scores(truths: Sequence[Hashable], found: Sequence[Hashable]) -> Mapping[str, float]:
    """Precision, recall and F1 of exact conversations, 1 - VI / log2 N, adjusted Rand and mutual information.

    Raises `BenchError` when the two are not of the same messages, at least one.
    """
    if len(truths) != len(found) or not truths:
        raise BenchError(f"there are conversations for {len(found)} messages, expected {len(truths)} and at least one")
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    codes = [_codes(truths), _codes(found)]
    precision, recall = _exact(truths, found)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "scaled_variation_of_information": scaled_variation(truths, found),
        "adjusted_rand": float(adjusted_rand_score(*codes)),
        "adjusted_mutual_information": float(adjusted_mutual_info_score(*codes)),
    }


def scaled_variation(truths: Sequence[Hashable], found: Sequence[Hashable]) -> float:
    """1 - VI / log2 N, where VI is both conditional entropies in bits (M. Meila, 2007); 1 when the two are one."""
    if len(truths) == 1:
        return 1.0
    joint = _entropy(list(zip(truths, found, strict=True)))
    variation = 2 * joint - _entropy(truths) - _entropy(found)
    return float(1 - variation / np.log2(len(truths)))


def _exact(truths: Sequence[Hashable], found: Sequence[Hashable]) -> tuple[float, float]:
    expected, given = (_conversations(each) for each in (truths, found))
    both = len(expected & given)
    return both / len(given) if given else 0.0, both / len(expected) if expected else 0.0


def _conversations(names: Sequence[Hashable]) -> set[frozenset[int]]:
    members: dict[Hashable, set[int]] = defaultdict(set)
    for message, name in enumerate(names):
        members[name].add(message)
    return {frozenset(each) for each in members.values() if len(each) > 1}


def _entropy(names: Sequence[Hashable]) -> float:
    counts = np.bincount(_codes(names))
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _codes(names: Sequence[Hashable]) -> list[int]:
    known = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return [known[name] for name in names]
