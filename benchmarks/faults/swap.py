"""Two bundles that take each other's place while they answer: nobody fails, and no answer is half of each."""

import asyncio
import hashlib
import json
import secrets
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from artifact.errors import BenchError
from artifact.manifest import Request, seal
from artifact.progress import progress
from benchmarks.faults.service import (
    OK,
    TOLERANCE,
    Setup,
    ask_each,
    is_same,
    keep_asking,
    make_asking,
    read_numbers,
    resident_bytes,
    serving,
)
from serve.latency.server import Server
from serve.load.client import Address, Reply, ask_once, make_request

NAMES = ("one", "two")
TEXTS = 40
BATCHES = 10
BATCH_TEXTS = 6
PATH = "/admin/swap"


def swap(setup: Setup, *, other: Path | None, times: int = 1000, connections: int = 8) -> dict[str, Any]:
    """So many swaps back and forth under load; what was answered by whom."""
    key = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="understudy-swap-") as folder:
        shelf = Path(folder) / "bundles"
        shutil.copytree(setup.bundle, shelf / NAMES[0])
        if other is None:
            make_other(setup.bundle, shelf / NAMES[1])
        else:
            shutil.copytree(other, shelf / NAMES[1])
        config = Path(folder) / "service.yaml"
        entry = {"name": "benchmark", "sha256": hashlib.sha256(key.encode()).hexdigest(), "role": "admin"}
        config.write_text(json.dumps({"swap_from": str(shelf), "api_keys": [entry]}), encoding="utf-8")
        with serving(setup, shelf / NAMES[0], more=["--config", str(config)]) as server:
            return asyncio.run(_swap(setup, server, key, times, connections))


async def _swap(setup: Setup, server: Server, key: str, times: int, connections: int) -> dict[str, Any]:
    port, headers = server.service.port, {"Authorization": f"Bearer {key}"}
    texts = [one.text for one in setup.texts(TEXTS)]
    batches = [texts[start : start + BATCH_TEXTS] for start in range(BATCHES)]
    requests = [make_asking(asked, setup, headers) for asked in (*texts, *batches)]
    model = setup.about["name"]
    ours = await ask_each(port, requests)
    await _exchange(port, model, NAMES[1], headers)
    theirs = await ask_each(port, requests)
    if any(np.abs(one - two).max() < 10 * TOLERANCE for one, two in zip(ours, theirs, strict=True)):
        raise BenchError("the two bundles answer alike, so that nobody could tell who answered", "name another --other")
    verdicts: Counter[str] = Counter()

    def keep(which: int, reply: Reply) -> None:
        verdicts[judge(reply, ours[which], theirs[which])] += 1

    stop, seconds, resident = asyncio.Event(), [], [resident_bytes(server)]
    load = asyncio.create_task(keep_asking(port, requests, keep, stop=stop, connections=connections))
    with progress("swaps", total=times) as advance:
        try:
            for number in range(times):
                seconds.append(await _exchange(port, model, NAMES[number % 2], headers))
                resident.append(resident_bytes(server))
                advance(1, str(dict(verdicts)))
        finally:
            stop.set()
            await load
    return {"swaps": len(seconds), "swap_seconds": seconds, "answers": dict(verdicts), "resident_bytes": resident}


async def _exchange(port: int, model: str, bundle: str, headers: dict[str, str]) -> float:
    reply = await ask_once(Address(port), make_request(PATH, {"model": model, "bundle": bundle}, headers))
    if reply.status != OK:
        raise BenchError(f"a swap was answered with {reply.status}: {reply.body[:300].decode(errors='replace')}")
    return round(reply.milliseconds / 1e3, 4)


def judge(reply: Reply, ours: Any, theirs: Any) -> str:
    """Who answered: `one`, `two`, `mixed` when neither would have answered so, else the status."""
    if reply.status != OK:
        return str(reply.status)
    found = read_numbers(reply.body)
    return NAMES[0] if is_same(found, ours) else NAMES[1] if is_same(found, theirs) else "mixed"


def make_other(bundle: Path, directory: Path) -> None:
    """A bundle like that one, but whose float32 graph answers otherwise: its first matrix is stirred."""
    shutil.copytree(bundle, directory)
    (directory / "manifest.json").unlink()
    about = json.loads((directory / "understudy.json").read_text(encoding="utf-8"))
    path = directory / about["precisions"]["float32"]
    model = onnx.load(path)
    table = next(
        one for one in model.graph.initializer if len(one.dims) == 2 and one.data_type == onnx.TensorProto.FLOAT
    )
    values = numpy_helper.to_array(table)
    noise = np.random.default_rng(0).normal(1, 0.5, values.shape).astype(np.float32)
    table.CopyFrom(numpy_helper.from_array(values * noise, table.name))
    onnx.save(model, path)
    request = Request(stage="export", version=1, config={"stirred": True}, inputs={})
    seal(directory, kind="bundle", request=request, lineage={}, facts={})
