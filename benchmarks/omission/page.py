"""`docs/results/omission.md` and its drawing, of the raw samples."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.results import Interval
from pipeline.statistics import percentile
from pipeline.table import MISSING, format_ms

SLOW_MS = 100.0
"""What counts as slow here, far above what a request takes alone."""
NAMES = {"open": "open loop", "closed": "closed loop, 1 connection"}
COLORS = {"open": "#0072b2", "closed": "#d55e00"}

HEADER = """\
# Coordinated omission, shown

Written by `python -m benchmarks.omission`, from the raw samples in `benchmarks/omission/results/`. One service answers
any number of requests 4 ms after each came, and once stands still for {stall:g} s. Two loops ask it at the same time,
for {seconds:g} s. The open loop sends {rate:g} requests a second at random times set beforehand, and counts from those.
The closed loop sends a request when it has the answer to the last one, and counts from sending.

![latencies over time, and by rank](omission.svg)
"""

FOOTER = """\
The service was the same, the second was the same. During it, {waiting} people came and waited; the closed loop sent one
request, which waited for all of them. That is {share:.1%} of what came and {closed_share:.2%} of what the closed loop
counted, so the one shows in a 99th percentile and the other cannot. Queueing alone predicts {predicted:.0f} of the open
loop's requests above {slow:g} ms: all that come in the first {window:g} s of the stall, at {rate:g} a second.
"""


def write_page(found: Mapping[str, Any], page: Path) -> None:
    """The page, and `omission.svg` beside it."""
    _plot(found, page.with_name("omission.svg"))
    page.write_text("\n".join(_lines(found)), encoding="utf-8")


def count_slow(found: Mapping[str, Any], loop: str) -> int:
    """Requests of a loop above `SLOW_MS`."""
    return sum(ms > SLOW_MS for ms in found[loop]["ms"])


def predict_slow(found: Mapping[str, Any]) -> float:
    """Expected of the open loop: arrivals of the stall whose wait for its end is longer than `SLOW_MS`."""
    return float(found["rate_per_second"] * (found["stall_seconds"] - SLOW_MS / 1e3))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    rate, stall = found["rate_per_second"], found["stall_seconds"]
    yield HEADER.format(stall=stall, seconds=found["seconds"], rate=rate)
    yield f"| loop | requests | above {SLOW_MS:g} ms | p50 | p99 | slowest |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for loop, name in NAMES.items():
        ms = found[loop]["ms"]
        cells = (f"{len(ms):,}", f"{count_slow(found, loop):,}", _percentile(ms, 0.5), _percentile(ms, 0.99))
        yield f"| {name} | {' | '.join(cells)} | {max(ms):,.0f} ms |"
    yield ""
    yield FOOTER.format(
        waiting=count_slow(found, "open"), share=count_slow(found, "open") / len(found["open"]["ms"]),
        closed_share=count_slow(found, "closed") / len(found["closed"]["ms"]), predicted=predict_slow(found),
        slow=SLOW_MS, window=stall - SLOW_MS / 1e3, rate=rate,
    )  # fmt: skip
    late, machine, load = found["open"]["late_ms"], found["machine"], found["load_average"]
    yield (
        f"*The client was {np.quantile(late, 0.99):.2f} ms late (p99) and took {found['client_cpu_share']:.0%} of a "
        f"core. {machine['processor']}, {machine['usable_cores']} cores; load average before {load['before']}, after "
        f"{load['after']}.*\n"
    )


def _percentile(ms: list[float], share: float) -> str:
    found: Interval | None = percentile(ms, share)
    return str(format_ms(found)) if found else MISSING


def _plot(found: Mapping[str, Any], path: Path) -> None:
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for loop, name in NAMES.items():
        left.plot(
            found[loop]["begun_seconds"], found[loop]["ms"], ".", color=COLORS[loop], markersize=3, label=name,
            rasterized=True,  # thousands of points as outlines are half a megabyte
        )  # fmt: skip
        _draw_ranks(right, np.sort(found[loop]["ms"]), COLORS[loop])
    left.set_yscale("log")
    left.set_xlabel("seconds since the start")
    left.set_ylabel("latency, ms")
    left.legend(frameon=False, fontsize=8, loc="upper left")
    right.set_xscale("log")
    right.set_xticks([1, 10, 100, 1000], ["all", "1 in 10", "1 in 100", "1 in 1,000"])
    right.axvline(100, color="#888888", linewidth=0.8, linestyle="--")
    right.set_xlabel("share of requests at least so slow (dashed: p99)")
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=150, metadata={"Date": None})


def _draw_ranks(axes: Axes, ordered: np.ndarray, color: str) -> None:
    """Each latency against one over the share of requests at least as slow."""
    rarity = len(ordered) / np.arange(len(ordered), 0, -1)
    axes.plot(rarity, ordered, color=color, linewidth=1.5)
