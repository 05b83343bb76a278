"""OpenAI's routes for embeddings, with its wrapping of answers; `serve.http.replies` shapes faults below `/v1` too."""

import base64
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.batching.lane import Lane
from serve.engine import Floats
from serve.http.desk import Desk, phases_of
from serve.http.replies import Embedding, Embeddings, Model, Models, reply
from serve.http.requests import EmbeddingsRequest, check_texts


class OpenAIRoutes:
    """What each route answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._began = int(time.time())

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/v1/embeddings", self._desk.endpoint(EmbeddingsRequest, self.embeddings), methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
        ]

    async def embeddings(self, asked: EmbeddingsRequest, lane: Lane) -> Response:
        """One vector of length one for each text."""
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        check_texts(texts, self._desk.limits, "input")
        vectors, answer = await self._desk.embed(lane, texts, dimensions=asked.dimensions)
        encoded = encode_base64(vectors) if asked.encoding_format == "base64" else vectors.tolist()
        data: list[Embedding] = [
            {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)
        ]
        tokens = int(answer.outputs.tokens.sum())
        wrapped: Embeddings = {
            "object": "list",
            "data": data,
            "model": lane.engine.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return reply(wrapped, headers=phases_of(lane, answer))

    async def models(self, _: Request) -> Response:
        """The models that give embeddings, which is what these routes are for."""
        names = [name for name, lane in self._desk.roster.lanes.items() if lane.engine.embedding_size]
        data: list[Model] = [
            {"id": name, "object": "model", "created": self._began, "owned_by": "understudy"} for name in names
        ]
        wrapped: Models = {"object": "list", "data": data}
        return reply(wrapped)


def encode_base64(vectors: Floats) -> list[str]:
    """Each row's little-endian float32 bytes."""
    return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors]
