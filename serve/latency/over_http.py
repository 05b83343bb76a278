"""Latency over HTTP: the same texts, rounds and order as in process, through services on the loopback interface.

    with running(service) as server:
        load = measure_over_http([Target(name="student/int8", port=port, headers={"X-Model": ...}), ...], workload)

Single texts go one after the other over one connection that is kept alive (closed loop), and so do queries of several
texts, each as one request; throughput is that of several connections, each with one text under way. One target works
at a time, whichever server it is on.
"""

import contextlib
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from artifact.progress import progress
from serve.latency.client import Connection, Target
from serve.latency.contestant import child_environment
from serve.latency.plan import Asked, Keep, Round, Task, Workload
from serve.latency.server import Service, free_port, running
from serve.latency.timing import WarmUp, WarmUpLimits, settle, time_after, time_calls, warm_up
from serve.latency.turns import take_turns

CONNECTIONS = 8
"""Connections of the throughput measurement."""

NULL_CALLS = 400


@dataclass(frozen=True, kw_only=True)
class MeasuredTarget:
    """All about one target, samples raw."""

    name: str
    rounds: tuple[Round, ...]
    """Their batches are single texts over several connections at once."""
    warm_up: WarmUp


@dataclass(frozen=True, kw_only=True)
class Load:
    """A measurement over HTTP, and how much of it may be the client's own doing."""

    targets: tuple[MeasuredTarget, ...]
    """In the order given."""
    client_cpu_share: float
    """Processor time of this process over wall time; near 1, the client was the bottleneck."""


def measure_over_http(
    targets: Sequence[Target],
    workload: Workload,
    *,
    keep: Keep = lambda _name, _round: None,
    limits: WarmUpLimits | None = None,
    connections: int = CONNECTIONS,
) -> Load:
    """Warm up every target, let them take turns, and return what each did.

    Raises `BenchError` naming the target that did not answer 200, with the status and the head of the body.
    """
    by_name = {target.name: target for target in targets}
    warm_ups = _warm_up_all(targets, workload.task(0), limits or WarmUpLimits())
    begun, cpu_begun = time.perf_counter(), time.process_time()
    rounds = take_turns(
        list(by_name), workload, lambda name, task: _work(by_name[name], task, connections), keep, "over HTTP",
        join=Round.join,
    )  # fmt: skip
    share = (time.process_time() - cpu_begun) / (time.perf_counter() - begun)
    measured = (MeasuredTarget(name=name, rounds=rounds[name], warm_up=warm_ups[name]) for name in by_name)
    return Load(targets=tuple(measured), client_cpu_share=share)


def measure_client_overhead_ms(text: Asked) -> float:
    """Median time of a request that costs the service nothing: what client, kernel and loopback add to every sample.

    An upper bound, since the service of this measurement is a loop in Python.
    """
    port = free_port()
    argv = [sys.executable, "-m", "serve.latency.null", str(port)]
    service = Service(name="null", argv=argv, environment=child_environment(1), port=port, seconds_to_ready=20.0)
    target = Target(name="null", port=port)
    with running(service), Connection(target) as connection:
        return statistics.median(time_calls(connection.ask, [target.request(text)] * NULL_CALLS))


def _warm_up_all(targets: Sequence[Target], task: Task, limits: WarmUpLimits) -> dict[str, WarmUp]:
    warm_ups = {}
    with progress("warm up over HTTP", total=len(targets)) as advance:
        for target in targets:
            with Connection(target) as connection:
                requests = [target.request(text) for text in task.singles]
                warm_ups[target.name] = warm_up(connection.ask, requests, limits)
            advance(1, target.name)
    return warm_ups


def _work(target: Target, task: Task, connections: int) -> Round:
    """One turn. Connections are made anew: servers close those that idle while others have their turn."""
    singles = [target.request(text) for text in task.singles]
    queries = [target.request_all(texts) for texts in task.queries]
    lengths = task.within(target.max_tokens).by_length
    by_length = {tokens: [target.request(text) for text in texts] for tokens, texts in lengths.items()}
    concurrent = [target.request(text) for batch in task.batches for text in batch]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Connection(target)) for _ in range(connections if concurrent else 1)]
        ask = opened[0].ask
        settle(ask, singles, task.settle_ms)
        begun = time.perf_counter_ns()
        single_ms = time_calls(ask, singles)
        multi_ms = time_after(ask, queries, 1)
        by_length_ms = {tokens: time_after(ask, requests, 1) for tokens, requests in by_length.items()}
        seconds = _drain(opened, concurrent) if concurrent else 0.0
    return Round(
        index=task.index,
        begun_ns=begun,
        ended_ns=time.perf_counter_ns(),
        single_ms=single_ms,
        multi_ms=multi_ms,
        by_length_ms=by_length_ms,
        batch_texts=len(concurrent),
        batch_seconds=seconds,
    )


def _drain(connections: Sequence[Connection], requests: Sequence[bytes]) -> float:
    """Seconds in which the connections together had all requests answered, each with one under way."""
    waiting: SimpleQueue[bytes] = SimpleQueue()
    for request in requests:
        waiting.put(request)

    def drain(connection: Connection) -> None:
        with contextlib.suppress(Empty):
            while True:
                connection.ask(waiting.get_nowait())

    with ThreadPoolExecutor(len(connections)) as pool:
        begun = time.perf_counter()
        list(pool.map(drain, connections))
        return time.perf_counter() - begun
