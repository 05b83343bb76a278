"""The HTTP application: routes shaped as text-embeddings-inference's and OpenAI's, over any engines.

    app = create_app({"student/int8": runtime}, "student/int8", ServiceConfig(), threads=2)

    POST /predict     label probabilities          POST /v1/embeddings  vectors, as OpenAI wraps them
    POST /embed       vectors                      GET  /v1/models      what gives them
    POST /rerank      texts by how well they answer
    POST /similarity  cosines                      GET  /info           what answers, and its limits
    POST /tokenize    tokens                       GET  /health         200 once every model is warm
    POST /tag         spans of a text              GET  /metrics        for Prometheus
    POST /answer      where a context answers      GET  /docs, /openapi.json   all of it, to read
    POST /classify    classes, and who says so     GET  /            a page to try it
    POST /            what suits the model         POST /admin/swap  a model for another

Every fault is JSON: `{"error": ..., "error_type": ...}`, and below `/v1` OpenAI's. Texts are never logged.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serve.batching.crew import Crew
from serve.batching.lane import ModelLane
from serve.config import ServiceConfig
from serve.engine import Servable
from serve.http.boundary import Boundary
from serve.http.desk import Desk, Endpoint, Roster, find_aliases
from serve.http.domain import watch_domain
from serve.http.guard import Guard
from serve.http.replies import reply_problem
from serve.http.routes_about import AboutRoutes
from serve.http.routes_admin import AdminRoutes
from serve.http.routes_openai import OpenAIRoutes
from serve.http.routes_ours import OurRoutes
from serve.http.routes_rerank import RerankRoute
from serve.http.routes_tei import TeiRoutes
from serve.metrics import Metrics
from serve.problem import Problem
from serve.runtime import Runtime
from serve.selection.cache import CandidateCache
from serve.selection.config import check_selection
from serve.swap.shelf import Shelf
from serve.swap.swapper import Swapper
from serve.trust.cascades import add_cascades
from serve.trust.metrics import TrustMetrics
from serve.trust.watchers import watchers_of

WARM_UP = ("warm", "warm up " * 32)
"""Two lengths, so that the first request meets a graph that has run and an allocator that has grown."""


def create_app(
    engines: Mapping[str, Servable],
    default: str,
    config: ServiceConfig,
    about: Mapping[str, Any] | None = None,
    *,
    threads: int = 1,
    home: Path | None = None,
) -> Starlette:
    """The application over `engines` by name, of which `default` answers when a request names none.

    A name may also be asked for without its precision: that of the default where it is the default's model, else
    the first given. `threads` compute, for all engines together. `about` joins the answer of `/info`. `home` is where
    several such applications agree on swaps. The models are warmed in the application's lifespan.
    Raises `ServeError` when there is no engine `default`, or when a cascade, the shadow or a selection does not fit.
    """
    check_selection(engines, config.selection or {})
    metrics, crew = Metrics(), Crew(threads)
    trusted = TrustMetrics(metrics.registry)
    metrics.show_plan((about or {}).get("threads", {}))
    open_lane = partial(ModelLane, crew=crew, limits=config.limits, metrics=metrics)
    complete = partial(add_cascades, config=config, metrics=trusted)
    lanes = complete({name: open_lane(engine) for name, engine in engines.items()})
    roster = Roster(lanes=lanes, aliases=find_aliases(list(lanes), default), default=default)
    desk = Desk(roster=roster, limits=config.limits)
    desk.watchers.extend([watch_domain(metrics), *watchers_of(desk, config, trusted)])
    own, openai = OurRoutes(desk), OpenAIRoutes(desk)
    cache = CandidateCache(config.candidate_cache_bytes, metrics.registry)
    tei = TeiRoutes(desk, own, RerankRoute(desk, cache, config.selection or {}))
    ours = AboutRoutes(desk=desk, metrics=metrics, about=dict(about or {}), broken=lambda: crew.broken)
    shelf = Shelf(folder=config.swap_from, original=_directories_of(engines), home=home)
    swapper = Swapper(desk, shelf, open_lane, complete, metrics, threads=threads, warm_up=WARM_UP)
    admin = AdminRoutes(swapper, config.api_keys, config.limits)
    root = Route("/", _by_method(get=ours.page, post=tei.root), methods=["GET", "POST"])
    routes = [root, *tei.routes(), *own.routes(), *openai.routes(), *ours.routes(), *admin.routes()]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Boundary, metrics=metrics, routes=frozenset(route.path for route in routes)),
            Middleware(Guard, config=config),
        ],
        exception_handlers={Problem: _tell_problem, HTTPException: _tell_http, ClientDisconnect: _tell_nobody},
        lifespan=_warm_while_running(ours, crew, swapper),
    )
    app.router.redirect_slashes = False
    app.state.swapper = swapper
    app.state.broken = ours.broken
    if config.telemetry:
        from serve.http.telemetry import open_provider, trace

        trace(app, open_provider(config.telemetry))
    return app


def _directories_of(engines: Mapping[str, Servable]) -> dict[str, Path]:
    """By model, where the bundle lies that it is served from at first."""
    runtimes = {name: engine for name, engine in engines.items() if isinstance(engine, Runtime)}
    return {name.partition("/")[0]: runtime.bundle.directory for name, runtime in runtimes.items()}


def _by_method(*, get: Endpoint, post: Endpoint) -> Endpoint:
    # One route and not two of the same path: the 405 of a third method then names both of these.
    async def endpoint(request: Request) -> Response:
        return await (post if request.method == "POST" else get)(request)

    return endpoint


def _warm_while_running(
    service: AboutRoutes, crew: Crew, swapper: Swapper
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        for lane in service.desk.roster.lanes.values():
            await lane.warm_up(WARM_UP)
        await swapper.follow()
        following = asyncio.create_task(swapper.keep_following())
        service.ready = True
        yield
        service.ready = False
        following.cancel()
        crew.close()

    return lifespan


async def _tell_problem(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, Problem):
        raise problem
    return reply_problem(problem, request.url.path)


async def _tell_http(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    words = {404: "there is no such route", 405: "this route does not take that method"}
    message = words.get(status, "the request failed")
    problem = Problem(status, "Validation", message, getattr(error, "headers", None))
    return reply_problem(problem, request.url.path)


async def _tell_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=499)
