"""The page of `benchmarks.gate`, from the verdicts in `results/`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.gate.plot import plot_runs
from benchmarks.gate.rules import MEMORY, QUALITY, SPEED, Outcome, summarize
from pipeline.statistics import wilson

FALSE_FAILS, CAUGHT = 0.01, 0.95
"""The bars: the largest share of runs that may fail what is identical, the smallest that must fail what is worse."""
ONE_SIDED = 0.01
"""How far from 1 the median run may find the speeds of what is identical."""
SHOWN = 0.9
QUIET_LOAD = 0.5
"""Load average for each core, before the first run, above which others were at work."""
FEWEST_RUNS = 100
HEADER = f"""\
# How often a gate is wrong

Written by `python -m benchmarks.gate`. What a gate is and how it decides stands in [measure.md](../measure.md). Here
each is run many times on a difference that is known. *Caught* means the verdict is fail; *inconclusive* is neither a
false alarm nor a catch, and exits with 3. Shares have Wilson's 95 % interval. The gate on speed: at least
{SPEED.min_ratio:g} times the speed of the reference. The gate on quality: at least {QUALITY.min_ratio:g} times its
accuracy.
"""
COLUMNS = ("runs", "pass", "fail", "inconclusive")


def write_page(results: Path, page: Path) -> None:
    """`page`, and the plot beside it, from what is in `results`."""
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(results.glob("*.json"))}
    sections = [HEADER, *("\n".join(SECTIONS[name](found[name])) + "\n" for name in SECTIONS if name in found)]
    page.write_text("\n".join(sections), encoding="utf-8")
    if "speed" in found:
        plot_runs(found["speed"]["conditions"], SPEED.min_ratio or 1, page.with_name("gates-runs.svg"))


def _speed(found: Mapping[str, Any]) -> Iterator[str]:
    machine, plan = found["machine"], found["plan"]
    yield "## Speed, real runs\n"
    yield (
        f"`{found['model']}/{found['precision']}` in processes of its own, {found['threads']} threads: the reference, "
        f"the same bundle again, and the same bundle spinning after each call for {found['share']:.0%} of its time. "
        f"Every run opens all three anew and lets them take turns: {plan['rounds']} rounds of {plan['calls']} single "
        f"texts, each round in {plan.get('parts', 1)} parts, then twice as many while a gate is open, at most "
        f"{plan['max_rounds']}. In the first {plan['rounds']} rounds each is started "
        f"{_times(plan.get('openings', 1))}. The *neighbour* burns one core all the while. *Found* is the ratio of "
        f"speeds that a run found, its median over all runs and the middle {SHOWN:.0%} of them.\n"
    )
    yield "![the interval of every run](gates-runs.svg)\n"
    yield _row(("machine", "candidate", *COLUMNS, "bar", "mean rounds", "found"))
    yield _rule(2, 7)
    for condition, about in found["conditions"].items():
        for name, outcomes in about["outcomes"].items():
            summary = summarize([Outcome(**outcome) for outcome in outcomes])
            verdict = judge_bar(summary, identical=name == "identical")
            ratio = _middle([outcome["value"] for outcome in outcomes])
            yield _row((condition, name, *_counts(summary), verdict, summary["mean_rounds"], ratio))
    yield ""
    yield from _equals(found["conditions"])
    for condition, about in found["conditions"].items():
        yield (
            f"* {condition}: the reference's median is {about['p50_ms']:.2f} ms; a run takes "
            f"{mean(about['seconds']):.1f} s on average, the opening of three processes included. One round's ratio of "
            f"the two identical ones varies by {about['round_spread']:.1%}."
        )
    yield from _memory(found["conditions"])
    loads = [about["load_average"][0] for name, about in found["conditions"].items() if name == "quiet"]
    if max(loads, default=0) > QUIET_LOAD * machine["usable_cores"]:
        yield f"\n**Not quiet**: the load average was {max(loads)} before the first of the quiet runs."
    yield f"\n*{machine.get('processor') or machine['architecture']}, {machine['usable_cores']} cores.*"


def _equals(conditions: Mapping[str, Any]) -> Iterator[str]:
    """Whether runs err to one side: no number of rounds shows what each run gets wrong alike."""
    for condition, about in conditions.items():
        found = median(outcome["value"] for outcome in about["outcomes"]["identical"])
        word = "**holds**" if abs(found - 1) <= ONE_SIDED else "**missed**"
        yield f"* {condition}: identical ones are found {found:.4f} times as fast, at most {ONE_SIDED:.0%} off: {word}."


def _middle(values: Sequence[float]) -> str:
    """The median, and between which values the middle `SHOWN` of them lie."""
    low, high = np.quantile(values, [0.5 - SHOWN / 2, 0.5 + SHOWN / 2])
    return f"{median(values):.3f} ({low:.3f} to {high:.3f})"


def _times(count: int) -> str:
    return {1: "once", 2: "twice, the second time in the reverse order"}.get(count, f"{count} times, in turn reversed")


def _memory(conditions: Mapping[str, Any]) -> Iterator[str]:
    """What a gate on memory said of processes that are the same."""
    yield (
        "\n### Memory of the same processes\n\nThe peak of a process is measured once. The gate: at most "
        f"{MEMORY.max_degradation} more than the reference, on the identical pairs of the runs above.\n"
    )
    yield _row(("machine", "candidate", *COLUMNS, "bar", "ratios"))
    yield _rule(2, 6)
    for condition, about in conditions.items():
        ratios = [outcome["value"] for outcome in about["memory"]]
        summary = summarize([Outcome(**outcome) for outcome in about["memory"]])
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        yield _row((condition, "identical", *_counts(summary), judge_bar(summary, identical=True), spread))


def _answers(found: Mapping[str, Any]) -> Iterator[str]:
    accuracies = ", ".join(f"{name} {value:.2%}" for name, value in found["accuracies"].items())
    yield "## Quality, real answers\n"
    yield (
        f"The answers of one bundle to its {found['pool']:,} test texts ({accuracies}), drawn with replacement, "
        f"{found['examples']:,} a run. The loss is made: of the right answers, drawn at random, so many are "
        "called wrong. Where two precisions are made equally accurate, some that only the better one had right are "
        "answered alike.\n"
    )
    yield _row(("candidate", "true loss", "discordant", *COLUMNS, "bar"))
    yield _rule(1, 7)
    for name, about in found["cases"].items():
        summary = summarize([Outcome(**outcome) for outcome in about["outcomes"]])
        verdict = judge_bar(summary, identical=about["loss"] == 0)
        yield _row((name, f"{about['loss']:.2%}", f"{about['discordance']:.2%}", *_counts(summary), verdict))


def _simulated(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Speed, simulated\n"
    yield (
        "Latencies are drawn from a model of a machine (`benchmarks/gate/simulate.py`), the same seed for the same "
        "figures. Exactly at the bound neither verdict is right; there each may come up in one run of forty.\n"
    )
    yield _row(("noise", "candidate", *COLUMNS, "bar", "mean rounds"))
    yield _rule(2, 6)
    for noise, cases in found["speed"].items():
        for name, summary in cases.items():
            verdict = judge_margin(summary) if "bound" in name else judge_bar(summary, identical=name == "identical")
            yield _row((noise, name, *_counts(summary), verdict, summary["mean_rounds"]))
    yield "\n## Quality, simulated\n"
    yield f"{found['examples']:,} examples a run, the reference is right on {found['accuracy']:.0%}.\n"
    yield _row(("true loss", "discordant", *COLUMNS, "bar"))
    yield _rule(2, 5)
    for summary in found["quality"].values():
        verdict = judge_bar(summary, identical=summary["loss"] == 0)
        yield _row((f"{summary['loss']:.0%}", f"{summary['discordance']:.0%}", *_counts(summary), verdict))


SECTIONS = {"speed": _speed, "answers": _answers, "simulate": _simulated}


def judge_bar(summary: Mapping[str, Any], *, identical: bool) -> str:
    """Whether the counts keep the bar: fails of what is identical are few, of what was lost they are many."""
    runs, fails = summary["runs"], summary["fail"]
    share = wilson(fails, runs)
    held = fails <= FALSE_FAILS * runs if identical else fails >= CAUGHT * runs
    word = "**holds**" if held else "**missed**"
    few = "" if runs >= FEWEST_RUNS else ", too few runs"
    said = f"fails ≤ {FALSE_FAILS:.0%}" if identical else f"caught ≥ {CAUGHT:.0%}"
    return f"{said}: {word} ({share.low:.1%} to {share.high:.1%}){few}"


def judge_margin(summary: Mapping[str, Any]) -> str:
    """How often a verdict came up where none is right."""
    share = wilson(summary["pass"] + summary["fail"], summary["runs"])
    return f"decided {share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _counts(summary: Mapping[str, Any]) -> list[str]:
    return [f"{summary[name]:,}" for name in COLUMNS]


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _rule(left: int, right: int) -> str:
    return _row(["---"] * left + ["---:"] * right)
