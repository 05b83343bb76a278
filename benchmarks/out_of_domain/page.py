"""The page of `benchmarks.out_of_domain`, from its raw distances."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.out_of_domain.scores import NAMES, Distances, with_intervals
from pipeline.statistics import wilson

HEADER = """\
# Out of domain, measured

Written by `python -m benchmarks.out_of_domain`, from the raw distances in `benchmarks/out_of_domain/results/`. What the
gate is stands in [out-of-domain.md](../out-of-domain.md). Every number is of the sealed, guarded bundle through the
serving runtime, with a 95 % interval by bootstrap over texts. *AUROC*: the chance that a text from outside is farther
than one from inside. *AUPR in*, *AUPR out*: average precision with either side as what is to be found. *FPR95*: the
share of texts from outside that pass where 95 % of those from inside do; lower is better. *DTACC*: the best mean of the
two shares told rightly. *Softmax* is the baseline that needs no gate: one minus the chance of the likeliest label.
"""


def render(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of all raw results, by name."""
    sections = [HEADER, *("\n".join(_section(name, found)) for name, found in tables.items())]
    return "\n".join(sections).rstrip() + "\n"


def _section(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    texts, machine = found["texts"], found["machine"]
    yield f"## {name}\n"
    yield f"{texts['test']:,} test texts from inside, {texts['out_of_domain']:,} from outside.\n"
    yield "| score | AUROC | AUPR in | AUPR out | FPR95 | DTACC |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row, about in found["rows"].items():
        yield _line(f"gate, {row}", *(_array(about["distances"][split]) for split in ("test", "out_of_domain")))
    for row, about in found["rows"].items():
        if row.endswith(", train"):  # the gate changes no logits
            sides = (1 - _array(about["chances"][split]) for split in ("test", "out_of_domain"))
            yield _line(f"softmax, {row.removesuffix(', train')}", *sides)
    passed = f"{found['quantile']:.0%}"
    yield f"\nWhat the thresholds do, set where {passed} of the texts held out from the named split pass:\n"
    yield ("| gate | fitted on | held out | threshold | flagged inside | flagged outside | moved by company | added |")
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row, about in found["rows"].items():
        yield _flags(row, about)
    yield f"\n*{machine['processor']}, {machine['usable_cores']} cores.*\n"


def _line(name: str, inside: Distances, outside: Distances) -> str:
    measured = with_intervals(inside, outside)
    cells = ("{:.1f} ({:.1f}, {:.1f})".format(*(100 * value for value in measured[name])) for name in NAMES)
    return f"| {name} | {' | '.join(cells)} |"


def _flags(row: str, about: Mapping[str, Any]) -> str:
    gate, alone = about["gate"], about["alone"]
    shares = []
    for split in ("test", "out_of_domain"):
        flagged = _array(about["distances"][split]) > gate["threshold"]
        share = wilson(int(flagged.sum()), len(flagged))
        shares.append(f"{share.value:.1%} ({share.low:.1%}, {share.high:.1%})")
    cells = [
        row, f"{gate['fitted_texts']:,}", f"{gate['held_out_texts']:,}", f"{gate['threshold']:.3f}", *shares,
        f"{alone['flags_moved']} of {alone['texts']:,}", f"{about['facts']['added_bytes'] / 1e6:.1f} MB",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _array(values: list[float]) -> Distances:
    return np.array(values, dtype=np.float64)
