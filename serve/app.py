"""The HTTP application: routes shaped as text-embeddings-inference's, over any engines.

    app = create_app({"student/int8": runtime}, default="student/int8", limits=Limits())

    POST /predict   label probabilities        GET /info     what answers, and its limits
    POST /embed     vectors                    GET /health   200 once every model is warm
    GET  /          a page to try it           GET /metrics  for Prometheus
    GET  /openapi.json   all of it, for machines

Every fault is JSON, `{"error": ..., "error_type": ...}`. Texts are never logged.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from artifact.errors import ServeError
from serve.boundary import Boundary
from serve.engine import Engine, Floats, normalize, scores_of
from serve.lane import Answer, Lane
from serve.metrics import CONTENT_TYPE, Metrics
from serve.openapi import describe_api
from serve.replies import Problem, quote, reply
from serve.requests import EmbedRequest, Limits, PredictRequest, RequestType, parse, read_body, texts_of

WARM_UP = ("warm", "warm up " * 32)
"""Two lengths, so that the first request meets a graph that has run and an allocator that has grown."""

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def create_app(
    engines: Mapping[str, Engine], default: str, limits: Limits, about: Mapping[str, Any] | None = None
) -> Starlette:
    """The application over `engines` by name, of which `default` answers when a request names none.

    A name may also be asked for without its precision: that of the default where it is the default's model, else
    the first given. `about` joins the answer of `/info`. The models are warmed in the application's lifespan.
    Raises `ServeError` when there is no engine `default`.
    """
    metrics = Metrics()
    lanes = {name: Lane(engine, limits.queued_tokens, metrics) for name, engine in engines.items()}
    service = _Service(
        lanes=lanes,
        aliases=find_aliases(list(lanes), default),
        default=default,
        limits=limits,
        metrics=metrics,
        about=dict(about or {}),
    )
    routes = [
        Route("/", service.page, methods=["GET"]),
        Route("/predict", service.predict, methods=["POST"]),
        Route("/embed", service.embed, methods=["POST"]),
        Route("/info", service.info, methods=["GET"]),
        Route("/health", service.health, methods=["GET"]),
        Route("/openapi.json", service.openapi, methods=["GET"]),
        Route("/metrics", service.metrics_page, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Boundary, metrics=metrics, routes=frozenset(route.path for route in routes))],
        exception_handlers={Problem: _tell_problem, HTTPException: _tell_http, ClientDisconnect: _tell_nobody},
        lifespan=service.lifespan,
    )
    app.router.redirect_slashes = False
    return app


def find_aliases(names: list[str], default: str) -> dict[str, str]:
    """Every name a request may use, to the engine meant; `ServeError` when `default` means none."""
    aliases: dict[str, str] = {}
    for name in names:
        aliases.setdefault(name.partition("/")[0], name)
    aliases |= {name: name for name in names}
    if default not in aliases:
        raise ServeError(f"there is no model {default!r} to answer by default", f"name one of {', '.join(names)}")
    chosen = aliases[default]
    return aliases | {chosen.partition("/")[0]: chosen}


@dataclass(kw_only=True)
class _Service:
    """The routes, over what `create_app` was given."""

    lanes: dict[str, Lane]
    aliases: dict[str, str]
    default: str
    limits: Limits
    metrics: Metrics
    about: dict[str, Any]
    ready: bool = False

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        for lane in self.lanes.values():
            for text in WARM_UP:
                await lane.run([text])
        self.ready = True
        yield
        self.ready = False
        for lane in self.lanes.values():
            lane.close()

    async def predict(self, request: Request) -> Response:
        asked, lane = await self._receive(request, PredictRequest)
        labels = list(lane.engine.labels)
        if not labels:
            raise Problem(422, "Validation", f"{lane.engine.name} has no labels to predict")
        answer = await self._ask(lane, asked)
        logits = answer.outputs.logits
        scores = logits if asked.raw_scores else scores_of(logits, lane.engine.problem)
        ranked = rank(labels, scores)
        return reply(ranked[0] if isinstance(asked.inputs, str) else ranked, headers=_phases(lane, answer))

    async def embed(self, request: Request) -> Response:
        asked, lane = await self._receive(request, EmbedRequest)
        if not lane.engine.embedding_size:
            raise Problem(422, "Validation", f"{lane.engine.name} gives no embedding")
        answer = await self._ask(lane, asked)
        embeddings = answer.outputs.embeddings
        vectors = normalize(embeddings) if asked.normalize else embeddings
        return reply(vectors.tolist(), headers=_phases(lane, answer))

    async def info(self, _: Request) -> Response:
        models = [_describe(lane.engine) for lane in self.lanes.values()]
        limits = self.limits.model_dump(mode="json")
        return reply({"default": self.aliases[self.default], "models": models, "limits": limits, **self.about})

    async def health(self, _: Request) -> Response:
        if not self.ready:
            raise Problem(503, "Unhealthy", "the models are not warm yet")
        return reply({"status": "ready"})

    async def metrics_page(self, _: Request) -> Response:
        return Response(self.metrics.render(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        return reply(describe_api(self.limits))

    async def page(self, _: Request) -> Response:
        return HTMLResponse(_read_page(), headers={"content-security-policy": PAGE_POLICY})

    async def _receive(self, request: Request, kind: type[RequestType]) -> tuple[RequestType, Lane]:
        asked = parse(kind, await read_body(request, self.limits))
        name = asked.model or request.headers.get("x-model") or self.default
        if name not in self.aliases:
            raise Problem(404, "Validation", f"there is no model {quote(name)}, there is {', '.join(self.aliases)}")
        return asked, self.lanes[self.aliases[name]]

    async def _ask(self, lane: Lane, asked: PredictRequest | EmbedRequest) -> Answer:
        answer = await lane.run(texts_of(asked, self.limits))
        truncated = answer.outputs.truncated
        if not asked.truncate and truncated is not None and truncated.any():
            message = f"a text is longer than {lane.engine.max_tokens} tokens and `truncate` is false"
            raise Problem(413, "Validation", message)
        return answer


def rank(labels: list[str], scores: Floats) -> list[list[dict[str, Any]]]:
    """For each row every label with its score, highest first; equal scores keep the labels' order."""
    orders = np.argsort(-scores, axis=1, kind="stable").tolist()
    pairs = zip(orders, scores.tolist(), strict=True)
    return [[{"label": labels[column], "score": row[column]} for column in order] for order, row in pairs]


def _phases(lane: Lane, answer: Answer) -> dict[str, str]:
    return {
        "x-model": lane.engine.name,
        "x-tokenization-time": f"{answer.tokenization * 1e3:.3f}",
        "x-queue-time": f"{answer.queue * 1e3:.3f}",
        "x-inference-time": f"{answer.inference * 1e3:.3f}",
    }


def _describe(engine: Engine) -> dict[str, Any]:
    labels = list(engine.labels)
    return {
        "id": engine.name,
        "precision": engine.name.partition("/")[2],
        "labels": labels,
        "labels_count": len(labels),
        "embedding_size": engine.embedding_size,
        "max_tokens": engine.max_tokens,
    }


async def _tell_problem(_: Request, problem: Exception) -> Response:
    return problem.reply() if isinstance(problem, Problem) else reply({}, 500)


async def _tell_http(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    words = {404: "there is no such route", 405: "this route does not take that method"}
    return Problem(
        status, "Validation", words.get(status, "the request failed"), getattr(error, "headers", None)
    ).reply()


async def _tell_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=499)


@cache
def _read_page() -> str:
    return (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
