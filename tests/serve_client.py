"""A client of an application in this process: no socket, the application's lifespan around it if wanted."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
from starlette.applications import Starlette


class Client:
    """Requests one after the other, in one event loop."""

    def __init__(self, app: Starlette, runner: asyncio.Runner) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")
        self._runner = runner

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return self.request("POST", path, content=content, headers={"content-type": "application/json"} | headers)


@contextlib.contextmanager
def open_client(app: Starlette, *, warm: bool = True) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        if warm:
            runner.run(lifespan.__aenter__())
        yield Client(app, runner)
        if warm:
            runner.run(lifespan.__aexit__(None, None, None))
