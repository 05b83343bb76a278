"""How a report's numbers were measured, in words: rounds, looks, load, and what could not be measured."""

from pipeline.results import Benchmark


def describe_measuring(benchmark: Benchmark) -> dict[str, str]:
    """What to know before believing the numbers, by what it is of."""
    told = {"rounds": _rounds(benchmark)}
    if benchmark.looks > 1:
        told["looks"] = (
            f"up to {benchmark.looks}: the gates looked while samples grew, and their intervals allow for it"
        )
    if threads := sorted({row.threads for row in benchmark.in_process.values()}):
        told["threads"] = f"{', '.join(map(str, threads))}, read back from each runtime"
    if benchmark.load_average:
        told["load average"] = ", ".join(f"{load:g} {when}" for when, load in benchmark.load_average.items())
    return {name: text for name, text in told.items() if text}


def _rounds(benchmark: Benchmark) -> str:
    """Rounds in process, in random order each; rows that a gate wanted to know better took part in more."""
    counts: dict[int, list[str]] = {}
    for name, row in benchmark.in_process.items():
        counts.setdefault(len(row.single_ms), []).append(name)
    most_common = max(counts, key=lambda count: len(counts[count]), default=0)
    others = [f"{count} of {', '.join(names)}" for count, names in sorted(counts.items()) if count != most_common]
    return f"{most_common}{'; ' if others else ''}{'; '.join(others)}" if counts else ""
