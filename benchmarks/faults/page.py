"""`docs/results/faults.md`: for each fault what was asked of the service, and what it did."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.faults.overload import seconds_to_normal
from benchmarks.faults.soak import memory_growth, tail_drift

RESULTS = Path(__file__).parent / "results"
PAGE = Path("docs/results/faults.md")
PLOT = "faults-soak.svg"

HEADER = """\
# Faults the service must survive

Written by `python -m benchmarks.faults`, one scenario at a time, from the raw samples in
`benchmarks/faults/results/`. The client shares the cores with the service. An answer is right when no number of it
is further than 1e-4 from the answer that the service gave to the same text before the fault.

"""

Found = Mapping[str, Any]
Rows = list[tuple[str, str, bool]]
"""What was asked, what was found, whether that holds."""


def write_page(results: Path, page: Path) -> None:
    """`page`, and the plot of the soak beside it, from every file in `results`."""
    parts = [HEADER]
    for scenario, (title, _) in SECTIONS.items():
        file = results / f"{scenario}.json"
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            parts.append(_section(scenario, title, found))
            if scenario == "soak":
                plot(found, page.with_name(PLOT))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def summarize(scenario: str, found: Found) -> dict[str, Any]:
    """The scenario's bars as one line of JSON."""
    return {asked: {"found": said, "holds": holds} for asked, said, holds in SECTIONS[scenario][1](found)}


def _section(scenario: str, title: str, found: Found) -> str:
    rows = SECTIONS[scenario][1](found)
    lines = [f"## {title}\n", "| asked | found | |", "| --- | --- | --- |"]
    lines += [f"| {asked} | {said} | {'holds' if holds else 'missed'} |" for asked, said, holds in rows]
    if scenario == "soak":
        lines.append(f"\n![memory and 99th percentile over time]({PLOT})")
    return "\n".join([*lines, f"\n*{_setting(found)}*\n"])


def _setting(found: Found) -> str:
    machine, load = found["machine"], found["load_average"]
    name = machine.get("processor") or machine["architecture"]
    options = f", `{' '.join(found['options'])}`" if found["options"] else ""
    return (
        f"{found['model']}/{found['precision']} on {name}, {machine['usable_cores']} cores{options}; load average "
        f"{load['before']} before."
    )


def _overload(found: Found) -> Rows:
    accepted, refused = np.array(found["accepted_ms"]), np.array(found["refused_ms"])
    batch, total = float(np.median(found["batch_ms"])), sum(found["statuses"].values())
    odd = {status: count for status, count in found["statuses"].items() if status not in {"200", "429"}}
    tail, soon = _quantile(accepted, 0.99), _quantile(refused, 0.99)
    normal = seconds_to_normal(dict(found))
    return [
        (
            f"accepted: p99 below twice the {batch:.0f} ms of a full batch ({found['batch_tokens']} tokens) alone",
            f"{tail:,.0f} ms (p50 {_quantile(accepted, 0.5):,.0f} ms) of {len(accepted):,}",
            tail < 2 * batch,
        ),
        (
            f"{found['factor']:g} x {found['capacity']:.0f}/s for {found['seconds']:g} s: refused in under 20 ms",
            f"{len(refused):,} of {total:,} with 429, p50 {_quantile(refused, 0.5):.1f} ms, p99 {soon:.1f} ms",
            soon < 20,
        ),
        ("nothing but 200 and 429", _statuses(odd), not odd),
        (
            "every refusal has Retry-After",
            f"{found['without_retry_after']} without",
            found["without_retry_after"] == 0,
        ),
        ("back to normal in 2 s", f"{normal:.2f} s", normal < 2),
    ]


def _kill(found: Found) -> Rows:
    kills = found["kills"]
    back = [each["seconds_to_return"] for each in kills]
    under_way = _sum(each["under_way_failed"] for each in kills)
    later = _sum(each["later_failed"] for each in kills)
    broken = {status: count for status, count in under_way.items() if status != "503"}
    return [
        (f"{len(kills)} times: no wrong answer", f"{found['wrong']} of {found['answers']:,}", found["wrong"] == 0),
        ("what was under way fails with 503", f"{_statuses(under_way)} (0: the connection broke)", not broken),
        ("nothing sent later fails", _statuses(later), not later),
        ("back by itself", f"after {np.median(back):.2f} s, {max(back):.2f} s at most", True),
    ]


def _sigterm(found: Found) -> Rows:
    ends = found["ends"]
    lost, under_way = (sum(end[name] for end in ends) for name in ("lost", "under_way"))
    statuses = sorted({end["exit_status"] for end in ends})
    seconds = [end["seconds_to_end"] for end in ends]
    return [
        (f"{len(ends)} times: no accepted request lost", f"{lost} of {under_way} that were under way", lost == 0),
        ("exit status 0", f"{', '.join(map(str, statuses))}", statuses == [0]),
        ("it ends", f"after {np.median(seconds):.2f} s, {max(seconds):.2f} s at most", True),
    ]


def _fuzz(found: Found) -> Rows:
    rows: Rows = []
    for asked, statuses, allowed in _fuzzed(found):
        bad = [each for each in statuses if (each.startswith("5") or not each.isdigit()) and each not in allowed]
        rows.append((f"{asked}, none unanswered", f"{sum(statuses.values()):,}: {_statuses(statuses)}", not bad))
    memory = found["resident_bytes"]
    third = max(1, len(memory) // 3)
    growth = float(np.median(memory[-third:]) / np.median(memory[third : 2 * third] or memory[:1]) - 1)
    peak = f"{growth:+.1%} from the second third to the last, {memory[-1] / 1e6:.0f} MB at the end"
    return [
        *rows,
        ("no worker ends", "the same processes" if found["same_workers"] else "others", found["same_workers"]),
        ("memory flat (2 %)", peak, growth < 0.02),
    ]


def _fuzzed(found: Found) -> Iterator[tuple[str, dict[str, int], tuple[str, ...]]]:
    """What is asked of each kind of request, its statuses, and those that are as good as others."""
    if "generated" in found:
        statuses = found["generated"]["statuses"]
        yield "generated requests: no 5xx", statuses["patient"], ()
        if statuses["hasty"]:
            asked = "with an `X-Request-Timeout` made up too: no 5xx but 504, not answered within that"
            yield asked, statuses["hasty"], ("504",)
    yield "mutated requests: no 5xx", found["mutated"]["statuses"], ()


def _swap(found: Found) -> Rows:
    answers, memory = dict(found["answers"]), found["resident_bytes"]
    mixed = answers.pop("mixed", 0)
    failed = {status: count for status, count in answers.items() if status.isdigit()}
    both = min(answers.get("one", 0), answers.get("two", 0))
    seconds, total = found["swap_seconds"], sum(answers.values())
    sizes = [size / 1e6 for size in (memory[0], memory[-1], max(memory))]
    return [
        (f"{found['swaps']:,} swaps: no failed answer", f"{_statuses(failed)} of {total:,}", not failed),
        ("no mixed answer, both bundles answer", f"{mixed} mixed, at least {both:,} of each", not mixed and both > 0),
        ("a swap takes", f"{np.median(seconds):.2f} s, {max(seconds):.2f} s at most", True),
        ("memory", "{:.0f} MB before, {:.0f} MB after, {:.0f} MB at most".format(*sizes), True),
    ]


def _soak(found: Found) -> Rows:
    growth, drift = memory_growth(dict(found)), tail_drift(dict(found))
    failures = sum(window["failures"] for window in found["windows"])
    requests = sum(window["requests"] for window in found["windows"])
    minutes = len(found["windows"]) * found["window_seconds"] / 60
    return [
        (f"{minutes:.0f} minutes at {found['share']:.0%}: memory grows under 2 %", f"{growth:+.2%}", growth < 0.02),
        ("p99 flat: last third over first within 10 %", f"{drift:.3f}", abs(drift - 1) <= 0.1),
        ("no request fails", f"{failures} of {requests:,}", failures == 0),
    ]


def plot(found: Found, path: Path) -> None:
    """Memory and p99 over time."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot([at / 60 for at, _ in found["resident"]], [size / 1e6 for _, size in found["resident"]], color="#0072b2")
    upper.set_ylabel("memory, MB")
    upper.set_ylim(bottom=0)
    minutes = [window["at_seconds"] / 60 for window in found["windows"]]
    for key, color in (("p99_ms", "#d55e00"), ("p50_ms", "#009e73")):
        lower.plot(minutes, [window[key] for window in found["windows"]], color=color, label=key.removesuffix("_ms"))
    lower.set_ylabel("latency, ms")
    lower.set_xlabel("minutes")
    lower.set_ylim(bottom=0)
    lower.legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _quantile(samples: Any, share: float) -> float:
    return float(np.quantile(samples, share)) if len(samples) else 0.0


def _statuses(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} x {status}" for status, count in sorted(counts.items())) or "none"


def _sum(mappings: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for mapping in mappings:
        for status, count in mapping.items():
            total[status] = total.get(status, 0) + count
    return total


SECTIONS: Mapping[str, tuple[str, Callable[[Found], Rows]]] = {
    "overload": ("Overload", _overload),
    "kill": ("`kill -9` of a worker", _kill),
    "sigterm": ("SIGTERM under load", _sigterm),
    "fuzz": ("Requests nobody would send", _fuzz),
    "swap": ("Swaps under load", _swap),
    "soak": ("A long time", _soak),
}
