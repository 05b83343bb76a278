"""Our SingleStream beside loops written by hand, over one session and the same texts, block by block in random order.

*Ours* is the turn of a contestant as its process takes it. One loop by hand calls our runtime, so that it differs by
the loop alone; the other has a bare tokenizer and the bare session, so that it also lacks what our runtime does. Where
optimum-benchmark is installed, its tracker of latencies measures the calls to our runtime too.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import read_split
from artifact.progress import progress
from benchmarks.latency.by_hand import time_by_hand
from pipeline.bench_config import BenchConfig
from serve.latency.plan import Task, Workload
from serve.latency.timing import SETTLE_MS, WarmUpLimits, settle, warm_up
from serve.latency.worker import work
from serve.runtime import Runtime

OURS, SAME_CALL, BARE = "ours", "by hand, our runtime", "by hand, bare session"
OPTIMUM = "optimum-benchmark's tracker, our runtime"
TEXTS = 256
PARTS = BenchConfig().parts
"""Of a round."""


def measure_agreement(
    bundle: Path, precision: str, data: Path, *, threads: int, rounds: int, calls: int
) -> dict[str, Any]:
    """Milliseconds by loop, round and call."""
    runtime = Runtime.open(bundle, precision, threads=threads)
    texts = tuple(example.text for example in read_split(data, "test")[:TEXTS])
    workload = Workload(
        texts=texts, rounds=rounds, calls_per_round=calls, parts=PARTS, batch_size=1, batches_per_round=1
    )
    warmed = warm_up(lambda text: runtime.run([text]), texts, WarmUpLimits())
    outputs = list(runtime.wanted)
    blocks: dict[str, Callable[[Task], Sequence[float]]] = {
        OURS: lambda task: work(runtime, task).single_ms,
        SAME_CALL: lambda task: time_plainly(runtime, task.singles),
        BARE: lambda task: time_by_hand(runtime.tokenizer, runtime.session, outputs, task.singles, SETTLE_MS),
    }
    if importlib.util.find_spec("optimum_benchmark"):
        blocks[OPTIMUM] = lambda task: time_with_optimum(runtime, task.singles)
    taken: dict[str, list[list[float]]] = {name: [[] for _ in range(rounds)] for name in blocks}
    with progress("agreement", total=rounds) as advance:
        for index in range(rounds):
            for part, task in enumerate(workload.tasks(index)):
                for name in workload.order(list(blocks), index, part):
                    taken[name][index] += [round(ms, 5) for ms in blocks[name](task)]
            advance(1, "")
    return {
        "model": runtime.name,
        "digest": runtime.digest,
        "threads": runtime.threads,
        "flat": warmed.flat,
        "single_ms": taken,
        "longest_tokens": int(np.max(runtime.tokenize(texts).lengths)),
    }


def time_plainly(runtime: Runtime, texts: Sequence[str], settle_ms: float = SETTLE_MS) -> list[float]:
    """The shortest loop with a clock."""
    settle(lambda text: runtime.run([text]), texts, settle_ms)
    samples = []
    for text in texts:
        begun = time.perf_counter()
        runtime.run([text])
        samples.append(1000 * (time.perf_counter() - begun))
    return samples


def time_with_optimum(runtime: Runtime, texts: Sequence[str]) -> list[float]:
    """As optimum-benchmark's inference scenario times the calls of a backend: in a session of its tracker."""
    from optimum_benchmark.trackers.latency import LatencySessionTracker

    settle(lambda text: runtime.run([text]), texts, SETTLE_MS)
    tracker = LatencySessionTracker(device="cpu", backend="onnxruntime")
    with tracker.session():
        for text in texts:
            with tracker.track():
                runtime.run([text])
    return [1000 * seconds for seconds in tracker.get_latency().values]
