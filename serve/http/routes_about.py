"""What the service says of itself: to people at `/` and `/docs`, to clients at `/info`, to probes and scrapers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve import VERSION
from serve.engine import Engine, kind_of
from serve.http.desk import Desk
from serve.http.domain import threshold_of
from serve.http.openapi import describe_api
from serve.http.pages import show_page
from serve.http.replies import reply
from serve.metrics import CONTENT_TYPE, Metrics
from serve.problem import Problem
from serve.runtime import Runtime
from serve.trust.cascade import CascadeEngine


@dataclass(kw_only=True)
class AboutRoutes:
    """What each route answers."""

    desk: Desk
    metrics: Metrics
    about: Mapping[str, Any]
    """Joins the answer of `/info`."""
    broken: Callable[[], bool] = lambda: False
    """Whether nothing more can be computed."""
    ready: bool = False
    """Whether every model is warm."""

    def routes(self) -> list[Route]:
        """All but `GET /`, which shares its path with `POST /`."""
        return [
            Route("/docs", self.docs, methods=["GET"]),
            Route("/info", self.info, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/metrics", self.metrics_page, methods=["GET"]),
        ]

    async def page(self, _: Request) -> Response:
        """A page to try the models on."""
        return show_page("page.html")

    async def docs(self, _: Request) -> Response:
        """The description of the routes, for people."""
        return show_page("docs.html")

    async def info(self, _: Request) -> Response:
        """Of the default in text-embeddings-inference's words, then of all."""
        desk = self.desk
        default = desk.roster.aliases[desk.roster.default]
        engines = [lane.engine for lane in desk.roster.lanes.values()]
        runtimes = [engine for engine in engines if isinstance(engine, Runtime)]
        # Asked for now, and not told once: a bundle may have been swapped for another.
        digests = {runtime.name: runtime.bundle.digest for runtime in runtimes}
        return reply(
            {
                **describe_default(desk, desk.roster.lanes[default].engine, digests.get(default)),
                "default": default,
                "models": [_describe(engine) for engine in engines],
                "limits": desk.limits.model_dump(mode="json"),
                "digests": digests,
                "size_bytes": {runtime.name: runtime.size_bytes for runtime in runtimes},
                **self.about,
            }
        )

    async def health(self, _: Request) -> Response:
        """200 once every model is warm."""
        if not self.ready:
            raise Problem(503, "Unhealthy", "the models are not warm yet")
        if self.broken():
            raise Problem(503, "Unhealthy", "a thread that computes has ended, this worker has to be replaced")
        return reply({"status": "ready"})

    async def metrics_page(self, _: Request) -> Response:
        """For Prometheus."""
        return Response(self.metrics.render(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        """The description of the routes, for machines."""
        return reply(describe_api(self.desk.limits))


def describe_default(desk: Desk, engine: Engine, digest: str | None) -> dict[str, Any]:
    """What text-embeddings-inference's clients look for.

    Where it counts requests we count tokens: `max_concurrent_requests` is how many requests of the longest input fit
    the queue.
    """
    return {
        "model_id": engine.name,
        "model_sha": digest,
        "model_dtype": engine.name.partition("/")[2],
        "model_type": _describe_type(engine),
        "max_concurrent_requests": max(1, desk.limits.queue_tokens // engine.max_tokens),
        "max_input_length": engine.max_tokens,
        "max_batch_tokens": engine.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": desk.limits.texts,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": VERSION,
        "sha": None,
        "docker_label": None,
    }


def _describe_type(engine: Engine) -> dict[str, Any]:
    kind = kind_of(engine)
    if kind == "reader":
        return {kind: {}}
    if kind == "embedding":
        return {kind: {"pooling": engine.pooling}}
    id2label = {str(index): label for index, label in enumerate(engine.labels)}
    return {kind: {"id2label": id2label, "label2id": {label: index for index, label in enumerate(engine.labels)}}}


def _describe(engine: Engine) -> dict[str, Any]:
    labels = list(engine.labels)
    return {
        "id": engine.name,
        "kind": kind_of(engine),
        "precision": engine.name.partition("/")[2],
        "labels": labels,
        "labels_count": len(labels),
        "embedding_size": engine.embedding_size,
        "max_tokens": engine.max_tokens,
        "domain_threshold": threshold_of(engine),
        **({"cascade": engine.describe()} if isinstance(engine, CascadeEngine) else {}),
    }
