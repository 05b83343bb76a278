"""Who is measured: how each is started, asked and understood, and the settings it may choose the fastest of.

python_of(peers, "infinity")     the interpreter of an environment of its own
CONTESTANTS["infinity"].start(...)
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.errors import BenchError
from serve.latency.contestant import child_environment
from serve.latency.server import Service, free_port
from serve.load.client import make_request

ROOT = Path(__file__).resolve().parents[2]
OURS = "ours"
SECONDS_TO_READY = 180.0
INFINITY_MODEL = "infinity-model"
"""Folder below the peers': the model in the form that infinity opens."""

Knobs = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything lies."""

    bundle: Path
    peers: Path
    """One environment a peer, by name; `python -m benchmarks.serve --install` makes them."""
    threads: int = 2
    options: Sequence[str] = ()
    """More options of our own command."""


Command = Callable[[Place, int, Knobs], list[str]]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One service."""

    name: str
    title: str
    command: Command
    """What starts it on a port."""
    path: str = "/embed"
    health_path: str = "/health"
    wrap: Callable[[str], Any] = lambda text: {"inputs": text}
    """The body that asks for one text's embedding."""
    vector: Callable[[Any], Any] = lambda tree: tree[0]
    """The embedding in the answer to it."""
    knobs: Sequence[Knobs] = ({},)
    """Settings, of which the fastest is measured."""
    directory: Callable[[Place], Path] = lambda _: ROOT
    """Where it starts."""

    def request(self, text: str) -> bytes:
        """The whole request."""
        return make_request(self.path, self.wrap(text))

    def read(self, body: bytes) -> NDArray[np.float32]:
        """The embedding, of length one; `BenchError` when there is none."""
        try:
            found = np.asarray(self.vector(json.loads(body)), np.float32).ravel()
        except (KeyError, IndexError, TypeError, ValueError):
            raise BenchError(f"{self.name} answered no embedding: {body[:120].decode(errors='replace')}") from None
        return found / np.linalg.norm(found)

    def service(self, place: Place, knobs: Knobs) -> Service:
        """What to start, on a free port."""
        port = free_port()
        threads = int(knobs.get("PEER_THREADS", place.threads))
        environment = child_environment(threads) | {
            "PYTHONPATH": str(ROOT),
            "PEER_BUNDLE": str(place.bundle.resolve()),
            "PEER_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "BENTOML_DO_NOT_TRACK": "True",
            "INFINITY_ANONYMOUS_USAGE_STATS": "0",
            "HF_HOME": str(place.peers.resolve() / "home"),
        }
        return Service(
            name=self.name,
            argv=self.command(place, port, knobs),
            environment=environment | dict(knobs),
            port=port,
            directory=self.directory(place),
            health_path=self.health_path,
            seconds_to_ready=SECONDS_TO_READY,
        )


def python_of(peers: Path, name: str) -> str:
    """The interpreter of a peer's own environment; `BenchError` when it is not installed."""
    path = peers.resolve() / name / "bin" / "python"
    if not path.exists():
        raise BenchError(f"{peers / name} holds no environment", "run it again with --install")
    return str(path)


def name_alone(bundle: Path, precision: str) -> str:
    """What our command is given so that it loads that precision and no other."""
    about = json.loads((bundle / "understudy.json").read_text(encoding="utf-8"))
    return f"{about['name']}/{precision}={bundle.resolve()}"


def _ours(place: Place, port: int, _: Knobs) -> list[str]:
    return [sys.executable, "-m", "serve", name_alone(place.bundle, "float32"), "--port", str(port), *place.options]


def _starlette(place: Place, port: int, _: Knobs) -> list[str]:
    # The environment of LitServe has the faster loop and parser of uvicorn, which ours has not.
    return [python_of(place.peers, "litserve"), "-m", "benchmarks.serve.peers.starlette_app", str(port)]


def _bentoml(_: Place, port: int, __: Knobs) -> list[str]:
    return [
        sys.executable, "-m", "bentoml", "serve", "benchmarks.serve.peers.bento_app:Embedder",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


def _litserve(place: Place, port: int, _: Knobs) -> list[str]:
    return [python_of(place.peers, "litserve"), "-m", "benchmarks.serve.peers.litserve_app", str(port)]


def _infinity(place: Place, port: int, knobs: Knobs) -> list[str]:
    # Its graph is in the folder it starts in: given any other, it hands optimum a path where that wants a name.
    program = Path(python_of(place.peers, "infinity")).with_name("infinity_emb")
    return [
        str(program), "v2", "--model-id", ".", "--served-model-name", "minilm", "--engine", "optimum",
        "--device", "cpu", "--pooling-method", "mean", "--batch-size", knobs["PEER_BATCH"], "--host", "127.0.0.1",
        "--port", str(port), "--log-level", "error",
    ]  # fmt: skip


ONE_WORKER = {"PEER_WORKERS": "1", "PEER_THREADS": "2"}
TWO_WORKERS = {"PEER_WORKERS": "2", "PEER_THREADS": "1"}

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant(name=OURS, title="Understudy", command=_ours),
        Contestant(
            name="starlette",
            title="Starlette around ONNX Runtime, no batching",
            command=_starlette,
            knobs=({"PEER_RUNS": "1", "PEER_THREADS": "2"}, {"PEER_RUNS": "2", "PEER_THREADS": "1"}),
        ),
        Contestant(
            name="bentoml",
            title="BentoML `batchable=True` around ONNX Runtime",
            command=_bentoml,
            path="/encode",
            health_path="/readyz",
            wrap=lambda text: {"inputs": [text]},
            knobs=(
                {"PEER_BATCH": "8", **ONE_WORKER},
                {"PEER_BATCH": "32", **ONE_WORKER},
                {"PEER_BATCH": "8", **TWO_WORKERS},
            ),
        ),
        Contestant(
            name="litserve",
            title="LitServe around ONNX Runtime",
            command=_litserve,
            knobs=(
                {"PEER_BATCH": "1", **TWO_WORKERS},
                {"PEER_BATCH": "8", **ONE_WORKER},
                {"PEER_BATCH": "8", **TWO_WORKERS},
            ),
        ),
        Contestant(
            name="infinity",
            title="infinity, ONNX Runtime by optimum",
            command=_infinity,
            directory=lambda place: place.peers.resolve() / INFINITY_MODEL,
            path="/embeddings",
            wrap=lambda text: {"model": "minilm", "input": [text]},
            vector=lambda tree: tree["data"][0]["embedding"],
            knobs=({"PEER_BATCH": "4"}, {"PEER_BATCH": "8"}, {"PEER_BATCH": "32"}),
        ),
    )
}
"""By name, ours first."""

PACKAGES: Mapping[str, Sequence[str]] = {
    "litserve": ("litserve==0.2.19", "onnxruntime==1.32.0", "tokenizers", "numpy"),
    "infinity": (
        "infinity-emb[optimum,server,torch]==0.0.78", "numpy==1.26.4", "sentence-transformers==3.4.1",
        "transformers==4.57.6", "torch==2.13.0", "onnxruntime==1.32.0",
    ),
    "schemathesis": ("schemathesis==4.32.5",),
}  # fmt: skip
"""What each environment holds."""
