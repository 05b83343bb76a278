"""OpenTelemetry spans, one a request, for services that are configured to give them; imported by no other.

A span holds the route, the status, the model and the phases, which are read off the answer's own headers: nothing of
a text, of a path we do not know, or of an exception's message can enter it.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve import VERSION
from serve.config import Telemetry

EXPORT_SECONDS = 2
"""Longest time that one batch of spans may take, retries included: a collector that is gone holds up an end no more."""
UNTRACED = frozenset({"/health", "/metrics"})
"""Asked by machines every few seconds."""
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
NAMES = {b"x-model": "understudy.model"}
PHASES = {b"x-tokenization-time": "tokenization", b"x-queue-time": "queue", b"x-inference-time": "inference"}
PARENT = (b"traceparent", b"tracestate")


def open_provider(asked: Telemetry) -> TracerProvider:
    """Where spans go: in batches, from a thread of its own, to the collector asked for; dropped when it is slow.

    `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `OTEL_EXPORTER_OTLP_HEADERS` hold, as
    OpenTelemetry says, where the configuration is silent.
    """
    name = asked.service_name or os.environ.get("OTEL_SERVICE_NAME") or "understudy"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name, "service.version": VERSION}))
    exporter = OTLPSpanExporter(endpoint=asked.endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def trace(app: Starlette, provider: TracerProvider) -> None:
    """Make `app` give a span to `provider` for each request, and end `provider` with its lifespan."""
    routes = frozenset(route.path for route in app.routes if isinstance(route, Route))
    app.add_middleware(Tracing, tracer=provider.get_tracer("understudy", VERSION), routes=routes)
    running = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[Any]:
        async with running(application) as state:
            yield state
        await asyncio.to_thread(provider.shutdown)

    app.router.lifespan_context = lifespan


class Tracing:
    """ASGI middleware: a server span around each request, child of the caller's where it sends a `traceparent`."""

    def __init__(self, app: ASGIApp, tracer: Tracer, routes: frozenset[str]) -> None:
        self._app = app
        self._tracer = tracer
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        # As in the metrics: what a client makes up is one name.
        route = scope["path"] if scope["path"] in self._routes else "other"
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PARENT}
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            TraceContextTextMapPropagator().extract(headers),
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": route},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attributes(_describe(message["status"], message["headers"]))
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            await self._app(scope, receive, watched)


def _describe(status: int, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str | int | float]:
    """What the answer says of itself."""
    found: dict[str, str | int | float] = {"http.response.status_code": status}
    for name, value in headers:
        if name in NAMES:
            found[NAMES[name]] = value.decode("latin-1")
        elif name in PHASES:
            found[f"understudy.{PHASES[name]}_ms"] = float(value)
    return found
