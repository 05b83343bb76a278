"""The outermost frame of the application: counts every answer, and is the one place that catches everything."""

import logging
import time
import traceback
from functools import cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.guard import HEADERS
from serve.http.replies import reply_problem
from serve.metrics import Metrics
from serve.problem import Problem

logger = logging.getLogger("understudy.serve")


class Boundary:
    """ASGI middleware: a bug becomes a 500 that says nothing of its insides, and the worker lives on."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        # Looked up once each: a lookup by label costs as much as counting, and there are few routes and statuses.
        self._requests = cache(metrics.requests.labels)
        self._seconds = cache(metrics.seconds.labels)
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception as error:
            if status:
                raise
            logger.error("unexpected %s\n%s", type(error).__name__, frames_of(error))  # noqa: TRY400 - see frames_of
            problem = Problem(500, "Backend", "an unexpected fault of the service")
            await reply_problem(problem, scope["path"])(scope, receive, counted)
        self._count(scope["path"], status, time.perf_counter() - begun)

    def _count(self, path: str, status: int, seconds: float) -> None:
        # Unknown paths are one label: a client could otherwise grow the table without end.
        route = path if path in self._routes else "other"
        self._requests(route, status).inc()
        self._seconds(route).observe(seconds)
        if status >= 400:
            self._metrics.errors.labels(status).inc()


def frames_of(error: BaseException) -> str:
    """Where `error` rose, without its message: that may quote a text, and texts are never logged."""
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
