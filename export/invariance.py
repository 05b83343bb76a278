"""Does an answer depend on who shares its batch? Dynamic int8 takes one scale from the whole batch, so it can.

Each text is asked alone, then in shared batches of seeded, random company, padded on the right as serving pads:

    facts = measure_invariance(ask_onnx(open_session(path)), texts, pad_id=source.pad_id)
    facts["labels"]["flips_per_10000"], facts["outputs"]["logits"]["max_abs_deviation"]

Company decides the padding and, in a dynamic int8 graph, every activation's scale; both are measured together.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from artifact.errors import ExportError
from export.answers import Answer, Ask, row_of
from export.grid import Inputs, pad_texts
from export.tasks import VECTOR, Problem
from export.vectors import cosines

_PERCENTILES = {"p99_abs_deviation": 0.99, "p999_abs_deviation": 0.999}
_POSITIONS = ("start_logits", "end_logits")
"""Outputs whose decision is a place in the text, not a column."""


def measure_invariance(
    ask: Ask,
    texts: Sequence[Inputs],
    *,
    pad_id: int,
    problem: Problem | None = None,
    batch_size: int = 32,
    compositions: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """How far answers move, and how many labels flip, when texts share batches instead of being asked alone.

    `texts` are single, unpadded rows of ragged lengths. In each of the `compositions` all of them are shuffled and cut
    into batches of near `batch_size`, so there are texts x compositions answers to compare; of outputs that speak of
    every token only the real tokens count. `problem` is the classifier's, and says what a label is. Raises
    `ExportError` when there are no two texts to share a batch.
    """
    if len(texts) < 2 or batch_size < 2:
        found = f"{len(texts)} texts in batches of {batch_size} share nothing"
        raise ExportError(found, "give calibration at least 2 texts, and batches at least 2 places")
    alone = [ask(text) for text in texts]
    deviations: dict[str, list[float]] = {name: [] for name in alone[0]}
    likeness: list[float] = []
    flips = np.zeros((len(texts), 2), np.int64)  # how many labels flipped, of how many, by text
    for members in _batches(len(texts), batch_size, compositions, seed):
        batch = pad_texts([texts[member] for member in members], pad_id)
        together, kept = ask(batch), batch["attention_mask"].astype(bool)
        for row, member in enumerate(members):
            shared = row_of(together, row, kept)
            for name, expected in alone[member].items():
                deviations[name].append(float(np.abs(shared[name] - expected).max()))
            if VECTOR in shared:
                likeness.append(float(cosines(shared[VECTOR], alone[member][VECTOR])[0]))
            flips[member] += _flips(shared, alone[member], problem)
    outputs: dict[str, dict[str, Any]] = {name: _summarize(found) for name, found in deviations.items()}
    if likeness:
        outputs[VECTOR]["min_cosine"] = float(np.min(likeness))
    return {
        "texts": len(texts),
        "batch_size": batch_size,
        "compositions": compositions,
        "seed": seed,
        "outputs": outputs,
        "labels": _describe_flips(flips),
    }


def upper_bound(events: int, trials: int, *, chance: float = 0.05) -> float:
    """The greatest share at which `events` or fewer in `trials` still have probability `chance`; exact, one-sided.

    Clopper and Pearson, 1934. Without an event this is 1 - chance^(1 / trials); with as many as trials it is 1.
    """
    if events >= trials:
        return 1.0
    low, high = events / trials, 1.0
    for _ in range(60):  # halvings: past the last bit of a float
        middle = (low + high) / 2
        if _probability_of_at_most(events, trials, middle) > chance:
            low = middle
        else:
            high = middle
    return high


def _probability_of_at_most(events: int, trials: int, share: float) -> float:
    """Binomial distribution function, for `share` strictly between 0 and 1."""
    found = np.arange(events + 1)
    ways = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in found]
    return float(np.exp(ways + found * math.log(share) + (trials - found) * math.log1p(-share)).sum())


def _batches(texts: int, batch_size: int, compositions: int, seed: int) -> Iterator[Int[np.ndarray, " members"]]:
    """Members of each shared batch; cut evenly, so that no text is left over to be alone again."""
    random = np.random.default_rng(seed)
    for _ in range(compositions):
        yield from np.array_split(random.permutation(texts), min(math.ceil(texts / batch_size), texts // 2))


def _flips(shared: Answer, alone: Answer, problem: Problem | None) -> tuple[int, int]:
    """How many labels of one text differ, of how many it has."""
    before, after = _labels(alone, problem), _labels(shared, problem)
    return int((before != after).sum()), before.size


def _labels(answer: Answer, problem: Problem | None) -> Int[np.ndarray, " labels"]:
    """What the answer decides: a column for the text or for each of its tokens, yes or no for each column, or a span.

    Nothing where there is nothing to choose: an embedding, or logits of one column.
    """
    if "start_logits" in answer:
        return np.array([answer[name].argmax() for name in _POSITIONS])
    if "logits" not in answer or answer["logits"].shape[-1] == 1 or problem == "regression":
        return np.empty(0, np.int64)
    if problem == "multi-label":
        return np.asarray(answer["logits"] > 0, np.int64).ravel()
    return np.atleast_1d(answer["logits"].argmax(axis=-1))


def _summarize(deviations: Sequence[float]) -> dict[str, Any]:
    """The spread of the answers' deviations, each that of its component which moved most.

    A percentile stands only where ten answers or more lie beyond it; else it is null.
    """
    answers = len(deviations)
    facts: dict[str, Any] = {"answers": answers, "max_abs_deviation": float(np.max(deviations))}
    for name, share in _PERCENTILES.items():
        supported = round(answers * (1 - share), 9) >= 10
        facts[name] = float(np.quantile(deviations, share)) if supported else None
    return facts


def _describe_flips(flips: Int[np.ndarray, "texts 2"]) -> dict[str, Any] | None:
    """Flips among all labels compared, and a bound that holds at 95 %; none where the graph decides nothing.

    The answers of one text in several batches are not independent, nor are the labels of its tokens, so the bound is
    that of texts: of those that flip in any of their batches. It lies above the rate of single answers.
    """
    flipped, compared = (int(total) for total in flips.sum(axis=0))
    if not compared:
        return None
    texts, moved = len(flips), int((flips[:, 0] > 0).sum())
    return {
        "compared": compared,
        "flips": flipped,
        "flips_per_10000": 1e4 * flipped / compared,
        "texts": texts,
        "texts_flipped": moved,
        "texts_flipped_per_10000_upper_95": 1e4 * upper_bound(moved, texts),
    }
