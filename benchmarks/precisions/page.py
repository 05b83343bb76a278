"""The page of `benchmarks.precisions`: tables, a plot for each data set, and what the exports said."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.plots import MARKERS
from pipeline.results import Interval
from pipeline.statistics import accuracy_ratio, median_of_rounds, ratio_of_medians, wilson

COLORS = {"teacher": "#0072b2", "student": "#d55e00", "small": "#009e73"}
"""Okabe and Ito's palette; shape tells the precision, so nothing rests on colour alone."""
HEADER = """\
# Precisions, measured

Written by `python -m benchmarks.precisions`, from the raw samples in `benchmarks/precisions/results/`. What each
precision is stands in [precisions.md](../precisions.md). Quality is on the test split, of the sealed bundle through
the serving runtime; *kept* is its ratio to the same model's float32, paired by text, with a 95 % interval. Speeds are
of one run in which all rows of a table took turns; *faster* and *throughput* are ratios to the same model's float32,
with a 95 % interval by bootstrap over rounds. *Moved in company* is the largest change of any embedding component, and
of labels in 10,000, when a text shares its batch with others.
"""


def write_page(results: Path, page: Path) -> None:
    """`page` and its plots, from every file in `results`."""
    sections = [HEADER]
    for file in sorted(results.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        plot = page.with_name(f"precisions-{file.stem}.svg")
        _plot(found, plot, file.stem)
        sections.append("\n".join(_section(file.stem, found, plot.name)))
    page.write_text("\n".join(sections).rstrip() + "\n", encoding="utf-8")


def _section(name: str, found: Mapping[str, Any], plot: str) -> Iterator[str]:
    machine = found["machine"]
    yield f"## {name}\n"
    yield f"{found['test']:,} test texts, {found['threads']} threads. {found['note']}\n"
    yield f"![accuracy against latency of every row]({plot})\n"
    yield "| row | accuracy | kept | p50 | faster | texts/s | throughput | size | moved in company |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row, about in found["rows"].items():
        yield _line(row, about, found)
    yield ""
    yield from _bars(found)
    yield from _choices(found)
    yield (
        f"\n*{machine['processor']}, {machine['usable_cores']} cores; load average before "
        f"{found['load_average']['before']}; {_runtime(machine)}.*\n"
    )


def _line(row: str, about: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    model, _, precision = row.partition("/")
    reference = found["rows"][f"{model}/float32"]
    right = about["right"]
    p50 = median_of_rounds(about["single_ms"], seed=1)
    company = found["facts"][model]["precisions"][precision]["invariance"]
    moved = f"{company['outputs']['sentence_embedding']['max_abs_deviation']:.1g}"
    flips = f"{company['labels']['flips_per_10000']:.1f}" if company["labels"] else "none"
    cells = [
        row, _share(wilson(sum(right), len(right))), _share(kept(about, reference)),
        f"{p50.value:.2f} ms", _times(faster(about, reference)),
        f"{np.median(about['batch_texts_per_second']):,.0f}", _times(throughput(about, reference)),
        f"{about['size_bytes'] / 1e6:.1f} MB", f"{moved}, {flips}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _bars(found: Mapping[str, Any]) -> Iterator[str]:
    """What was asked of int8, and whether the interval holds it."""
    yield "| asked of int8 | found | verdict |\n| --- | --- | --- |"
    for model in found["facts"]:
        about, reference = found["rows"][f"{model}/int8"], found["rows"][f"{model}/float32"]
        asked: list[tuple[str, Interval, float]] = [
            ("keeps at least 99.7 % of float32's accuracy", kept(about, reference), 0.997),
            ("answers a text at least 1.6x as fast", faster(about, reference), 1.6),
            ("has at least 1.4x the throughput", throughput(about, reference), 1.4),
        ]
        for what, interval, bound in asked:
            shown = _share(interval) if bound < 1 else _times(interval)
            yield f"| {model} {what} | {shown} | {_verdict(interval, bound)} |"
    if {"student", "small"} <= found["facts"].keys():
        yield from _pruned(found)
    yield ""


def _pruned(found: Mapping[str, Any]) -> Iterator[str]:
    small, student = found["rows"]["small/int8"], found["rows"]["student/int8"]
    cover = found["covered"]["small"]
    ratio = kept(small, student)
    share = small["size_bytes"] / student["size_bytes"]
    yield (
        f"| small: int8 file of the student with {cover['pieces']:,} of {cover['pieces_before']:,} pieces, which "
        f"cover {cover['held_out_tokens_covered']:.1%} of held-out tokens | {share:.2f} of the size, "
        f"{_share(ratio)} of the accuracy | {'unchanged' if ratio.low <= 1 <= ratio.high else 'changed'} |"
    )


def _choices(found: Mapping[str, Any]) -> Iterator[str]:
    """What was decided while the graphs were made."""
    for model, facts in found["facts"].items():
        about = facts["precisions"]
        variant, static = about["float32"]["variant"], about["int8-static"]["quantization"]
        budget = about["int8"].get("budget", {})
        methods = ", ".join(f"{name} {value:.4f}" for name, value in static["quality_by_method"].items())
        yield (
            f"* {model}: float32 shipped {variant['chosen']} (speed-ups over the whole form "
            f"{_speedups(variant)}); int8-static by {static['method']} (quality: {methods}); "
            f"int8 keeps {len(budget.get('kept_float', {}))} nodes in float, of {len(budget.get('tried', []))} maps; "
            f"saturation risk {about['int8']['saturation']['risk']:.2g}"
        )
        for node, reason in budget.get("kept_float", {}).items():
            yield f"  * `{node}`: {reason}"


def _speedups(variant: Mapping[str, Any]) -> str:
    found = variant.get("speedup_over_whole", {})
    return (
        ", ".join(f"{k} {v['ratio']:.2f} [{v['low']:.2f}, {v['high']:.2f}]" for k, v in found.items()) or "not measured"
    )


def kept(row: Mapping[str, Any], reference: Mapping[str, Any]) -> Interval:
    """The row's accuracy over the reference's, paired by text."""
    return accuracy_ratio(row["right"], reference["right"], seed=1)


def faster(row: Mapping[str, Any], reference: Mapping[str, Any]) -> Interval:
    """How many times faster the row answers a single text."""
    return ratio_of_medians(reference["single_ms"], row["single_ms"], seed=1)


def throughput(row: Mapping[str, Any], reference: Mapping[str, Any]) -> Interval:
    """How many times as many texts a second the row answers in batches."""
    return ratio_of_medians(row["batch_texts_per_second"], reference["batch_texts_per_second"], seed=1)


def _runtime(machine: Mapping[str, Any]) -> str:
    return next((version for version in machine["versions"] if version.startswith("onnxruntime ")), "onnxruntime")


def _verdict(interval: Interval, bound: float) -> str:
    if interval.low >= bound:
        return "**holds**"
    return "**missed**" if interval.high < bound else "**open**: the interval spans it"


def _share(interval: Interval) -> str:
    return f"{interval.value:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _times(interval: Interval) -> str:
    return f"{interval.value:.2f}x [{interval.low:.2f}, {interval.high:.2f}]"


def _plot(found: Mapping[str, Any], path: Path, title: str) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for row, about in found["rows"].items():
        model, _, precision = row.partition("/")
        accuracy = wilson(sum(about["right"]), len(about["right"]))
        p50 = median_of_rounds(about["single_ms"], seed=1)
        axes.plot(p50.value, 100 * accuracy.value, MARKERS[precision], color=COLORS.get(model, "#666666"), markersize=7,
                  label=row)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("single text, p50, ms")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"{title}: colour is the model, shape the precision")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7, ncols=2, loc="best")
    figure.savefig(path, metadata={"Date": None})
