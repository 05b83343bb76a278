"""A client of an application in this process, without a socket; and the service as a process of its own."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
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


@contextlib.contextmanager
def serving(*arguments: str, log: Path) -> Iterator[str]:
    """The address of `python -m serve` with `arguments`, once it is ready; ended by SIGTERM, which has to go well."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "serve", *arguments, "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(20)
    assert status == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        if process.poll() is not None:
            pytest.fail(f"the service ended with {process.returncode}")
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the service was not ready in 20 s")
