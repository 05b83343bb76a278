"""The BentoML service: BentoML supervises the workers, probes and packages; requests go to our application.

    UNDERSTUDY_BUNDLES=student=out/demo/bundles/student bentoml serve serve.service:Understudy

Importing defines the service and nothing else; bundles are verified before any worker starts, and again, with
the models loaded and warmed, in each worker before it takes a request. Environment: see `serve.settings`.
"""

import contextlib
import gc
import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from artifact.errors import UnderstudyError
from serve.bundle import Bundle, open_bundle
from serve.config import follow_environment, read_service_config
from serve.huge_pages import VARIABLE, with_huge_pages
from serve.settings import (
    CHECKED,
    THREADS,
    WORKERS,
    Settings,
    check_settings,
    home_from,
    read_count,
    read_settings,
    with_hosts,
)
from serve.supervisor import hear_of_ends
from serve.threads import ThreadPlan, plan_threads

if TYPE_CHECKING:
    from serve.runtime import Runtime

PROBES = frozenset({"/healthz", "/livez", "/readyz"})
"""Paths that BentoML answers."""

ROOT = Path(__file__).resolve().parent.parent


class DirectService(bentoml.Service[Any]):  # type: ignore[misc]  # BentoML loads its names lazily, untyped
    """A BentoML service whose requests skip BentoML's middleware.

    That middleware (tracing, access log, a 60 s timer left behind by each request, a metric per path a client
    makes up) took 0.4 of 0.65 ms of an empty request. This is BentoML's own hook (`service_class`), not a patch.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """BentoML's application for its probes and the lifespan, ours for every other request."""
        bento: ASGIApp = super().to_asgi(is_main)

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            ours = scope["type"] == "http" and scope["path"] not in PROBES
            await (bentoml.get_current_service().app if ours else bento)(scope, receive, send)

        return route


def load_engines(settings: Settings, plan: ThreadPlan) -> "dict[str, Runtime]":
    """Every precision of every bundle, by `model/precision`, under the names the settings give the models.

    Verified and opened beside one another, on as many threads as will compute: both are work without the interpreter.
    """
    # Imported here, because the supervisor imports this module too, and serves nothing.
    from serve.runtime import Runtime

    with ThreadPoolExecutor(plan.intra_op_threads) as pool:
        bundles = dict(zip(settings.bundles, pool.map(open_bundle, settings.bundles.values()), strict=True))
        wanted = [
            (f"{name}/{each}", bundle, each)
            for (name, _, precision), bundle in ((key.partition("/"), bundle) for key, bundle in bundles.items())
            for each in ([precision] if precision else bundle.info.precisions)
        ]

        def load(name: str, bundle: Bundle, precision: str) -> Runtime:
            return Runtime.open(bundle, precision, threads=plan.intra_op_threads, name=name, shared=True)

        return dict(zip((name for name, _, _ in wanted), pool.map(lambda one: load(*one), wanted), strict=True))


def choose_default(names: Iterable[str]) -> str:
    """The student, or without one the first model; in int8 where it has that, which is what the service is for."""
    ordered = list(names)
    model = next((name for name in ordered if name.startswith("student/")), ordered[0]).partition("/")[0]
    precisions = [name for name in ordered if name.startswith(f"{model}/")]
    return next((name for name in precisions if name.endswith("/int8")), precisions[0])


def plan_from(environment: Mapping[str, str]) -> ThreadPlan:
    """The thread plan that `environment` asks for; `ServeError` when it asks for more than there are cores."""
    return plan_threads(read_count(environment, WORKERS) or 1, read_count(environment, THREADS))


def build_app(environment: Mapping[str, str], root: Path = ROOT) -> Starlette:
    """The application that `environment` asks for, its models loaded but not yet warm; raises `UnderstudyError`."""
    from serve.http.app import create_app

    settings = read_settings(environment, root)
    plan = plan_from(environment)
    config = with_hosts(follow_environment(read_service_config(settings.config), environment), environment)
    engines = load_engines(settings, plan)
    about = {
        "threads": plan.model_dump(),
        "versions": {name: importlib.metadata.version(name) for name in ("bentoml", "onnxruntime", "tokenizers")},
    }
    default = settings.default or choose_default(engines)
    home = home_from(environment, plan.workers, config)
    return create_app(engines, default, config, about, threads=plan.intra_op_threads, home=home)


@bentoml.service(
    name="understudy",
    service_class=DirectService,
    workers=read_count(os.environ, WORKERS) or 1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    envs=[{"name": VARIABLE, "value": with_huge_pages({})[VARIABLE]}],  # of its workers, where nobody has set it
)
class Understudy:
    """Teacher and student behind one address."""

    def __init__(self) -> None:
        self.app = build_app(os.environ)
        self._running = contextlib.AsyncExitStack()
        self._ready = False

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # as above
    @staticmethod
    def verify() -> None:
        """Refuse to start over a damaged bundle, in two lines, before there is a worker that would be restarted."""
        hear_of_ends()
        if CHECKED in os.environ:
            return
        try:
            settings = read_settings(os.environ, ROOT)
            config = follow_environment(read_service_config(settings.config), os.environ)
            check_settings(settings)
            home_from(os.environ, plan_from(os.environ).workers, config)
        except UnderstudyError as error:
            raise SystemExit(f"error: {error}") from None

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # as above
    async def warm_up(self) -> None:
        """Run every model once, before the first request is taken."""
        await self._running.enter_async_context(self.app.router.lifespan_context(self.app))
        # What is there now stays: Python would look for cycles in it, and answer nobody for 0.1 s meanwhile.
        gc.collect()
        gc.freeze()
        self._ready = True

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # as above
    async def drain(self) -> None:
        """Finish what was admitted."""
        self._ready = False
        await self._running.aclose()

    def __is_alive__(self) -> bool:
        """BentoML's `/livez`: no thread that computes has ended."""
        return not self.app.state.broken()

    def __is_ready__(self) -> bool:
        """BentoML's `/readyz`."""
        return self._ready
