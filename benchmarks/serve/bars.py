"""The bars the service was built to, each with what was measured."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.serve.contestants import CONTESTANTS, OURS
from benchmarks.serve.figures import (
    BATCHING_PEERS,
    Results,
    Statistic,
    Verdict,
    best_peer,
    best_size,
    inside_latency,
    inside_throughput,
    interval,
    judge,
    latency,
    minus,
    over,
    peers_of,
    throughput,
)
from pipeline.results import Interval

MOST_START_SECONDS = 3.0
MOST_MEGABYTES = 250.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row."""

    text: str
    figure: Interval
    verdict: Verdict
    unit: str = ""
    places: int = 2


def list_bars(results: Results) -> list[Bar]:
    """All that the samples can judge, in the order they were set."""
    return [*_single(results), *_closed(results), *_open(results), _inside(results), *_footprint(results)]


def _at_most(results: Results, text: str, statistic: Statistic, bar: float, unit: str = "") -> Bar:
    figure = interval(results, statistic)
    return Bar(text=text, figure=figure, verdict=judge(figure, bar, at_most=True), unit=unit)


def _at_least(results: Results, text: str, statistic: Statistic, bar: float) -> Bar:
    figure = interval(results, statistic)
    return Bar(text=text, figure=figure, verdict=judge(figure, bar, at_most=False))


def _single(results: Results) -> list[Bar]:
    tokens = results["tokens"]["single"]
    return [
        _at_most(
            results, f"One connection, {tokens} tokens: {word} at most {bar} ms above in process",
            minus(latency(results, OURS, "single", share), inside_latency(results, share)), bar, " ms",
        )
        for word, share, bar in (("p50", 0.5, 1.5), ("p99", 0.99, 4.0))
    ]  # fmt: skip


def _closed(results: Results) -> list[Bar]:
    rate, size = partial(throughput, results), best_size(results)
    tail = partial(latency, results, scenario="closed", share=0.99)
    rows = [
        _at_least(
            results, f"32 connections: at least 0.95 of plain ONNX Runtime in process (batches of {size})",
            over(rate(OURS), inside_throughput(results, size)), 0.95,
        )
    ]  # fmt: skip
    if _any(results, BATCHING_PEERS):
        best = best_peer(results, rate, BATCHING_PEERS, lowest=False)
        rows.append(
            _at_least(
                results, f"32 connections: at least 1.4 times the texts/s of the best that batches ({best})",
                over(rate(OURS), rate(best)), 1.4,
            )
        )  # fmt: skip
        rows.append(_half(results, "32 connections", BATCHING_PEERS, tail))
    return rows


def _open(results: Results) -> list[Bar]:
    peers = peers_of(results)
    return [
        _half(results, f"{scenario[0].upper()}{scenario[1:]} ({rate:.0f}/s)", peers,
              partial(latency, results, scenario=scenario, share=0.99))
        for scenario, rate in results["rates"].items()
        if peers
    ]  # fmt: skip


def _half(results: Results, where: str, peers: list[str] | tuple[str, ...], tail: Callable[[str], Statistic]) -> Bar:
    best = best_peer(results, tail, peers, lowest=True)
    text = f"{where}: p99 at most half of the best peer's ({CONTESTANTS[best].name})"
    return _at_most(results, text, over(tail(OURS), tail(best)), 0.5)


def _inside(results: Results) -> Bar:
    size = best_size(results)
    return _at_least(
        results, f"In process, mixed: at least 1.25 times plain ONNX Runtime, sorted, in batches of {size}",
        over(inside_throughput(results, None), inside_throughput(results, size)), 1.25,
    )  # fmt: skip


def _footprint(results: Results) -> list[Bar]:
    found = results["footprint"]
    ready = sorted(found["ready_seconds"])
    middle = ready[len(ready) // 2]
    start = Interval(value=middle, low=ready[0], high=ready[-1])
    above = [(peaks[0] - found["weights_bytes"]) / 1e6 for peaks in found["peak_bytes"]]
    memory = Interval(value=max(above), low=min(above), high=max(above))
    return [
        Bar(
            text=f"{found['precision']}: ready in under {MOST_START_SECONDS:.0f} s (median and range of all starts)",
            figure=start, verdict=judge(start, MOST_START_SECONDS, at_most=True), unit=" s",
        ),
        Bar(
            text=f"{found['precision']}: a worker's peak at most {MOST_MEGABYTES:.0f} MB above the weights (range)",
            figure=memory, verdict=judge(memory, MOST_MEGABYTES, at_most=True), unit=" MB", places=0,
        ),
    ]  # fmt: skip


def _any(results: Results, peers: tuple[str, ...]) -> bool:
    return any(name in results["chosen"] for name in peers)
