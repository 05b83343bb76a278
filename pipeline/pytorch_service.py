"""The PyTorch row over HTTP: the application, BentoML and routes of `serve.service`, over a `PyTorchEngine`.

    UNDERSTUDY_MODEL=out/demo/models/teacher bentoml serve pipeline.pytorch_service:PyTorch

`UNDERSTUDY_THREADS` is read as there. Only the benchmark starts it: what differs between its row and a bundle's over
HTTP is then the engine alone.
"""

import contextlib
import os
from pathlib import Path

import bentoml

from pipeline.pytorch import MODEL, PyTorchEngine
from serve.config import ServiceConfig
from serve.http.app import create_app
from serve.service import DirectService
from serve.settings import THREADS, read_count
from serve.threads import plan_threads


@bentoml.service(
    name="understudy-pytorch",
    service_class=DirectService,
    workers=1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class PyTorch:
    """One model directory behind one address."""

    def __init__(self) -> None:
        plan = plan_threads(threads=read_count(os.environ, THREADS))
        engine = PyTorchEngine.open(Path(os.environ[MODEL]), threads=plan.intra_op_threads)
        about = {"threads": plan.model_dump(), "size_bytes": {engine.name: engine.size_bytes}}
        self.app = create_app({engine.name: engine}, engine.name, ServiceConfig(), about)
        self._running = contextlib.AsyncExitStack()

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # BentoML loads its names lazily, untyped
    async def warm_up(self) -> None:
        """Run the model once, before the first request is taken."""
        await self._running.enter_async_context(self.app.router.lifespan_context(self.app))

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # as above
    async def drain(self) -> None:
        """Finish what was admitted."""
        await self._running.aclose()
