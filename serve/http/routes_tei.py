"""The routes of text-embeddings-inference, shape for shape.

`POST /` is there what its clients call when they are given no more than an address: the route that suits the model.
"""

from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.batching.lane import Lane
from serve.engine import kind_of
from serve.http.body import parse
from serve.http.desk import Desk, phases_of
from serve.http.ranking import labels_of, rank_labels, read_scores
from serve.http.replies import reply
from serve.http.requests import (
    Choice,
    EmbedRequest,
    PredictRequest,
    SimilarityParameters,
    SimilarityRequest,
    TokenizeRequest,
    check_texts,
)
from serve.http.requests_passages import AnswerRequest, TagRequest
from serve.http.requests_rerank import RerankRequest
from serve.http.routes_ours import OurRoutes
from serve.http.routes_rerank import RerankRoute


class _Whole(NamedTuple):
    """A body whose kind is its model's to say."""

    model: str | None
    tree: Any


class TeiRoutes:
    """What each route answers, given the request and the lane it means."""

    def __init__(self, desk: Desk, ours: OurRoutes, reranking: RerankRoute) -> None:
        self._desk = desk
        self._reranking = reranking
        self._ours = ours

    def routes(self) -> list[Route]:
        """All but `POST /`, which shares its path with the page."""
        desk = self._desk
        return [
            Route("/predict", desk.endpoint(PredictRequest, self.predict), methods=["POST"]),
            Route("/embed", desk.endpoint(EmbedRequest, self.embed), methods=["POST"]),
            Route("/rerank", desk.endpoint(RerankRequest, self._reranking.rerank), methods=["POST"]),
            Route("/similarity", desk.endpoint(SimilarityRequest, self.similarity), methods=["POST"]),
            Route("/tokenize", desk.endpoint(TokenizeRequest, self.tokenize), methods=["POST"]),
        ]

    async def root(self, request: Request) -> Response:
        """`/predict`, `/rerank`, `/embed`, `/tag` or `/answer`, whichever suits the model that the request means."""
        return await self._desk.receive(request, lambda tree: _Whole(parse(Choice, tree).model, tree), self._root)

    async def _root(self, asked: _Whole, lane: Lane) -> Response:
        kind, tree = kind_of(lane.engine), asked.tree
        if kind == "classifier":
            return await self.predict(parse(PredictRequest, tree), lane)
        if kind == "reranker":
            return await self._reranking.rerank(parse(RerankRequest, tree), lane)
        if kind == "tagger":
            return await self._ours.tag(parse(TagRequest, tree), lane)
        if kind == "reader":
            return await self._ours.answer(parse(AnswerRequest, tree), lane)
        return await self.embed(parse(EmbedRequest, tree), lane)

    async def predict(self, asked: PredictRequest, lane: Lane) -> Response:
        """Every label with its score, best first: a list for one text or pair, a list of lists for a batch."""
        labels = labels_of(lane.engine)
        texts = check_texts(asked.texts, self._desk.limits)
        answer = await self._desk.ask(lane, texts, truncate=asked.truncate, cut=asked.cut)
        ranked = rank_labels(labels, read_scores(answer, lane.engine, raw=asked.raw_scores))
        return reply(ranked if asked.is_batch else ranked[0], headers=phases_of(lane, answer))

    async def embed(self, asked: EmbedRequest, lane: Lane) -> Response:
        """One vector a text; a list of one for a single text."""
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        check_texts(texts, self._desk.limits)
        vectors, answer = await self._desk.embed(
            lane,
            texts,
            dimensions=asked.dimensions,
            normalized=asked.normalize,
            truncate=asked.truncate,
            cut=asked.cut,
        )
        return reply(vectors.tolist(), headers=phases_of(lane, answer))

    async def similarity(self, asked: SimilarityRequest, lane: Lane) -> Response:
        """The cosine of each sentence's embedding with the source's, in the order of the sentences."""
        parameters = asked.parameters or SimilarityParameters()
        check_texts(asked.inputs.sentences, self._desk.limits)
        check_texts([asked.inputs.source_sentence], self._desk.limits)
        texts = [asked.inputs.source_sentence, *asked.inputs.sentences]
        vectors, answer = await self._desk.embed(lane, texts, truncate=parameters.truncate, cut=parameters.cut)
        return reply((vectors[1:] @ vectors[0]).tolist(), headers=phases_of(lane, answer))

    async def tokenize(self, asked: TokenizeRequest, lane: Lane) -> Response:
        """The tokens of each text, whole, whatever the model's longest input is."""
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        check_texts(texts, self._desk.limits)
        shown = await lane.show_tokens(texts, special=asked.add_special_tokens)
        return reply([[token._asdict() for token in row] for row in shown], headers={"x-model": lane.engine.name})
