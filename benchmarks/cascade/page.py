"""The page of `benchmarks.cascade`: a table and a plot for each data set."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.results import Interval
from pipeline.statistics import wilson

QUIET = 0.5
"""Load average above which others were at work: latencies are then provisional."""
DRAWS = 2000
HEADER = """\
# The cascade, measured

Written by `python -m benchmarks.cascade`, from the raw samples in `benchmarks/cascade/results/`. What a cascade is and
what its calibration promises stands in [cascade.md](../cascade.md). Thresholds are chosen on the validation split;
everything else in the tables is of the test split. *Agreement* is with the teacher, with Wilson's 95 % interval. *Mean*
is of single texts in process, all rows of a table in turns, with a 95 % interval by bootstrap over rounds: a mean and
not a median, because what a cascade costs lies in the few texts that two models read.
"""


def write_page(results: Path, page: Path) -> None:
    """`page` and its plots, from every file in `results`."""
    sections = [HEADER]
    for file in sorted(results.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        plot = page.with_name(f"cascade-{file.stem}.svg")
        _plot(found, plot, file.stem)
        sections.append("\n".join(_section(file.stem, found, plot.name)))
    page.write_text("\n".join(sections).rstrip() + "\n", encoding="utf-8")


def _section(name: str, found: Mapping[str, Any], plot: str) -> Iterator[str]:
    machine, load = found["machine"], found["load_average"]
    texts = len(found["test"]["agrees"])
    calibrated = next(iter(found["calibrations"].values()))["texts"]
    yield f"## {name}\n"
    yield f"`{found['student']}` before `{found['teacher']}`, {calibrated:,} validation texts, {texts:,} test texts.\n"
    if load["before"] > QUIET:
        yield (
            f"**Latencies are provisional**: the load average before the measurement was {load['before']}, so "
            "others were at work. Shares and agreements do not depend on that.\n"
        )
    yield f"![what the student answers against agreement and mean latency]({plot})\n"
    yield "| row | threshold | student answers | agreement | promised, 95 % sure | accuracy | mean |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield _line(found, found["student"], 0.0)
    for level, calibration in found["calibrations"].items():
        promised = f"at least {float(level):.1%}"
        yield _line(found, f"cascade at {float(level):g}", calibration["chosen"]["threshold"], promised)
    yield _line(found, found["teacher"], 1.0)
    yield ""
    yield from _notes(found)
    yield (
        f"\n*{machine['processor']}, {machine['usable_cores']} cores, {found['threads']} threads; load average before "
        f"{load['before']}, after {load['after']}.*\n"
    )


def _line(found: Mapping[str, Any], row: str, threshold: float, promised: str = "") -> str:
    alone, agreement, right = at(found, threshold)
    mean = mean_of_rounds(found["single_ms"][row])
    cells = [
        row, f"{threshold:.6f}" if promised else "", f"{alone:.1%}", _share(agreement), promised, f"{right:.1%}",
        f"{mean.value:.2f} ms [{mean.low:.2f}, {mean.high:.2f}]",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    for level, calibration in found["calibrations"].items():
        _, agreement, _ = at(found, calibration["chosen"]["threshold"])
        kept = "inside or above" if agreement.high >= float(level) else "**below**"
        yield f"* At {float(level):g}: the test split's interval lies {kept} what was promised."
    foreign = np.array(found["out_of_domain_confidence"])
    if len(foreign):
        thresholds = {level: each["chosen"]["threshold"] for level, each in found["calibrations"].items()}
        passed = ", ".join(f"{(foreign <= each).mean():.1%} at {float(level):g}" for level, each in thresholds.items())
        yield f"* Of {len(foreign):,} out-of-domain texts, to which no promise extends, the teacher is asked {passed}."


def at(found: Mapping[str, Any], threshold: float) -> tuple[float, Interval, float]:
    """On the test split: share the student answers, agreement with the teacher, accuracy."""
    test = {name: np.array(values) for name, values in found["test"].items()}
    alone = test["confidence"] > threshold
    agreed = int(np.where(alone, test["agrees"], 1).sum())
    right = np.where(alone, test["student_right"], test["teacher_right"])
    return float(alone.mean()), wilson(agreed, len(alone)), float(right.mean())


def mean_of_rounds(rounds: list[list[float]], seed: int = 1) -> Interval:
    """Mean of all samples; whole rounds are drawn."""
    means: NDArray[np.float64] = np.array([np.mean(each) for each in rounds])
    draws = np.random.default_rng(seed).integers(len(means), size=(DRAWS, len(means)))
    low, high = np.quantile(means[draws].mean(axis=1), [0.025, 0.975])
    return Interval(value=float(means.mean()), low=float(low), high=float(high))


def _share(interval: Interval) -> str:
    return f"{interval.value:.2%} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _plot(found: Mapping[str, Any], path: Path, title: str) -> None:
    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_frontier(left, found)
    rows = [
        (found["student"], 0.0, "student"),
        *((f"cascade at {float(k):g}", v["chosen"]["threshold"], k) for k, v in found["calibrations"].items()),
        (found["teacher"], 1.0, "teacher"),
    ]
    for row, threshold, name in rows:
        mean, agreement = mean_of_rounds(found["single_ms"][row]), at(found, threshold)[1]
        right.errorbar(mean.value, 100 * agreement.value, xerr=_arms(mean), yerr=_arms(agreement, 100), fmt="o",
                       color="#0072b2", markersize=5, linewidth=1)  # fmt: skip
        right.annotate(name, (mean.value, 100 * agreement.value), (6, -11), textcoords="offset points", fontsize=8)
    right.set_xlabel("single text, mean, ms" + (", provisional" if found["load_average"]["before"] > QUIET else ""))
    right.grid(visible=True, alpha=0.3)
    figure.suptitle(f"{title}, test split: thresholds from validation at the levels named", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def _draw_frontier(axes: Axes, found: Mapping[str, Any]) -> None:
    confidence = np.sort(found["test"]["confidence"])
    points = [at(found, float(each))[:2] for each in [0.0, *confidence[:: max(1, len(confidence) // 200)], 1.0]]
    shares, agreements = [100 * share for share, _ in points], [100 * each.value for _, each in points]
    axes.plot(shares, agreements, color="#0072b2", linewidth=1.5, label="the surest first")
    axes.plot([0, 100], [100, min(agreements)], "--", color="#888888", linewidth=1, label="texts drawn at random")
    for level, calibration in found["calibrations"].items():
        share, agreement, _ = at(found, calibration["chosen"]["threshold"])
        axes.errorbar(100 * share, 100 * agreement.value, yerr=_arms(agreement, 100), fmt="s", color="#d55e00",
                      markersize=5, linewidth=1)  # fmt: skip
        axes.annotate(level, (100 * share, 100 * agreement.value), (-6, -11), textcoords="offset points", fontsize=8,
                      ha="right")  # fmt: skip
    axes.set_xlabel("texts the student answers, %")
    axes.set_ylabel("agreement with the teacher, %")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")


def _arms(interval: Interval, scale: float = 1) -> list[list[float]]:
    return [[scale * (interval.value - interval.low)], [scale * (interval.high - interval.value)]]
