"""The bench stage: how fast each row of the report answers, in process and through its service, on the same texts.

Contestants take turns in random order (see `serve.latency.in_process` and `serve.latency.over_http`); every sample is
kept, first as a line of `records/raw.jsonl` the moment it is there, then in `benchmark.json`.
"""

import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import read_split
from artifact.digest import RECORDS
from artifact.errors import BenchError, DataError
from artifact.manifest import write_json
from artifact.progress import say
from artifact.stage import Stage, Work
from pipeline.bench_config import BenchConfig
from pipeline.machine import fingerprint, load_average
from pipeline.pytorch import MODEL
from pipeline.recipe import Recipe
from pipeline.results import Benchmark, SpeedRow
from pipeline.rows import PYTORCH, opener
from serve.command import environment_of
from serve.latency.client import HOST, Target
from serve.latency.in_process import Contestant, Measured, child_environment, measure, thread_environment
from serve.latency.over_http import Load, MeasuredTarget, measure_client_overhead_ms, measure_over_http
from serve.latency.plan import Keep, Round, Workload
from serve.latency.server import Server, Service, free_port, running
from serve.settings import Settings
from serve.threads import available_cores, plan_threads

VERSION = 1
QUIET_LOAD = 0.5
"""Load average for each core, before we begin, above which a person is told."""
ROOT = Path(__file__).resolve().parent.parent
"""Where BentoML finds our services."""


class BenchRequest(BenchConfig):
    """What is measured of which rows."""

    rows: tuple[str, ...]
    """`model/precision`, or `model/pytorch`."""


def bench_stage(recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that measures speed for `recipe` below its output folder `root`, and its work."""
    first = next(iter(recipe.classifiers()))
    config = BenchRequest(rows=tuple(recipe.row_names()), **recipe.bench.model_dump())
    bundles = {f"bundle:{name}": root / "bundles" / name for name in recipe.classifiers()}
    inputs = {"data": root / "data", f"model:{first}": root / "models" / first, **bundles}
    stage = Stage(name="bench", version=VERSION, kind="benchmark", out=root / "benchmark", config=config, inputs=inputs)
    return stage, lambda out: run_bench(config, root, out)


def run_bench(config: BenchRequest, root: Path, out: Path) -> Mapping[str, Any]:
    """Write `benchmark.json` to `out`; returns medians and warm-ups by row, seconds, and what the client costs.

    Raises `BenchError` when more threads are asked for than there are cores, or when a contestant fails.
    """
    begun, load_before = time.perf_counter(), load_average()
    check_threads(config.threads, available_cores())
    if load_before > QUIET_LOAD * available_cores():
        say(f"  the machine is busy (load {load_before} before we began): ratios hold, milliseconds do not")
    workload = make_workload(config, [example.text for example in read_split(root / "data", "test")])
    with _raw(out / RECORDS / "raw.jsonl") as keep:
        measured = measure(contestants(config, root), workload, keep=keep("in_process"))
        http, facts = _measure_http(config, root, workload, keep("http")) if config.http else ({}, {})
    in_process = {row.name: _speed_row(row) for row in measured}
    benchmark = Benchmark(machine=fingerprint(), in_process=in_process, http=http)
    write_json(out / "benchmark.json", benchmark.model_dump(mode="json"))
    return {
        "texts": len(workload.texts),
        "seconds": round(time.perf_counter() - begun, 1),
        "load_average": {"before": load_before, "after": load_average()},
        "environment": thread_environment(config.threads),
        "in_process": {row.name: _summary(row) | {"ready_seconds": round(row.ready_seconds, 2)} for row in measured},
        **facts,
    }


def check_threads(threads: int, cores: int) -> None:
    """`BenchError` when `threads` that compute would have to share `cores`."""
    if threads > cores:
        raise BenchError(f"bench.threads is {threads}, but this process may use {cores} cores", "lower bench.threads")


def make_workload(config: BenchConfig, texts: list[str]) -> Workload:
    """`config.texts` of the texts, drawn once with the seed (all of them when there are fewer), and their rounds.

    Raises `DataError` when there is no text.
    """
    if not texts:
        raise DataError("the test split is empty, so there is nothing to measure")
    chosen = np.random.default_rng(config.seed).permutation(len(texts))[: config.texts]
    return Workload(
        texts=tuple(texts[index] for index in chosen),
        rounds=config.rounds,
        calls_per_round=config.calls_per_round,
        batch_size=config.batch_size,
        seed=config.seed,
    )


def contestants(config: BenchRequest, root: Path) -> list[Contestant]:
    """Every row as something to measure in process."""
    threads = config.threads
    return [Contestant(name=row, factory=opener(row, root, threads), threads=threads) for row in config.rows]


def _measure_http(
    config: BenchRequest, root: Path, workload: Workload, keep: Keep
) -> tuple[dict[str, SpeedRow], dict[str, Any]]:
    """Rows over HTTP and their facts: bundles behind one service, each PyTorch model behind one of its own."""
    overhead = measure_client_overhead_ms(workload.texts[0])
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-")))
        servers: dict[str, Server] = {}
        for rows, service in services(config, root, home):
            server = stack.enter_context(running(service))
            servers |= dict.fromkeys(rows, server)
        targets = [Target(name=row, port=servers[row].service.port, headers={"X-Model": row}) for row in config.rows]
        load = measure_over_http(targets, workload, keep=keep)
        measured = {target.name: _http_row(target, servers[target.name]) for target in load.targets}
    ready = {server.service.name: round(server.ready_seconds, 2) for server in servers.values()}
    return measured, _http_facts(load, overhead, ready)


def services(config: BenchRequest, root: Path, home: Path) -> list[tuple[list[str], Service]]:
    """The services to start, each with the rows that it answers for; `home` keeps BentoML's files."""
    exported = [row for row in config.rows if not row.endswith(f"/{PYTORCH}")]
    started = [([row], _pytorch_service(row, config, root, home)) for row in config.rows if row not in exported]
    if exported:
        started.append((exported, _bundle_service(exported, config, root, home)))
    return started


def _bundle_service(rows: list[str], config: BenchRequest, root: Path, home: Path) -> Service:
    bundles = {row: root / "bundles" / row.partition("/")[0] for row in rows}
    environment = environment_of(Settings(bundles=bundles, default=rows[0]), plan_threads(1, config.threads), home)
    return _service("bundles", "serve.service:Understudy", config.threads, environment)


def _pytorch_service(row: str, config: BenchRequest, root: Path, home: Path) -> Service:
    model = root / "models" / row.partition("/")[0]
    environment = environment_of(None, plan_threads(1, config.threads), home)
    environment |= {MODEL: str(model.resolve())}
    return _service(row, "pipeline.pytorch_service:PyTorch", config.threads, environment)


def _service(name: str, target: str, threads: int, environment: Mapping[str, str]) -> Service:
    port = free_port()
    argv = [sys.executable, "-m", "bentoml", "serve", target, "--host", HOST, "--port", str(port)]
    return Service(
        name=name, argv=argv, environment={**child_environment(threads), **environment}, port=port, directory=ROOT
    )


def _speed_row(row: Measured) -> SpeedRow:
    return SpeedRow(
        single_ms=tuple(turn.single_ms for turn in row.rounds),
        batch_texts_per_second=tuple(turn.texts_per_second for turn in row.rounds),
        size_bytes=row.size_bytes,
        peak_memory_bytes=row.peak_memory_bytes,
        threads=row.threads,
    )


def _http_row(target: MeasuredTarget, server: Server) -> SpeedRow:
    """Size and threads as the service states them; memory is that of all its processes, shared by its rows."""
    info = server.read_json("/info")
    return SpeedRow(
        single_ms=tuple(turn.single_ms for turn in target.rounds),
        batch_texts_per_second=tuple(turn.texts_per_second for turn in target.rounds),
        size_bytes=info["size_bytes"][target.name],
        peak_memory_bytes=server.peak_memory_bytes(),
        threads=info["threads"]["intra_op_threads"],
    )


def _http_facts(load: Load, overhead_ms: float, ready_seconds: Mapping[str, float]) -> dict[str, Any]:
    return {
        "http": {target.name: _summary(target) for target in load.targets},
        "client_overhead_ms": round(overhead_ms, 4),
        "client_cpu_share": round(load.client_cpu_share, 3),
        "service_ready_seconds": dict(ready_seconds),
    }


def _summary(row: Measured | MeasuredTarget) -> dict[str, Any]:
    """Medians over all samples, and how the row got warm."""
    return {
        "p50_ms": round(statistics.median(ms for turn in row.rounds for ms in turn.single_ms), 4),
        "texts_per_second": round(statistics.median(turn.texts_per_second for turn in row.rounds), 2),
        "first_ms": round(row.warm_up.first_ms, 3),
        "warm_up_calls": row.warm_up.calls,
        "flat": row.warm_up.flat,
    }


@contextlib.contextmanager
def _raw(path: Path) -> Iterator[Callable[[str], Keep]]:
    """A file that takes each turn's samples as one line, at once; what is in it survives whatever comes after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:

        def keep(where: str, name: str, turn: Round) -> None:
            file.write(json.dumps({"where": where, "row": name, **asdict(turn)}) + "\n")
            file.flush()

        yield lambda where: partial(keep, where)
