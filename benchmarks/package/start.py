"""A Bento started again and again: seconds until `/readyz`, and the memory of its processes once it has answered."""

import http.client
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from serve.bundle import open_bundle, size_of
from serve.latency.client import HOST
from serve.latency.memory import peak_memory_bytes
from serve.latency.server import Server, Service, free_port, running
from serve.package import BENTO
from serve.settings import CACHE, read_settings

WORKER = "_bentoml_impl.worker.service"
"""Module that BentoML's workers run."""
REQUESTS = 64


def start(python: Path, package: Path, runs: int) -> list[dict[str, Any]]:
    """One row for each of `runs` starts of the Bento in `package` by `python`."""
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        # A copy with compiled modules, as in the image: what is sealed must not change.
        bento = shutil.copytree(package / BENTO, Path(folder, BENTO))
        subprocess.run([python, "-m", "compileall", "-q", bento / "src"], check=True)
        return [_start_once(python, bento) for _ in range(runs)]


def _start_once(python: Path, bento: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="understudy-") as home:
        port = free_port()
        argv = [str(python), "-m", "bentoml", "serve", str(bento), "--host", HOST, "--port", str(port)]
        service = Service(
            name="bento", argv=argv, environment=_environment(Path(home)), port=port, health_path="/readyz"
        )
        with running(service) as server:
            ask(port, REQUESTS)
            return {"ready_seconds": server.ready_seconds, **_weigh(server)}


def _environment(home: Path) -> dict[str, str]:
    """As in the image: nothing of ours but where to write."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    folders = {"HOME": str(home), "BENTOML_HOME": str(home), CACHE: str(home / "packed")}
    return kept | folders | {"BENTOML_DO_NOT_TRACK": "True", "TOKENIZERS_PARALLELISM": "false"}


def _weigh(server: Server) -> dict[str, Any]:
    """Peak bytes of each worker, and of what supervises them."""
    workers = [process for process in server.family if _is_worker(process)]
    peaks = [peak_memory_bytes(process.pid) for process in workers]
    return {"worker_peak_bytes": peaks, "supervisor_peak_bytes": peak_memory_bytes(server.process.pid)}


def _is_worker(process: psutil.Process) -> bool:
    return WORKER in process.cmdline()


def ask(port: int, requests: int) -> None:
    """Texts of 1 to `requests` words to every model there is; `AssertionError` when one is not answered.

    So that the peak holds what answering takes. `POST /` suits classes and vectors alike.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.request("GET", "/info")
    models = [model["id"] for model in json.loads(connection.getresponse().read())["models"]]
    for model in models:
        for words in range(1, requests + 1):
            body = json.dumps({"inputs": "word " * words, "model": model})
            connection.request("POST", "/", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.HTTPStatus.OK:
                raise AssertionError(f"{model} answered {answer.status} to a text of {words} words")
    connection.close()


def weights_of(package: Path) -> dict[str, int]:
    """Bytes of each graph that the Bento serves, weights included, by `model/precision`."""
    found: dict[str, int] = {}
    for key, directory in read_settings({}, package / BENTO / "src").bundles.items():
        name, _, precision = key.partition("/")
        bundle = open_bundle(directory)
        for each in [precision] if precision else bundle.info.precisions:
            found[f"{name}/{each}"] = size_of(bundle.graph(each)[1])
    return found


def peaks_of(rows: Sequence[dict[str, Any]]) -> list[int]:
    """The largest worker of each run, in bytes."""
    return [max(row["worker_peak_bytes"]) for row in rows]
