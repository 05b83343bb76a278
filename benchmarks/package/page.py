"""The page of `benchmarks.package`."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks.package.install import largest
from benchmarks.package.start import peaks_of

SHOWN = 14
"""Packages that get a line of their own."""
READY_SECONDS, BEYOND_WEIGHTS_MB = 3.0, 250
"""The bars of issue 5."""
QUIET_LOAD = 0.5
"""Load a core below which figures of time are taken for the machine's own."""

PAGE = """\
# What serving takes

The Bento `{tag}`, started in a fresh environment that holds what `pip install .[serve]` put there, by `bentoml serve`. {setting}
Written by `python -m benchmarks.package`; raw figures are in [package.json](../../benchmarks/package/results/package.json).

## Time and memory

| | median | least | most | bar |
|---|---:|---:|---:|---|
| start of the process to the first 200 of `/readyz` | {ready} | under {ready_bar:.0f} s |
| peak resident memory of the worker, {requests} requests to each model later | {peak} | |
| the same, beyond the weights ({weights}) | {beyond} | at most {beyond_bar} MB |
| peak resident memory of the supervisor | {supervisor} | |

{busy}
Weights are those of every graph served: {graphs}.

## The environment

{count} packages, {total}. It cannot import {unwanted}.

| package | version | size |
|---|---|---:|
{packages}

## The Bento

{size} in all; `env/python/requirements.lock.txt` pins {locked} packages.

| folder | size |
|---|---:|
{content}
"""  # noqa: E501 - a paragraph of Markdown is one line where a figure may be long
BUSY = """\
**Provisional**: the machine was at a load of {load:.1f} on {cores} cores while this was measured. The times say little.
"""


def render(results: Mapping[str, Any]) -> str:
    """Markdown of one run."""
    runs, facts, installed = results["runs"], results["facts"], results["installed"]
    weights = sum(results["weights_bytes"].values())
    peaks = peaks_of(runs)
    packages = installed["packages"]
    return PAGE.format(
        tag=facts["tag"],
        setting=_setting(results),
        ready=_spread([row["ready_seconds"] for row in runs], "{:.2f} s"),
        ready_bar=READY_SECONDS,
        requests=results["requests"],
        peak=_spread([peak / 1e6 for peak in peaks], "{:.0f} MB"),
        weights=_megabytes(weights),
        beyond=_spread([(peak - weights) / 1e6 for peak in peaks], "{:.0f} MB"),
        beyond_bar=BEYOND_WEIGHTS_MB,
        supervisor=_spread([row["supervisor_peak_bytes"] / 1e6 for row in runs], "{:.0f} MB"),
        busy=_busy(results),
        graphs=", ".join(f"{name} {_megabytes(size)}" for name, size in results["weights_bytes"].items()),
        count=len(packages),
        total=_megabytes(sum(each["size_bytes"] for each in packages.values())),
        unwanted=" or ".join(f"`{name}`" for name in results["unwanted"]),
        packages="\n".join(_rows(packages)),
        size=_megabytes(facts["size_bytes"]),
        locked=len(facts["locked"]),
        content="\n".join(f"| `{name}` | {_megabytes(size)} |" for name, size in facts["content_bytes"].items()),
    )


def _rows(packages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    names = largest(packages)
    rows = [f"| {name} | {packages[name]['version']} | {_megabytes(packages[name]['size_bytes'])} |" for name in names]
    rest = sum(packages[name]["size_bytes"] for name in names[SHOWN:])
    others = [f"| {len(names) - SHOWN} others | | {_megabytes(rest)} |"] if rest else []
    return rows[:SHOWN] + others


def _spread(values: list[float], form: str) -> str:
    return " | ".join(form.format(value) for value in (median(values), min(values), max(values)))


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _setting(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    processor = machine.get("processor", machine["architecture"])
    return f"{processor}, {machine['usable_cores']} usable cores; {len(results['runs'])} starts."


def _busy(results: Mapping[str, Any]) -> str:
    load, cores = results["load_average"]["before"], results["machine"]["usable_cores"]
    return BUSY.format(load=load, cores=cores) if load / cores > QUIET_LOAD else ""
