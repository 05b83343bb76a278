"""The page of `benchmarks.latency`, from the samples in `results/`."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.latency.agreement import BARE, OURS, SAME_CALL
from benchmarks.latency.pages import pages_table
from benchmarks.latency.settling import settling_table
from pipeline.results import Interval
from pipeline.statistics import median_of_rounds, ratio_of_medians

OVERHEAD, AGREEMENT = 0.01, 0.03
"""The bars: of a call of 1 ms; of the median."""
QUIET_LOAD = 0.5
"""Load average for each core above which others were at work."""
HEADER = """\
# Is our measuring right?

Written by `python -m benchmarks.latency`, from the raw samples in `benchmarks/latency/results/`. Loops take turns,
block by block in random order. Ratios are of medians, with a 95 % interval by bootstrap over rounds.
"""


def write_page(results: Path, page: Path) -> None:
    """`page`, from what is in `results`: the loop's cost, then each model that loops were compared on."""
    sections = [HEADER]
    for part, section in SECTIONS.items():
        for file in sorted(results.glob(f"{part}*.json")):
            found = json.loads(file.read_text(encoding="utf-8"))
            sections += ["\n".join([*section(found), *_machine(found)]) + "\n"]
    page.write_text("\n".join(sections), encoding="utf-8")


def _overhead(found: Mapping[str, Any]) -> Iterator[str]:
    empty, busy = found["ms_per_call"]["empty"], found["ms_per_call"]["busy"]
    added_ns = overhead_ns(empty)
    share = added_ns / 1e6 / found["busy_ms"]
    times = ratio_of_medians(busy["ours"], busy["bare"], seed=1)
    said, count, rounds = median(found["busy_said_ms"]), len(found["busy_said_ms"]), len(empty["ours"])
    yield "## What the loop costs\n"
    yield (
        "*Ours* is the expression with which a contestant's process times single texts, *bare* a `for` with the same "
        "call and no clock. The whole block is timed from outside.\n"
    )
    yield "| call | ours, a call | bare, a call | added | bar |"
    yield "| --- | ---: | ---: | ---: | --- |"
    yield (
        f"| does nothing | {1e6 * median(empty['ours']):.0f} ns | {1e6 * median(empty['bare']):.0f} ns "
        f"| {added_ns:.0f} ns, {share:.3%} of {found['busy_ms']:g} ms "
        f"| under {OVERHEAD:.0%}: {_word(share < OVERHEAD)} |"
    )
    yield (
        f"| computes {found['busy_ms']:g} ms | {median(busy['ours']):.5f} ms | {median(busy['bare']):.5f} ms "
        f"| {_percent(times)} | under {OVERHEAD:.0%}: {_word(times.high < 1 + OVERHEAD)} |"
    )
    yield (
        f"\nOf the calls of {found['busy_ms']:g} ms our samples say {said:.5f} ms, median of {count:,}. "
        f"{rounds} rounds of {found['calls']['empty']:,} and {found['calls']['busy']:,} calls."
    )


def overhead_ns(empty: Mapping[str, list[float]]) -> float:
    """What our loop adds to a call that does nothing: median over rounds of the difference, in nanoseconds."""
    return 1e6 * median(ours - bare for ours, bare in zip(empty["ours"], empty["bare"], strict=True))


def _agreement(found: Mapping[str, Any]) -> Iterator[str]:
    samples = found["single_ms"]
    yield f"## Whether others find the same: {found['model']}\n"
    yield (
        f"{found['threads']} threads, texts of up to {found['longest_tokens']} tokens; "
        f"{len(samples[OURS])} rounds of {len(samples[OURS][0])} single texts, one session for all. *Ours* is "
        "SingleStream as a contestant's process measures it. *By hand, our runtime* differs by the loop alone; "
        "*by hand, bare session* has a tokenizer and the session and also lacks what our runtime does around them; "
        "*optimum-benchmark's tracker* is what that program times its backends with.\n"
    )
    yield "| loop | p50 ms | ours over it | bar |"
    yield "| --- | ---: | ---: | --- |"
    for name in samples:
        p50 = median_of_rounds(samples[name], seed=1)
        cells = [name, f"{p50.value:.4f} [{p50.low:.4f}, {p50.high:.4f}]", "", ""]
        if name != OURS:
            times = ratio_of_medians(samples[OURS], samples[name], seed=1)
            cells[2:] = _percent(times), "" if name == BARE else judge_agreement(times)
        yield f"| {' | '.join(cells)} |"
    more_us = 1000 * (_p50(samples[SAME_CALL]) - _p50(samples[BARE]))
    yield (
        f"\nThe bar is on the loops, so it is on rows that make the same call. What our runtime does around a bare "
        f"session takes {more_us:.0f} µs a text; whoever is served waits for that, so it is in our figures."
    )


def _p50(rounds: list[list[float]]) -> float:
    return median(sample for turn in rounds for sample in turn)


SECTIONS = {
    "overhead": _overhead, "settling": partial(settling_table, bar=AGREEMENT), "pages": pages_table,
    "agreement": _agreement,
}  # fmt: skip


def judge_agreement(times: Interval) -> str:
    """Whether the whole interval lies within the bar, beyond it, or across."""
    inside = times.low >= 1 - AGREEMENT and times.high <= 1 + AGREEMENT
    outside = times.low > 1 + AGREEMENT or times.high < 1 - AGREEMENT
    return f"within {AGREEMENT:.0%}: {'**open**' if not inside and not outside else _word(inside)}"


def _word(held: bool) -> str:
    return "**holds**" if held else "**missed**"


def _percent(times: Interval) -> str:
    value, low, high = (f"{100 * (each - 1):+.2f}" for each in (times.value, times.low, times.high))
    return f"{value} % [{low}, {high}]"


def _machine(found: Mapping[str, Any]) -> Iterator[str]:
    machine, load = found["machine"], found["load_average"]
    if load["before"] > QUIET_LOAD * machine["usable_cores"]:
        yield f"\n**Provisional**: the load average was {load['before']} before, so others were at work."
    yield (
        f"\n*{machine.get('processor') or machine['architecture']}, {machine['usable_cores']} cores; "
        f"load average before {load['before']}, after {load['after']}.*"
    )
