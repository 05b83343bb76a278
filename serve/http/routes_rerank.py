"""`POST /rerank`: text-embeddings-inference's route, and what choosing the next utterance asks beyond it.

A client of theirs meets their list. NONE, turns and a retriever are asked for by fields of our own (docs/selection.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from serve.batching.lane import Answer, Lane
from serve.engine import Floats, kind_of
from serve.http.desk import Desk, phases_of
from serve.http.ranking import read_scores
from serve.http.replies import NoneOfThem, Rank, reply
from serve.http.requests import check_texts
from serve.http.requests_rerank import RerankRequest
from serve.problem import Problem
from serve.selection.cache import CandidateCache
from serve.selection.config import MOST_RESCORED, SelectionConfig

RETRIEVER = "x-retriever"
"""Header: which model picked the texts that were read, where not all were."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """What a model says of some texts, in their order."""

    shown: Floats
    """What the request asks for."""
    chances: Floats
    """Probabilities of being right, or cosines."""
    answer: Answer


class RerankRoute:
    """What it answers, given the request and the lane it means."""

    def __init__(self, desk: Desk, cache: CandidateCache, selection: Mapping[str, SelectionConfig]) -> None:
        self._desk = desk
        self._cache = cache
        self._selection = selection

    async def rerank(self, asked: RerankRequest, lane: Lane) -> Response:
        """The texts' places, best first: by the model's one column for each pair, else by cosine of embeddings.

        `Problem` 422 for a model of several labels, none of which says how well a text answers, and for what a model
        of its kind does not give; 404 for a retriever that is not served.
        """
        _check_ranks(asked, lane)
        retriever, most = self._find_retriever(asked, lane)
        check_texts([(asked.asked, text) for text in asked.texts], self._desk.limits, "texts")
        texts = asked.texts if asked.return_text else None
        if retriever is None:
            scored = await self._score(asked, lane, asked.texts)
            ranks, headers = rank_texts(scored.shown, texts), phases_of(lane, scored.answer)
        elif len(asked.texts) <= most:
            scored = await self._score(asked, lane, asked.texts)
            ranks, headers = rank_texts(scored.shown, texts, rescored=True), phases_of(lane, scored.answer)
        else:
            found = await self._score(asked, retriever, asked.texts)
            # In the order they were sent, which is what equal scores keep.
            best, rest = (np.sort(part) for part in np.split(np.argsort(-found.shown, kind="stable"), [most]))
            scored = await self._score(asked, lane, [asked.texts[index] for index in best])
            ranks = rank_texts(scored.shown, texts, best, rescored=True)
            ranks += rank_texts(found.shown[rest], texts, rest, rescored=False)
            headers = phases_of(lane, _add_times(scored.answer, found.answer)) | {RETRIEVER: retriever.engine.name}
        if not asked.return_none:
            return reply(ranks, headers=headers)
        return reply({"ranks": ranks, "none": self._judge_none(lane, scored.chances)}, headers=headers)

    async def _score(self, asked: RerankRequest, lane: Lane, texts: Sequence[str]) -> _Scored:
        if kind_of(lane.engine) == "reranker":
            pairs = [(asked.asked, text) for text in texts]
            answer = await self._desk.ask(lane, pairs, truncate=asked.truncate, cut=asked.end)
            shown, chances = (read_scores(answer, lane.engine, raw=raw)[:, 0] for raw in (asked.raw_scores, False))
            return _Scored(shown=shown, chances=chances, answer=answer)
        vectors, answer = await self._desk.embed(
            lane, [asked.asked, *texts], truncate=asked.truncate, cut=asked.end, run=partial(self._cache.run, lane)
        )
        cosines = vectors[1:] @ vectors[0]
        return _Scored(shown=cosines, chances=cosines, answer=answer)

    def _find_retriever(self, asked: RerankRequest, lane: Lane) -> tuple[Lane | None, int]:
        """Who picks, and how many."""
        configured = self._selection.get(lane.engine.name, SelectionConfig())
        name = asked.retriever or configured.retriever
        if name is None:
            if asked.k is not None:
                raise Problem(422, "Validation", "`k` is how many a `retriever` picks, and none is named", param="k")
            return None, 0
        retriever = self._desk.find(name, "retriever")
        if kind_of(lane.engine) != "reranker":
            raise Problem(422, "Validation", f"{lane.engine.name} reads no pairs, it needs no retriever", param="model")
        if kind_of(retriever.engine) != "embedding":
            message = f"{retriever.engine.name} is no embedding model, it cannot be a retriever"
            raise Problem(422, "Validation", message, param="retriever")
        return retriever, asked.k or (configured.k if configured.retriever else MOST_RESCORED)

    def _judge_none(self, lane: Lane, chances: Floats) -> NoneOfThem:
        score = 1 - float(chances.max())
        threshold = self._threshold_of(lane)
        return {"score": score, "threshold": threshold, "flag": None if threshold is None else score > threshold}

    def _threshold_of(self, lane: Lane) -> float | None:
        """None also where the model was swapped for another bundle than the threshold was chosen for."""
        configured = self._selection.get(lane.engine.name, SelectionConfig())
        strange = configured.digest is not None and configured.digest != getattr(lane.engine, "digest", None)
        return None if strange else configured.none_threshold


def rank_texts(
    scores: Floats,
    texts: Sequence[str] | None,
    places: Sequence[int] | NDArray[np.intp] | None = None,
    *,
    rescored: bool | None = None,
) -> list[Rank]:
    """Each text's place and score, highest first; equal scores keep the order they were sent in.

    The texts themselves are repeated where all of them are given. `places` says which of them `scores` are of, where
    these are of some.
    """
    ranks: list[Rank] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        rank: Rank = {"index": row if places is None else int(places[row]), "score": float(scores[row])}
        if texts is not None:
            rank["text"] = texts[rank["index"]]
        if rescored is not None:
            rank["rescored"] = rescored
        ranks.append(rank)
    return ranks


def _check_ranks(asked: RerankRequest, lane: Lane) -> None:
    engine = lane.engine
    if kind_of(engine) == "classifier":
        message = f"{engine.name} tells {len(engine.labels)} labels apart, it does not rank"
        raise Problem(422, "Validation", message, param="model")
    if asked.return_none and engine.problem == "regression":
        message = f"{engine.name} measures a quantity, it knows no chance that none is right"
        raise Problem(422, "Validation", message, param="return_none")


def _add_times(answer: Answer, other: Answer) -> Answer:
    return replace(
        answer,
        tokenization=answer.tokenization + other.tokenization,
        queue=answer.queue + other.queue,
        inference=answer.inference + other.inference,
    )
