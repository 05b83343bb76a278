"""`docs/results/service.md`, of a results file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serve.bars import Bar, list_bars
from benchmarks.serve.contestants import CONTESTANTS
from benchmarks.serve.figures import (
    FOREVER_MS,
    IN_PROCESS,
    Results,
    best_size,
    inside_latency,
    inside_throughput,
    interval,
    latency,
    matrix_rate,
    names_of,
    quantile_by_band,
    reached_rate,
    throughput,
)
from benchmarks.serve.texts import BANDS
from pipeline.results import Interval
from serve.load.texts import MEDIAN_TOKENS, P99_TOKENS

PAGE = Path("docs/results/service.md")

INTRODUCTION = """\
# The service beside its peers

all-MiniLM-L6-v2 in float32, the same weights for all; before anything was timed, every service's embeddings
were within a cosine distance of 1e-4 of ours. All services ran on {threads} cores, which the client shared.
They took turns in random order in {rounds} rounds; those that waited were asleep. Each peer had the fastest of
the settings listed below. Brackets hold 95 % intervals, by bootstrap over rounds. Mixed texts are {texts} of
lognormal length, median {median} tokens and 99th percentile {p99} ({most} the longest here). In an open loop
requests come at random times of a stated rate, and their latency counts from the scheduled time. A request that
failed counts as one that took forever.

{setting} Written by `python -m benchmarks.serve`.
"""


def render(results: Results) -> str:
    """The whole page, in Markdown."""
    tokens = results["tokens"]["mixed"]
    introduction = INTRODUCTION.format(
        threads=results["threads"], rounds=len(results["rounds"]), texts=len(tokens), median=MEDIAN_TOKENS,
        p99=P99_TOKENS, most=max(tokens), setting=_setting(results),
    )  # fmt: skip
    parts = [
        introduction,
        "## Bars\n\n" + _table(("bar", "figure", ""), [_bar(bar) for bar in list_bars(results)], "lrl"),
        "## Over HTTP\n\n" + _over_http(results),
        _bound(results),
        "## By length\n\n99th percentile in the open loop, milliseconds.\n\n" + _by_band(results),
        "## In process\n\n" + _in_process(results),
        "## Start and memory of the int8 bundle\n\n" + _footprint(results["footprint"]),
        "## Settings tried\n\nTexts a second over 32 connections; the first of each service was measured on.\n\n"
        + _settings(results),
    ]
    return "\n".join(parts)


def show(figure: Interval, places: int = 2, unit: str = "") -> str:
    """A number with its interval; `never` where that many requests failed."""
    if figure.value >= FOREVER_MS:
        return "never"
    spread = "" if figure.low == figure.high else f" [{figure.low:,.{places}f}, {figure.high:,.{places}f}]"
    return f"{figure.value:,.{places}f}{unit}{spread}"


def _bar(bar: Bar) -> tuple[str, str, str]:
    return bar.text, show(bar.figure, bar.places, bar.unit), bar.verdict


def _setting(results: Results) -> str:
    machine, load = results["machine"], results["load_average"]
    name = machine.get("processor") or machine["architecture"]
    shares = _client_shares(results)
    client = ", ".join(f"{share:.0%} ({scenario})" for scenario, share in shares.items())
    return (
        f"{name}, load {load['before']} before and {load.get('after', load['before'])} after. "
        f"The client took at most this share of one core: {client}."
    )


def _client_shares(results: Results) -> dict[str, float]:
    scenarios = ("single", "closed", *results["rates"])
    return {
        scenario: max(
            taken[name][scenario]["client_cpu_share"] for taken in results["rounds"] for name in names_of(results)
        )
        for scenario in scenarios
    }


def _over_http(results: Results) -> str:
    rates = results["rates"]
    header = ["service", "1 connection p50 ms", "p99 ms", "32 connections texts/s", "p99 ms"]
    for scenario, rate in rates.items():
        header += [f"{scenario} ({rate:.0f}/s) p50 ms", "p99 ms"]
    rows = []
    for name in names_of(results):
        cells = [CONTESTANTS[name].title]
        cells += [_cell(results, name, "single", share) for share in (0.5, 0.99)]
        cells += [show(interval(results, throughput(results, name)), 1), _cell(results, name, "closed", 0.99)]
        cells += [_cell(results, name, scenario, share) for scenario in rates for share in (0.5, 0.99)]
        rows.append((*cells, str(_count_failures(results, name))))
    return _table((*header, "failed requests"), rows, "l" + "r" * len(header))


def _cell(results: Results, name: str, scenario: str, share: float) -> str:
    return show(interval(results, latency(results, name, scenario, share)), 1)


def _count_failures(results: Results, name: str) -> int:
    scenarios = ("single", "closed", *results["rates"])
    return sum(sum(taken[name][scenario]["failures"].values()) for taken in results["rounds"] for scenario in scenarios)


def _bound(results: Results) -> str:
    """What no scheduling can change: the mean latency of a closed loop is set by its throughput."""
    best = 32e3 / max(interval(results, throughput(results, name)).value for name in names_of(results))
    return (
        "With 32 connections that each wait for their answer, the mean latency is 32 over the throughput (Little's\n"
        f"law), whatever the order: {best:.0f} ms at the highest throughput above. No p99 can be lower than that.\n"
    )


def _by_band(results: Results) -> str:
    rows = []
    for scenario, rate in results["rates"].items():
        for name in names_of(results):
            found = quantile_by_band(results, name, scenario, 0.99)
            shown = ("never" if ms >= FOREVER_MS else f"{ms:,.1f}" for ms in found.values())
            rows.append((CONTESTANTS[name].title, f"{scenario} ({rate:.0f}/s)", *shown))
    return _table(("service", "load", *BANDS), rows, "llrrr")


def _in_process(results: Results) -> str:
    texts, best = len(results["tokens"]["mixed"]), best_size(results)
    sweep = ", ".join(f"{size}: {texts / seconds:,.0f}" for size, seconds in results["sweep"].items())
    ours, plain = (interval(results, inside_throughput(results, size)) for size in (None, best))
    machine = matrix_rate(results)
    single = results["tokens"]["single"]
    p50, p99 = (interval(results, inside_latency(results, share)) for share in (0.5, 0.99))
    shapes = results["rounds"][0][IN_PROCESS]["matrix_gflops"]
    rows = [
        (title, show(figure, 1), f"{reached_rate(results, figure.value):,.1f}",
         f"{reached_rate(results, figure.value) / machine:.0%}")
        for title, figure in ((f"plain ONNX Runtime, sorted, batches of {best}", plain), ("our runtime", ours))
    ]  # fmt: skip
    return (
        f"One text of {single} tokens: p50 {show(p50)} ms, p99 {show(p99)} ms. Texts a second of plain ONNX Runtime by "
        f"batch size, once each: {sweep}.\n\nProducts of float32 matrices run at up to {machine:,.1f} GFLOP/s on "
        f"{results['threads']} threads (shapes {', '.join(shapes)}). Work is counted without padding.\n\n"
        + _table(("mixed texts", "texts/s", "GFLOP/s", "of the machine's"), rows, "lrrr")
    )


def _footprint(found: dict[str, Any]) -> str:
    ready = sorted(found["ready_seconds"])
    worker = max(peaks[0] for peaks in found["peak_bytes"])
    total = max(sum(peaks) for peaks in found["peak_bytes"])
    return (
        f"Ready after {', '.join(f'{seconds:.2f}' for seconds in ready)} s. The largest process held at most "
        f"{worker / 1e6:.0f} MB, all processes of the service together {total / 1e6:.0f} MB; the weights are "
        f"{found['weights_bytes'] / 1e6:.1f} MB.\n"
    )


def _settings(results: Results) -> str:
    rows = []
    for name, found in results["chosen"].items():
        for tried in sorted(found["tried"], key=lambda one: one["knobs"] != found["knobs"]):
            knobs = ", ".join(f"{key.removeprefix('PEER_').lower()} {value}" for key, value in tried["knobs"].items())
            cells = (f"{tried['texts_per_second']:,.0f}", str(tried["failures"]), f"{tried['ready_seconds']:.1f}")
            rows.append((CONTESTANTS[name].title, knobs or "as it comes", *cells))
    return _table(("service", "settings", "texts/s", "failed", "ready after s"), rows, "llrrr")


def _table(header: tuple[str, ...] | list[str], rows: Sequence[tuple[str, ...]], sides: str) -> str:
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "".join(f"| {' | '.join(row)} |\n" for row in [tuple(header), tuple(rule), *rows])
