"""From raw samples to figures with intervals, all by bootstrap over rounds: pure functions of a results file."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.serve.contestants import OURS
from benchmarks.serve.inprocess import count_flops
from benchmarks.serve.texts import BANDS
from pipeline.results import Interval
from pipeline.statistics import interval_over_rounds

Results = Mapping[str, Any]
Picks = NDArray[np.intp]
Statistic = Callable[[Picks], float]
Verdict = Literal["holds", "missed", "open"]

RESAMPLES = 2_000
FOREVER_MS = 600_000.0
"""Stands for the latency of a request that failed."""
BATCHING_PEERS = ("bentoml", "litserve", "infinity")
IN_PROCESS = "in process"


def names_of(results: Results) -> list[str]:
    """Of the services, ours first."""
    return list(results["chosen"])


def samples(results: Results, name: str, scenario: str) -> list[NDArray[np.float64]]:
    """Milliseconds of each round; a request that failed took forever."""
    rounds = [taken[name][scenario]["ms"] for taken in results["rounds"]]
    return [np.array([FOREVER_MS if ms is None else ms for ms in one], np.float64) for one in rounds]


def quantile(rounds: Sequence[NDArray[np.float64]], share: float) -> Statistic:
    """That of all samples of the rounds picked."""
    return lambda picks: float(np.quantile(np.concatenate([rounds[pick] for pick in picks]), share, method="higher"))


def latency(results: Results, name: str, scenario: str, share: float) -> Statistic:
    """A quantile of a service's milliseconds."""
    return quantile(samples(results, name, scenario), share)


def inside_latency(results: Results, share: float) -> Statistic:
    """A quantile of the milliseconds of one text without a service."""
    return quantile([np.array(taken[IN_PROCESS]["single_ms"]) for taken in results["rounds"]], share)


def throughput(results: Results, name: str) -> Statistic:
    """Texts a second over many connections; those that failed do not count."""
    turns = [taken[name]["closed"] for taken in results["rounds"]]
    answered = np.array([sum(ms is not None for ms in turn["ms"]) for turn in turns], float)
    seconds = np.array([turn["seconds"] for turn in turns])
    return lambda picks: float(answered[picks].sum() / seconds[picks].sum())


def inside_throughput(results: Results, size: str | None) -> Statistic:
    """Texts a second without a service: by plain ONNX Runtime in batches of `size`, or by our runtime."""
    turns = [taken[IN_PROCESS] for taken in results["rounds"]]
    seconds = np.array([turn["ours_seconds"] if size is None else turn["plain_seconds"][size] for turn in turns])
    texts = len(results["tokens"]["mixed"])
    return lambda picks: float(texts * len(picks) / seconds[picks].sum())


def over(above: Statistic, below: Statistic) -> Statistic:
    """The ratio."""
    return lambda picks: above(picks) / below(picks)


def minus(one: Statistic, other: Statistic) -> Statistic:
    """The difference."""
    return lambda picks: one(picks) - other(picks)


def interval(results: Results, statistic: Statistic) -> Interval:
    """The statistic over all rounds, and its 95 % interval."""
    return interval_over_rounds(len(results["rounds"]), statistic, seed=1, resamples=RESAMPLES)


def all_rounds(results: Results) -> Picks:
    """Every round once."""
    return np.arange(len(results["rounds"]))


def best_size(results: Results) -> str:
    """The batch size at which plain ONNX Runtime answers most texts a second, over all rounds."""
    sizes: list[str] = list(results["rounds"][0][IN_PROCESS]["plain_seconds"])
    return max(sizes, key=lambda size: inside_throughput(results, size)(all_rounds(results)))


def best_peer(results: Results, statistic: Callable[[str], Statistic], peers: Sequence[str], *, lowest: bool) -> str:
    """The peer whose statistic over all rounds is the best."""
    values = {name: statistic(name)(all_rounds(results)) for name in peers if name in names_of(results)}
    return (min if lowest else max)(values, key=lambda name: values[name])


def peers_of(results: Results) -> list[str]:
    """All but ours."""
    return [name for name in names_of(results) if name != OURS]


def matrix_rate(results: Results) -> float:
    """GFLOP/s of the fastest product of float32 matrices in any round."""
    rates = (rate for taken in results["rounds"] for rate in taken[IN_PROCESS]["matrix_gflops"].values())
    return float(max(rates))


def reached_rate(results: Results, texts_per_second: float) -> float:
    """GFLOP/s of an encoder that answers so many of the mixed texts a second, padding not counted."""
    tokens = results["tokens"]["mixed"]
    return 1e-9 * count_flops(tokens, results["config"]) / len(tokens) * texts_per_second


def quantile_by_band(results: Results, name: str, scenario: str, share: float) -> dict[str, float]:
    """A quantile of the milliseconds of all rounds, by the length of the text."""
    tokens = np.array(results["tokens"]["mixed"])
    rounds = samples(results, name, scenario)
    lengths = np.concatenate([tokens[np.arange(len(one)) % len(tokens)] for one in rounds])
    pooled = np.concatenate(rounds)
    found = {}
    for band, (low, high) in BANDS.items():
        chosen = pooled[(lengths >= low) & (lengths <= high)]
        found[band] = float(np.quantile(chosen, share, method="higher")) if len(chosen) else math.nan
    return found


def judge(figure: Interval, bar: float, *, at_most: bool) -> Verdict:
    """`holds` or `missed` where the whole interval is on one side of the bar, else `open`."""
    if at_most:
        return "holds" if figure.high <= bar else "missed" if figure.low > bar else "open"
    return "holds" if figure.low >= bar else "missed" if figure.high < bar else "open"
