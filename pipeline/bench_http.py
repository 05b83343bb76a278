"""The benchmark over HTTP, on loopback: bundles and their cascade behind one service, PyTorch behind one of its own."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from artifact.errors import BenchError
from pipeline.baseline import read_baseline
from pipeline.bench_config import BenchRequest
from pipeline.bench_inputs import Inputs
from pipeline.bench_samples import speed_row, summarize
from pipeline.bench_server import measure_server
from pipeline.calibration import SERVICE, read_members
from pipeline.pytorch import MODEL
from pipeline.results import ServerRow, SpeedRow
from pipeline.rows import CALIBRATION
from pipeline.rows_config import BASELINE, CASCADE, PYTORCH, is_served
from serve.command import environment_of
from serve.latency.client import HOST, Target
from serve.latency.contestant import child_environment
from serve.latency.over_http import MeasuredTarget, measure_client_overhead_ms, measure_over_http
from serve.latency.server import Server, Service, free_port, running
from serve.settings import Settings
from serve.threads import plan_threads

ROOT = Path(__file__).resolve().parent.parent
"""Where BentoML finds our services."""


@dataclass(frozen=True, kw_only=True)
class OverHttp:
    """What was measured through services."""

    closed: dict[str, SpeedRow]
    """One request after the other; empty when not asked for."""
    server: dict[str, ServerRow]
    """Random arrivals; empty when not asked for."""
    facts: dict[str, Any]


def measure_http(
    config: BenchRequest,
    root: Path,
    inputs: Inputs,
    keep: Callable[[str], Callable[[str, object], None]],
    absent: Mapping[str, str],
) -> OverHttp:
    """Every row that has a service and is not `absent`, in the scenarios asked for; nothing where none is.

    Raises `BenchError` when a service does not start, does not answer 200, or runs on other threads than it was given.
    """
    arrivals = "Server" in config.scenarios
    rows = [row for row in config.rows if is_served(row) and row not in absent]
    if not rows or not (config.http or arrivals):
        return OverHttp(closed={}, server={}, facts={})
    closed: dict[str, SpeedRow] = {}
    server: dict[str, ServerRow] = {}
    facts: dict[str, Any] = {}
    texts = inputs.workload.texts
    if config.http:
        facts["client_overhead_ms"] = round(measure_client_overhead_ms(texts[0]), 4)
    with _serving(config, rows, root) as servers:
        targets = [_target(row, root, servers[row], inputs) for row in rows]
        if config.http:
            workload = replace(inputs.workload, rounds=min(config.rounds, config.http_rounds), parts=1)
            load = measure_over_http(targets, workload, keep=keep("http"))
            closed = {target.name: _row(target, root, servers[target.name], config.threads) for target in load.targets}
            facts["http"] = {target.name: summarize(target) for target in load.targets}
            facts["client_cpu_share"] = round(load.client_cpu_share, 3)
        if arrivals:
            server = measure_server(targets, texts, config.server, seed=config.seed, keep=keep("server"))
    facts["service_ready_seconds"] = {each.service.name: round(each.ready_seconds, 2) for each in servers.values()}
    return OverHttp(closed=closed, server=server, facts=facts)


@contextlib.contextmanager
def _serving(config: BenchRequest, rows: Sequence[str], root: Path) -> Iterator[dict[str, Server]]:
    """The healthy service of each row; they start side by side, which is mostly Python importing."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-")))
        planned = services(config, rows, root, home)
        with ThreadPoolExecutor(len(planned)) as pool:
            started = list(pool.map(lambda each: stack.enter_context(running(each[1])), planned))
        for server in started:
            check_threads_of(server, config.threads)
        yield {row: server for (names, _), server in zip(planned, started, strict=True) for row in names}


def services(config: BenchRequest, rows: Sequence[str], root: Path, home: Path) -> list[tuple[list[str], Service]]:
    """The services to start for `rows`, each with those that it answers for; `home` keeps BentoML's files."""
    exported = [row for row in rows if not row.endswith(f"/{PYTORCH}")]
    started = [([row], _pytorch_service(row, config, root, home)) for row in rows if row not in exported]
    if exported:
        started.append((exported, _bundle_service(exported, config, root, home)))
    return started


def check_threads_of(server: Server, threads: int) -> None:
    """`BenchError` when the service says that it runs on other than `threads` of them."""
    found = server.read_json("/info")["threads"]["intra_op_threads"]
    if found != threads:
        raise BenchError(f"service {server.service.name} was given {threads} threads and runs on {found}")


def _bundle_service(rows: Sequence[str], config: BenchRequest, root: Path, home: Path) -> Service:
    bundles = {model: path for row in rows for model, path in _bundles_of(row, root).items()}
    cascades = root / CALIBRATION / SERVICE if CASCADE in rows else None
    settings = Settings(bundles=bundles, default=next(iter(bundles)), config=cascades)
    environment = environment_of(settings, plan_threads(1, config.threads), home)
    return _service("bundles", "serve.service:Understudy", config.threads, environment)


def _bundles_of(row: str, root: Path) -> dict[str, Path]:
    """Where the models lie that answer for a row, as its service names them: one, or both of a cascade."""
    if row == CASCADE:
        return {model: path for member in read_members(root) for model, path in _bundles_of(member, root).items()}
    if row == BASELINE:
        return {f"{BASELINE}/{read_baseline(root / BASELINE).precision}": root / BASELINE}
    return {row: root / "bundles" / row.partition("/")[0]}


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


def _target(row: str, root: Path, server: Server, inputs: Inputs) -> Target:
    return Target(
        name=row,
        port=server.service.port,
        path=inputs.path,
        headers={"X-Model": row if row == CASCADE else next(iter(_bundles_of(row, root)))},
        max_tokens=inputs.max_tokens.get(row),
    )


def _row(target: MeasuredTarget, root: Path, server: Server, threads: int) -> SpeedRow:
    """Size as the service states it; memory is that of all its processes, shared by its rows."""
    sizes = server.read_json("/info")["size_bytes"]
    size_bytes = sum(sizes[model] for model in _bundles_of(target.name, root))
    return speed_row(
        target.rounds, threads=threads, size_bytes=size_bytes, peak_memory_bytes=server.peak_memory_bytes()
    )
