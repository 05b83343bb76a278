"""A bi-encoder picks, a cross-encoder reads what it picked: quality and milliseconds of both, as /rerank works.

found = measure_rerank(Path("out/noesis-cross"), "retriever/int8", "student/int8", k=10)
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import Example, pick_evenly, read_info, read_split
from artifact.progress import progress
from pipeline.asking.ranking import run_queries
from pipeline.metrics import Asked, score_all
from pipeline.results import Answer, NoneThreshold
from pipeline.rows import Row, opener
from pipeline.scores.selection import choose_none_threshold
from serve.engine import Floats, normalize
from serve.threads import available_cores

VALIDATION_QUERIES = 100
"""Queries that the threshold for NONE is chosen on."""
TIMED = 20
"""Queries timed, evenly spaced over the test split."""


@dataclass(frozen=True)
class Pair:
    """Who picks, how many, and who reads."""

    retriever: Row
    reader: Row
    k: int

    def picks(self, cosines: Floats) -> Floats:
        """Places of the candidates that are read, best first; of equals, the earlier."""
        return np.argsort(-cosines, kind="stable")[: self.k]

    def read(self, example: Example, cosines: Floats) -> tuple[float, float]:
        """Rank of the right candidate (0 where none is), and the best of the scores that were read.

        Those that were not read follow in the retriever's order.
        """
        candidates = example.candidates or ()
        picked = [int(place) for place in self.picks(cosines)]
        (scores,) = run_queries(self.reader, [(example.text, *(candidates[place] for place in picked))])
        best = float(scores.max())
        if example.label < 0:
            return 0.0, best
        if example.label not in picked:
            order = np.argsort(-cosines, kind="stable")
            return 1.0 + int(np.flatnonzero(order == example.label)[0]), best
        own = scores[picked.index(example.label)]
        return 1 + float((scores > own).sum()) + (float((scores == own).sum()) - 1) / 2, best


def measure_rerank(root: Path, retriever: str, reader: str, k: int) -> dict[str, Any]:
    """Scores of the pair below the output folder `root`, on its test split, and what single queries take.

    The threshold for NONE is chosen on the validation split, for what was read alone.
    """
    threads = available_cores()
    pair = Pair(opener(retriever, root, threads)(), opener(reader, root, threads)(), k)
    test = read_split(root / "data", "test")
    validation = pick_evenly(read_split(root / "data", "validation"), VALIDATION_QUERIES)
    name = f"{retriever} picks {k}, {reader} reads"
    with progress("rerank", total=len(test) + len(validation)) as advance:
        chosen = _answers(pair, validation, lambda: advance(1, name))
        answers = _answers(pair, test, lambda: advance(1, name))
    labels = [example.label for example in validation]
    threshold = choose_none_threshold([1 - best for _, best in chosen], labels)
    info = read_info(root / "data")
    asked = Asked(truths=[example.label for example in test], task=info.task, metric=info.quality, labels=info.labels)
    predictions: dict[str, Sequence[Answer]] = {name: answers}
    limits = {name: NoneThreshold(value=min(threshold, 2.0), queries=len(validation))}
    row = score_all(asked, predictions, name, seed=1, thresholds=limits)[name]
    times = _time(pair, pick_evenly(test, TIMED))
    found = {"name": name, "picks": retriever, "reads": reader, "k": k, "threads": threads}
    return {**found, "row": row.model_dump(mode="json"), **times}


def _answers(pair: Pair, examples: Sequence[Example], step: Callable[[], None]) -> list[tuple[float, float]]:
    texts = list(dict.fromkeys(text for example in examples for text in (example.text, *(example.candidates or ()))))
    vectors = normalize(pair.retriever.run(texts).embeddings)
    known = dict(zip(texts, vectors, strict=True))
    answers = []
    for example in examples:
        cosines = np.stack([known[text] for text in example.candidates or ()]) @ known[example.text]
        answers.append(pair.read(example, cosines))
        step()
    return answers


def _time(pair: Pair, examples: Sequence[Example]) -> dict[str, list[float]]:
    """Milliseconds of each query: with all candidates new, with their vectors kept, and with all read by the reader."""
    pair.reader.run([(examples[0].text, "warm"), *((examples[0].text, text) for text in examples[0].candidates or ())])
    found: dict[str, list[float]] = {"new_ms": [], "kept_ms": [], "all_read_ms": []}
    for example in examples:
        candidates = list(example.candidates or ())
        begun = time.perf_counter()
        kept = normalize(pair.retriever.run(candidates).embeddings)
        embedded = time.perf_counter()
        (query,) = normalize(pair.retriever.run([example.text]).embeddings)
        pair.read(example, kept @ query)
        done = time.perf_counter()
        run_queries(pair.reader, [(example.text, *candidates)])
        found["new_ms"].append(1e3 * (done - begun))
        found["kept_ms"].append(1e3 * (done - embedded))
        found["all_read_ms"].append(1e3 * (time.perf_counter() - done))
    return found
