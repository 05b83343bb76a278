"""The table of `benchmarks.plan`: predicted beside measured, as ratios with intervals."""

from collections.abc import Mapping
from typing import Any

from pipeline.results import Interval, Verdict
from pipeline.statistics import median_of_rounds, ratio_of_medians
from pipeline.table import SYMBOLS, format_ms, format_ratio

BAR = 0.10
"""Largest share by which a prediction may miss."""

INTRODUCTION = """\
# Does a plan tell the truth?

`understudy plan` measures random weights of a shape. Here each trained bundle takes turns with random weights of its own
shape, in one run, in random order in every round. Ratios are trained over random: 1 is a true prediction. Brackets hold
95 % intervals, by bootstrap over rounds. A row passes when the whole interval of its latency is within {bar:.0%} of 1, fails
when all of it is outside, and is inconclusive otherwise. Written by `python -m benchmarks.plan`.

{setting}

| bundle | shape | predicted form | shipped form | predicted p50 | measured p50 | latency ratio | within {bar:.0%} | throughput ratio | size ratio | memory ratio |
|---|---|---|---|---:|---:|---:|---|---:|---:|---:|
"""  # noqa: E501 - a table's header is one line


def render(results: Mapping[str, Any]) -> str:
    """Markdown with one line for each bundle and precision."""
    lines = [_line(name, row, results["shapes"]) for name, row in results["rows"].items()]
    return INTRODUCTION.format(bar=BAR, setting=_setting(results)) + "".join(lines)


def judge(ratio: Interval) -> Verdict:
    """Where the interval lies to the band around 1."""
    if ratio.low >= 1 - BAR and ratio.high <= 1 + BAR:
        return "pass"
    return "fail" if ratio.high < 1 - BAR or ratio.low > 1 + BAR else "inconclusive"


def _line(name: str, row: Mapping[str, Any], shapes: Mapping[str, str]) -> str:
    trained, random = row["trained"], row["random"]
    key = name.partition("/")[0]
    latency = ratio_of_medians(trained["single_ms"], random["single_ms"], seed=1)
    throughput = ratio_of_medians(trained["texts_per_second"], random["texts_per_second"], seed=1)
    verdict = judge(latency)
    cells = (
        name.partition("-")[2],
        shapes[key],
        random["form"],
        trained["form"],
        str(format_ms(median_of_rounds(random["single_ms"], seed=1))),
        str(format_ms(median_of_rounds(trained["single_ms"], seed=1))),
        format_ratio(latency),
        f"{SYMBOLS[verdict]} {verdict}",
        format_ratio(throughput),
        f"{trained['size_bytes'] / random['size_bytes']:.3f}",
        f"{trained['peak_memory_bytes'] / random['peak_memory_bytes']:.3f}",
    )
    return f"| {' | '.join(cells)} |\n"


def _setting(results: Mapping[str, Any]) -> str:
    machine, load = results["machine"], results["load_average"]
    return (
        f"{machine.get('processor', machine['architecture'])}, {results['threads']} threads on "
        f"{machine['usable_cores']} usable cores, load {load['before']} before; {results['texts']} texts, "
        f"{results['rounds']} rounds of 16 single texts and one batch of 32."
    )
