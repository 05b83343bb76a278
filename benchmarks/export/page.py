"""The page docs/results/export-peers.md, from the raw samples.

python -m benchmarks.export.page
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from artifact.progress import say
from pipeline.results import Interval
from pipeline.statistics import accuracy_ratio, ratio_of_medians, wilson

RESULTS = Path(__file__).parent / "results"
PAGE = Path("docs/results/export-peers.md")
BASE = "optimum float32"
PAIRS = (("ours float32", "optimum float32"), ("ours float32", "optimum O2"), ("ours int8", "optimum int8"),
         ("ours int8", "optimum O2 int8"))  # fmt: skip
"""Ours, and what it must be at least as good as: in quality, speed and size."""

_MARGIN = 0.99
"""A ratio whose interval reaches below this is not at least as good."""

Row = Mapping[str, Any]

HEAD = """# Exports of ours and of `optimum-cli`

Written by `python -m benchmarks.export.page`, from the raw samples in `benchmarks/export/results/`. Each graph is made
by the command that its users type, in a process of its own; *made in* and *peak memory* are of the whole command, from
the model on, ours with all its proofs. Then all take turns in one process, on the same tokens and with the session
settings of our service. Ratios are paired, with their 95 % intervals."""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    options.page.write_text(render(options.results), encoding="utf-8")
    say(f"wrote {options.page}")


def render(results: Path) -> str:
    """A section for each file of results."""
    files = sorted(results.glob("*.json"))
    return "\n\n".join([HEAD, *(_section(json.loads(file.read_text(encoding="utf-8"))) for file in files)]) + "\n"


def _section(found: Mapping[str, Any]) -> str:
    rows = {row["name"]: row for row in found["rows"]}
    header = ("", "accuracy", "of " + BASE, "single text p50, ms", "times as fast", "texts/s", "times as many", "MB",
              "made in, s", "peak memory, MB")  # fmt: skip
    body = [_cells(row, rows[BASE], found) for row in rows.values()]
    verdicts = [_verdict(rows[one], rows[other]) for one, other in PAIRS if one in rows and other in rows]
    tokens = found["single_tokens"]
    machine = found["machine"]
    commands = "\n".join(
        [f"* {row['name']}: `{row['command']}`" for row in rows.values()]
        + [f"* {name}: `{failed['command']}` failed: {failed['said']}" for name, failed in found["failures"].items()]
    )
    return f"""## {found["name"]}

{found["test_texts"]:,} texts of {found["labels"]} labels; single texts of {min(tokens)} to {max(tokens)} tokens;
{found["graph_threads"]} threads on {machine["processor"]}, load average {found["load_average"]:.1f} at the end.

{_table(header, body)}

{commands}

Is ours at least as good? A ratio holds where its whole interval lies above {_MARGIN:g}, and is open where the interval
reaches below and its middle does not.

{_table(("", "quality", "single text", "throughput", "size"), verdicts)}"""


def _cells(row: Row, base: Row, found: Mapping[str, Any]) -> tuple[str, ...]:
    right = _bits(row)
    texts_per_second = 1000 * found["batch_texts"] / median(sum(turn) for turn in row["batch_ms"])
    return (
        row["name"],
        f"{wilson(sum(right), len(right)).value:.2%}",
        _interval(_quality(row, base)),
        f"{median(ms for turn in row['single_ms'] for ms in turn):.2f}",
        _interval(_speed(row, base, "single_ms")),
        f"{texts_per_second:,.0f}",
        _interval(_speed(row, base, "batch_ms")),
        f"{row['size_bytes'] / 1e6:.1f}",
        f"{row['made_seconds']:.0f}",
        f"{row['made_peak_bytes'] / 1e6:,.0f}",
    )


def _verdict(one: Row, other: Row) -> tuple[str, ...]:
    ratios = [_quality(one, other), *(_speed(one, other, kind) for kind in ("single_ms", "batch_ms"))]
    size = one["size_bytes"] / other["size_bytes"]
    words = [f"{_interval(ratio)} {_word(ratio)}" for ratio in ratios]
    return (
        f"{one['name']} against {other['name']}",
        *words,
        f"{size:.3f} {'holds' if size <= 1 / _MARGIN else '**missed**'}",
    )


def _word(ratio: Interval) -> str:
    if ratio.low >= _MARGIN:
        return "holds"
    return "open" if ratio.value >= _MARGIN else "**missed**"


def _quality(one: Row, other: Row) -> Interval:
    return accuracy_ratio(_bits(one), _bits(other), seed=1)


def _speed(one: Row, other: Row, kind: str) -> Interval:
    """How many times faster `one` is: single texts by their median, batches by whole rounds."""
    if kind == "batch_ms":
        return ratio_of_medians([sum(turn) for turn in other[kind]], [sum(turn) for turn in one[kind]], seed=1)
    return ratio_of_medians(other[kind], one[kind], seed=1)


def _bits(row: Row) -> list[bool]:
    return [bit == "1" for bit in row["right"]]


def _interval(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
