"""`docs/results/noesis.md`, its drawing, and `systems/noesis.json`, of what was measured."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import figure as drawings

from artifact.manifest import write_json
from benchmarks.noesis.paper import DIFFERS, SYSTEMS, describe
from benchmarks.systems.records import Figure, System
from pipeline.results import Interval
from pipeline.scores.quality import QUALITIES
from pipeline.table import MISSING, format_area, format_ms, format_share

Found = Mapping[str, Any]
"""Of `results/noesis.json`."""

RECALLS = (1, 2, 5, 10)
METRICS = (*(f"recall_{k}" for k in RECALLS), "mrr", "mean_mrr_recall_10", "none_f1")
COMMANDS = (
    "understudy run recipes/noesis/bi.yaml data.source.directory=DIR",
    "understudy run recipes/noesis/cross.yaml data.source.directory=DIR",
    "python -m benchmarks.noesis out/noesis-bi out/noesis-cross",
)

HEADER = """\
# NOESIS II: which utterance comes next

Written by `python -m benchmarks.noesis`, from the reports of `recipes/noesis/bi.yaml` and `cross.yaml` and from
`benchmarks/noesis/results/`. Conversations of the Ubuntu channel (Kummerfeld et al., ACL 2019), 100 candidates a query,
none of them right in a fifth of the queries. Every row answers as it is deployed. R@k, MRR and their mean, by which
the track ranked, are of the queries that have a right candidate; NONE F1 is of all, at a threshold from validation.
Brackets hold 95 % intervals. How it works stands in [selection.md](../selection.md).
"""


def write_page(found: Found, page: Path) -> None:
    """The page, `noesis.svg` beside it, and `systems/noesis.json`."""
    _plot(found, page.with_suffix(".svg"))
    page.write_text("\n".join(_lines(found)), encoding="utf-8")
    page.with_name("systems").mkdir(exist_ok=True)
    write_json(page.with_name("systems") / "noesis.json", system_of(found).model_dump(mode="json"))


def parts_of(found: Found) -> list[str]:
    """`bi`, and `cross` where its recipe was run."""
    return [part for part in ("bi", "cross") if part in found]


def rows_of(found: Found, part: str) -> dict[str, Found]:
    """The rows of one part by their names on the page, what two models do together after the others."""
    rows: dict[str, Found] = dict(found[part]["rows"])
    if part == "cross":
        rows |= {pair["name"]: pair["row"] for pair in found["pairs"]}
    return rows


def metric_of(row: Found, metric: str) -> Interval | None:
    """One metric of a row; None where it has none."""
    value = row["quality"] if metric == "mean_mrr_recall_10" else row["more"].get(metric)
    return None if value is None else Interval.model_validate(value)


def system_of(found: Found) -> System:
    """The record that the page of all systems is made from."""
    rows = [
        Figure(name=f"{name}, {part}", **row["quality"])
        for part in parts_of(found) for name, row in rows_of(found, part).items()
    ]  # fmt: skip
    return System(
        system="NOESIS II", metric="mean of MRR and R@10", headline=headline(found), rows=tuple(rows), page="noesis.md",
        paper=(*map(describe, SYSTEMS), *DIFFERS), failures=tuple(failures(found)), commands=COMMANDS,
        hours=round(_hours(found), 2), hardware=_hardware(found["machine"]), manifests=_manifests(found),
    )  # fmt: skip


def headline(found: Found) -> str:
    """What the students keep, in one sentence."""
    parts = []
    for part in parts_of(found):
        candidate = found[part]["candidate"]
        gate = next((gate for gate in found[part]["gates"] if gate["metric"] == "quality"), None)
        score = str(format_share(metric_of(found[part]["rows"][candidate], "mean_mrr_recall_10")))
        kept = (
            "" if gate is None else f", {100 * gate['ratio']['value']:.1f} % of its teacher's (gate: {gate['verdict']})"
        )
        parts.append(f"the 3-layer int8 {part}-encoder has {score} of MRR and R@10{kept}")
    return "; ".join(parts)


def failures(found: Found) -> list[str]:
    """What did not hold, found in the numbers."""
    faults = [
        f"{found[part]['recipe']}: the gate {gate['name']!r} {gate['verdict']}: {gate['reason']}"
        for part in parts_of(found) for gate in found[part]["gates"] if gate["verdict"] != "pass"
    ]  # fmt: skip
    if "cross" not in found:
        faults.append("no cross-encoder was trained, so nothing was reranked (recipes/noesis/cross.yaml)")
    rows = rows_of(found, "cross") if found["pairs"] else {}
    for pair in found["pairs"]:
        ours = metric_of(pair["row"], "recall_1")
        for other in (pair["picks"], pair["reads"]):
            theirs = metric_of(rows[other], "recall_1")
            if ours is not None and theirs is not None and ours.value < theirs.value:
                words = f"R@1 is {format_share(ours)}, that of {other} alone {format_share(theirs)}"
                faults.append(f"{pair['name']}: {words}")
    return faults


def _lines(found: Found) -> Iterator[str]:
    yield HEADER
    yield f"**{headline(found)[0].upper()}{headline(found)[1:]}.**\n"
    yield "![recall at k](noesis.svg)\n"
    titles = {"bi": "Bi-encoders", "cross": "Cross-encoders, and bi-encoders that pick for them"}
    for part in parts_of(found):
        yield f"## {titles[part]}\n"
        yield _about(found[part]) + "\n"
        yield from _table(["row", *(QUALITIES[metric].header for metric in METRICS)], _quality_rows(found, part))
        yield from _gates(found[part])
    yield "## Milliseconds a query of 100 candidates\n"
    yield from _times(found)
    yield "## Vectors that are kept\n"
    yield "The same queries of `/rerank`, of a service that keeps the candidates' vectors and of one that keeps none.\n"
    yield from _table(["row", "queries", "largest difference", "other first candidate", "again"], _kept_rows(found))
    yield "## Beside the published figures\n"
    yield from _table(["system", *(f"R@{k}" for k in RECALLS), "MRR", "from"], _paper_rows(found))
    yield from (f"* {line}" for line in DIFFERS)
    yield "\n## What did not hold\n"
    yield from [f"* {fault}" for fault in failures(found)] or ["Nothing that was gated."]
    yield "\n## Made by\n"
    yield from (f"    {command}" for command in COMMANDS)
    yield f"\n{_hours(found):.2f} hours of training, by the clock, on {_hardware(found['machine'])}.\n"
    yield ", ".join(f"`{name}` {digest[:12]}" for name, digest in _manifests(found).items()) + ".\n"


def _about(part: Found) -> str:
    examples, test = part["examples"], part["test"]
    return (
        f"Recipe `{part['recipe']}`: {examples['train']:,} conversations to learn from, {test['queries']:,} test "
        f"queries ({test['none']:,} of them with no right candidate), NONE by {examples['validation']:,} of validation."
    )


def _quality_rows(found: Found, part: str) -> Iterator[Sequence[str]]:
    for name, row in rows_of(found, part).items():
        bold = f"**{name}**" if name == found[part]["candidate"] else name
        cells = (
            str((format_share if QUALITIES[metric].is_share else format_area)(metric_of(row, metric)))
            for metric in METRICS
        )
        yield (bold, *cells)


def _gates(part: Found) -> Iterator[str]:
    yield from (f"* Gate *{gate['name']}*: {gate['verdict']}. {gate['reason']}" for gate in part["gates"])
    yield ""


def _times(found: Found) -> Iterator[str]:
    load, cores = found["load"], found["machine"]["usable_cores"]
    if max(load["before"], load["after"]) > cores / 2:
        yield (
            f"*Provisional: other work ran beside this (load average {load['before']} before and {load['after']} after "
            f"on {cores} cores).*\n"
        )
    rows: list[Sequence[str]] = []
    for part in parts_of(found):
        times = {name: Interval.model_validate(ms) for name, ms in found[part]["p50_ms"].items()}
        rows.extend((f"{name}, {part}", str(format_ms(ms)), MISSING, MISSING) for name, ms in times.items())
    rows.extend(
        (pair["name"], *(f"{statistics.median(pair[key]):.0f} ms" for key in ("new_ms", "kept_ms", "all_read_ms")))
        for pair in found["pairs"]
    )
    yield from _table(["row", "median", "with the candidates' vectors kept", "its reader alone, of all"], rows)


def _kept_rows(found: Found) -> Iterator[Sequence[str]]:
    for one in found["kept"]:
        again = "the same bits" if one["same_bits_again"] else "other bits"
        yield (one["row"], str(one["queries"]), f"{one['largest_difference']:.2g}", str(one["other_first"]), again)


def _paper_rows(found: Found) -> Iterator[Sequence[str]]:
    for one in SYSTEMS:
        recalls = (f"{100 * one.recall[k]:.1f} %" if k in one.recall else MISSING for k in RECALLS)
        yield (one.name, *recalls, MISSING if one.mrr is None else f"{one.mrr:.3f}", one.source)
    for part in parts_of(found):
        for name in dict.fromkeys(("teacher/float32", found[part]["candidate"])):
            row = found[part]["rows"][name]
            shares = (format_share(metric_of(row, f"recall_{k}")).text for k in RECALLS)
            yield (f"ours: {name}, {part}", *shares, format_area(metric_of(row, "mrr")).text, "above")


def _table(headers: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headers)} |"
    yield f"| --- |{' ---: |' * (len(headers) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _hours(found: Found) -> float:
    return sum(sum(found[part]["train_seconds"].values()) for part in parts_of(found)) / 3600


def _hardware(machine: Found) -> str:
    return f"{machine['processor']}, {machine['usable_cores']} cores"


def _manifests(found: Found) -> dict[str, str]:
    return {
        f"{part}/{name}": digest for part in parts_of(found) for name, digest in found[part]["lineage"].items()
        if name.partition(":")[0] in ("data", "model", "bundle", "evaluation")
    }  # fmt: skip


def _plot(found: Found, path: Path) -> None:
    figure = drawings.Figure(figsize=(9, 4), layout="constrained")
    parts = parts_of(found)
    for axes, part in zip(figure.subplots(1, len(parts), sharey=True, squeeze=False)[0], parts, strict=True):
        for name, row in rows_of(found, part).items():
            if "pytorch" in name:
                continue
            values = [metric_of(row, f"recall_{k}") for k in RECALLS]
            style = ":" if name == "tf-idf" else "--" if "picks" in name else "-"
            axes.plot(RECALLS, [value.value if value else 0 for value in values], style, marker=".", label=name)
        axes.set_xscale("log")
        axes.set_xticks(RECALLS, [str(k) for k in RECALLS])
        axes.minorticks_off()
        axes.set_xlabel(f"k, {found[part]['test']['queries']:,} queries")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False, fontsize=6)
    figure.axes[0].set_ylabel("share with the right candidate in the first k")
    with mpl.rc_context({"svg.hashsalt": "noesis"}):
        figure.savefig(path, metadata={"Date": None})
