"""The bench stage: how fast each row of the report answers, in process and through its service, on the same texts.

Contestants take turns in random order (see `serve.latency.in_process` and `serve.latency.over_http`); every sample is
kept, first as a line of `records/raw.jsonl` the moment it is there, then in `benchmark.json`.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifact.digest import RECORDS, hash_file
from artifact.errors import BenchError, ConfigError
from artifact.manifest import write_json
from artifact.progress import say
from artifact.stage import Stage, Work
from pipeline.bench_config import BenchRequest
from pipeline.bench_http import measure_http
from pipeline.bench_inputs import Inputs, make_inputs, read_histogram
from pipeline.bench_more import ask_gates
from pipeline.bench_samples import keeping, speed_row, summarize
from pipeline.gate_defaults import gates_of
from pipeline.gate_measure import SPEED
from pipeline.machine import fingerprint, load_average, tell_if_busy
from pipeline.recipe import Recipe
from pipeline.results import Benchmark, SpeedRow
from pipeline.rows import measured_inputs, opener, threads_of
from pipeline.rows_config import is_optional
from pipeline.tasks import TASKS
from serve.latency.contestant import Contestant, thread_environment
from serve.latency.in_process import Lose, Measured, measure
from serve.threads import available_cores

VERSION = 5


def bench_stage(recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that measures speed for `recipe` below its output folder `root`, and its work.

    Raises `ConfigError` for a gate on what is not measured, and for a histogram that is none.
    """
    rows = tuple(recipe.row_names())
    gates = {  # a row that is not measured is for the report to miss
        name: gate
        for name, gate in gates_of(recipe.gates, has_baseline=recipe.baseline is not None).items()
        if gate.metric in SPEED and (gate.reference is None or gate.reference in rows)
    }
    for name, gate in gates.items():
        if gate.metric == "throughput" and "Offline" not in recipe.bench.scenarios:
            raise ConfigError(f"gates.{name} is on throughput, which is not measured", "add Offline to bench.scenarios")
    config = BenchRequest(**recipe.bench.model_dump(), rows=rows, candidate=recipe.candidate, gates=gates)
    digests = {}
    if config.histogram is not None:
        read_histogram(config.histogram)
        digests["histogram"] = hash_file(config.histogram)
    stage = Stage(
        name="bench", version=VERSION, kind="benchmark", out=root / "benchmark", config=config,
        inputs=measured_inputs(recipe, root), digests=digests,
    )  # fmt: skip
    return stage, lambda out: run_bench(config, root, out)


def run_bench(config: BenchRequest, root: Path, out: Path) -> Mapping[str, Any]:
    """Write `benchmark.json` to `out`; returns medians and warm-ups by row, seconds, and what the client costs.

    Raises `BenchError` when more threads are asked for than there are cores, or when a contestant fails that the
    report cannot do without; what was measured until then is in `records/raw.jsonl`.
    """
    begun, load = time.perf_counter(), {"before": load_average()}
    check_threads(config.threads, available_cores())
    tell_if_busy(available_cores(), "ratios hold, milliseconds do not")
    inputs, absent = make_inputs(config, root), dict[str, str]()
    with keeping(out / RECORDS / "raw.jsonl") as keep:
        measured = measure(
            contestants(config, root, inputs), inputs.workload,
            keep=keep("in_process"), more=ask_gates(config), lose=bear_optional(config, absent),
        )  # fmt: skip
        http = measure_http(config, root, inputs, keep, absent)
    load["after"] = load_average()
    benchmark = Benchmark(
        machine=fingerprint(), in_process={row.name: _row(row) for row in measured}, http=http.closed,
        server=http.server, looks=len(config.looks), load_average=load, absent=absent,
    )  # fmt: skip
    write_json(out / "benchmark.json", benchmark.model_dump(mode="json"))
    return {
        **inputs.facts,
        "seconds": round(time.perf_counter() - begun, 1),
        "rounds": max((len(row.rounds) for row in measured), default=0),
        "load_average": load,
        "environment": thread_environment(config.threads),
        "in_process": {row.name: summarize(row) | {"ready_seconds": round(row.ready_seconds, 2)} for row in measured},
        **http.facts,
    }


def check_threads(threads: int, cores: int) -> None:
    """`BenchError` when `threads` that compute would have to share `cores`."""
    if threads > cores:
        raise BenchError(f"bench.threads is {threads}, but this process may use {cores} cores", "lower bench.threads")


def contestants(config: BenchRequest, root: Path, inputs: Inputs) -> list[Contestant]:
    """Every row as something to measure in process."""
    threads = {row: threads_of(row, config.threads) for row in config.rows}
    wrap = TASKS[inputs.task].open_benched
    return [
        Contestant(
            name=row,
            factory=wrap(opener(row, root, config.threads)) if wrap else opener(row, root, config.threads),
            threads=threads[row],
            max_tokens=inputs.max_tokens[row],
        )
        for row in config.rows
    ]


def bear_optional(config: BenchRequest, absent: dict[str, str]) -> Lose:
    """What bears the loss of rows that the report can do without, and puts the reason into `absent`."""
    judged = {config.candidate, *(gate.reference for gate in config.gates.values())}

    def lose(row: str, error: BenchError) -> None:
        if row in judged or not is_optional(row):
            raise error
        absent[row] = error.problem.removeprefix(f"{row} ")
        say(f"  without {row}: it {absent[row]}")

    return lose


def _row(row: Measured) -> SpeedRow:
    return speed_row(
        row.rounds, threads=row.threads, size_bytes=row.size_bytes, peak_memory_bytes=row.peak_memory_bytes
    )
