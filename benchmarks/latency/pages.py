"""What a process' memory does to its speed: in small pages and in huge ones, and by who was started first."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from artifact.dataset import read_split
from pipeline.rows import opener
from pipeline.statistics import ratio_of_medians
from serve.huge_pages import TUNABLE, VARIABLE
from serve.latency.contestant import Contestant
from serve.latency.in_process import Measured, measure
from serve.latency.plan import Workload

TEXTS = 256
PAGES = {"small": {VARIABLE: f"{TUNABLE}=0"}, "huge": {VARIABLE: f"{TUNABLE}=1"}}
STARTS = 6
"""Of both kinds, in turn reversed: what a process happens to get is then drawn so often."""
PLACES = ("first", "second", "third", "fourth")
"""Of contestants that are the same, in the order of their start."""
CASES = {"small, started once": ("small", 1), "huge, started once": ("huge", 1), "huge, started twice": ("huge", 2)}
ORDER_ROUNDS = 10
UNEQUAL = 0.01
"""How far the place of a start may move a contestant from the mean of its equals."""


def measure_pages(rows: Sequence[str], out: Path, *, threads: int, rounds: int, runs: int) -> dict[str, Any]:
    """Each row in both kinds of pages, in turns; and the first row four times, by who was started when.

    Rows are those of a report of the recipe that was run into `out`.
    """
    texts = tuple(example.text for example in read_split(out / "data", "test")[:TEXTS])

    def ask(named: Mapping[str, str], row: str, rounds: int, openings: int, seed: int = 1) -> dict[str, Any]:
        """Contestants by name, each with the kind of its pages, take turns."""
        contestants = [
            Contestant(name=name, factory=opener(row, out, threads), threads=threads, environment=PAGES[kind])
            for name, kind in named.items()
        ]
        workload = Workload(
            texts=texts, rounds=rounds, calls_per_round=40, parts=10, openings=openings, batch_size=32,
            batches_per_round=1, seed=seed,
        )  # fmt: skip
        return {each.name: _samples(each) for each in measure(contestants, workload)}

    return {
        "threads": threads,
        "rows": {row: ask({kind: kind for kind in PAGES}, row, rounds, STARTS) for row in rows},
        "order": {
            case: [ask(dict.fromkeys(PLACES, kind), rows[0], ORDER_ROUNDS, openings, seed) for seed in range(runs)]
            for case, (kind, openings) in CASES.items()
        },
        "order_of": rows[0],
    }  # fmt: skip


def pages_table(found: Mapping[str, Any]) -> Iterator[str]:
    """What huge pages bring, row by row; then how far apart equals are, by the place of their start."""
    yield "## Where the memory lies\n"
    yield (
        "The same row in pages of 4 KB and in huge ones, which glibc's `malloc` asks for (`GLIBC_TUNABLES`), "
        f"{found['threads']} threads, in turns, started {STARTS} times.\n"
    )
    yield "| row | small, p50 ms | huge, p50 ms | huge over small | batches, texts/s | peak, MB more |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row, kinds in found["rows"].items():
        small, huge = kinds["small"], kinds["huge"]
        times = ratio_of_medians(huge["single_ms"], small["single_ms"], seed=1)
        batches = median(huge["texts_per_second"]) / median(small["texts_per_second"])
        more = (huge["peak_memory_bytes"] - small["peak_memory_bytes"]) / 1e6
        yield (
            f"| {row} | {_p50(small):.3f} | {_p50(huge):.3f} | {times.value:.3f} [{times.low:.3f}, {times.high:.3f}] | "
            f"{batches:.2f}x | {more:+.1f} |"
        )
    yield (
        f"\n{found['order_of']} four times, by who is started when: how far each is from the mean of the four, over "
        f"{min(map(len, found['order'].values()))} runs of {ORDER_ROUNDS} rounds, with the spread of one run.\n"
    )
    yield f"| pages | {' | '.join(PLACES)} |  |"
    yield f"| --- |{' ---: |' * len(PLACES)} --- |"
    for case, runs in found["order"].items():
        off = np.array([_off(run) for run in runs])
        cells = [f"{100 * fmean(place):+.1f} % ± {100 * np.std(place):.1f}" for place in off.T]
        word = "**holds**" if np.abs(off.mean(axis=0)).max() <= UNEQUAL else "**missed**"
        yield f"| {case} | {' | '.join(cells)} | at most {UNEQUAL:.0%} from the mean: {word} |"


def _samples(measured: Measured) -> dict[str, Any]:
    return {
        "single_ms": [[round(ms, 4) for ms in turn.single_ms] for turn in measured.rounds],
        "texts_per_second": [round(turn.texts_per_second, 2) for turn in measured.rounds],
        "peak_memory_bytes": measured.peak_memory_bytes,
    }


def _p50(row: Mapping[str, Any]) -> float:
    return median(ms for turn in row["single_ms"] for ms in turn)


def _off(run: Mapping[str, Any]) -> list[float]:
    """By place, the logarithm of its median over the mean of the four."""
    logs = [float(np.log(_p50(run[place]))) for place in PLACES]
    return [each - fmean(logs) for each in logs]
