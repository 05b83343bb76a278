"""Candidates put in order, as `/rerank` does: by the one column for each pair, else by cosine of embeddings.

Of each query its right candidate's rank and the best score are kept, not the scores of all. Pairs are asked query by
query; candidates are embedded once each, however many queries they stand in, `4 * hidden` bytes a text.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from artifact.dataset import Example, pick_evenly
from artifact.errors import DataError
from pipeline.asking.asked import Asking, Found, Step, check_finite, chunks
from pipeline.results import Answer, NoneThreshold
from pipeline.rows import Row
from pipeline.scores.selection import choose_none_threshold, ranks_of
from serve.engine import Floats, normalize, scores_of

VALIDATION_QUERIES = 500
"""Queries of the validation split that the threshold is chosen on, spread evenly over it."""


def ask_ranks(asking: Asking, examples: Sequence[Example], step: Step) -> Found:
    """Rank of each query's right candidate (0 where none is right), and the best score."""
    answers: list[Answer] = []
    score = _score_pairs if asking.engine.labels else _score_cosines
    for example, scores in zip(examples, score(asking, examples, step), strict=True):
        check_finite(asking.row, scores)
        rank = float(ranks_of([scores.tolist()], [example.label])[0])
        answers.append((rank if np.isfinite(rank) else 0.0, float(scores.max())))
    return Found(answers=answers, strangeness=np.empty(0))


def choose_threshold(asking: Asking, validation: Sequence[Example], step: Step) -> NoneThreshold | None:
    """The score below which the row says NONE, chosen on validation queries; None where there are none."""
    asked = pick_evenly(validation, VALIDATION_QUERIES)
    if not asked:
        return None
    found = ask_ranks(asking, asked, step).answers
    scores = [1 - float(answer[1]) for answer in found if isinstance(answer, tuple)]
    value = choose_none_threshold(scores, [example.label for example in asked])
    # A cosine is at least -1, so no score is above 2: it is best never to say NONE.
    return NoneThreshold(value=min(value, 2.0), queries=len(asked))


def run_queries(engine: Row, queries: Sequence[tuple[str, ...]]) -> list[Floats]:
    """The scores of each query's candidates; a query is its context, then its candidates."""
    texts = [(context, candidate) for context, *candidates in queries for candidate in candidates]
    ends = np.cumsum([len(query) - 1 for query in queries])[:-1]
    if engine.labels:
        return np.split(scores_of(engine.run(texts).logits, None)[:, 0], ends)
    flat = [text for query in queries for text in query]
    vectors = np.split(normalize(engine.run(flat).embeddings), np.cumsum([len(query) for query in queries])[:-1])
    return [query[1:] @ query[0] for query in vectors]


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryRow:
    """A row whose calls are about whole queries, for the benchmark: latency is then of all candidates together."""

    engine: Row

    @property
    def threads(self) -> int:
        """The row's."""
        return self.engine.threads

    @property
    def size_bytes(self) -> int:
        """The row's."""
        return self.engine.size_bytes

    def run(self, texts: Sequence[tuple[str, ...]]) -> list[Floats]:
        """The scores of each query's candidates; a query is its context, then its candidates."""
        return run_queries(self.engine, texts)


def open_queries(open_engine: Callable[[], Row]) -> Callable[[], QueryRow]:
    """What opens a row for queries; it can be pickled where `open_engine` can."""
    return partial(_open_queries, open_engine)


def _open_queries(open_engine: Callable[[], Row]) -> QueryRow:
    return QueryRow(engine=open_engine())


def _score_pairs(asking: Asking, examples: Sequence[Example], step: Step) -> Iterator[Floats]:
    for example in examples:
        (scores,) = run_queries(asking.engine, [(example.text, *_candidates(example))])
        yield scores
        step(1)


def _score_cosines(asking: Asking, examples: Sequence[Example], step: Step) -> Iterator[Floats]:
    """Steps go with the candidates, which are nearly all of the work."""
    known = {text: place for place, text in enumerate(dict.fromkeys(t for e in examples for t in _candidates(e)))}
    parts: list[Floats] = []
    embedded = told = 0
    for chunk in chunks(list(known)):
        parts.append(_embed(asking.engine, chunk))
        embedded += len(chunk)
        step(len(examples) * embedded // len(known) - told)
        told = len(examples) * embedded // len(known)
    table = np.concatenate(parts)
    for queries in chunks(examples):
        contexts = _embed(asking.engine, [example.text for example in queries])
        for example, context in zip(queries, contexts, strict=True):
            yield table[[known[text] for text in _candidates(example)]] @ context


def _embed(engine: Row, texts: Sequence[str]) -> Floats:
    return normalize(engine.run(texts).embeddings)


def _candidates(example: Example) -> tuple[str, ...]:
    if not example.candidates:
        raise DataError("a query of the test or validation split has no candidates", "give each row some")
    return example.candidates
