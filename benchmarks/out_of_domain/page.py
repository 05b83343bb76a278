"""The page of `benchmarks.out_of_domain`, from its raw scores."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.out_of_domain.measure import SETTINGS
from benchmarks.out_of_domain.raw import WORDS, Raw
from benchmarks.out_of_domain.scores import NAMES, Sides, area, area_difference, with_intervals
from benchmarks.out_of_domain.thresholds import threshold_lines
from pipeline.statistics import wilson

HEADER = """\
# Out of domain, measured

Written by `python -m benchmarks.out_of_domain`, from the raw scores in `benchmarks/out_of_domain/results/`. What the
gate is stands in [out-of-domain.md](../out-of-domain.md). Every number of a gate is of the sealed, guarded bundle
through the serving runtime, with a 95 % interval by bootstrap over texts; all gates of a data set are fitted on the
same in-domain texts, with thresholds from others held out. *AUROC*: the chance that a text from outside is farther than
one from inside. *AUPR in*, *AUPR out*: average precision with either side as what is to be found. *FPR95*: the share of
texts from outside that pass where 95 % of those from inside do; lower is better. *DTACC*: the best mean of the two
shares told rightly.

What the encoder learnt before: *labels*, a classifier's intents; *plain*, nothing of the domain (all-MiniLM-L6-v2);
*imlm*, masked words of the in-domain text; *bcad*, to tell in-domain text from auxiliary text; *imlm-bcad*, both. A
student has half the layers and was distilled on text alone (of *labels*: with its teacher's logits and the labels).

Scores: *gate*, the distance that is served; *last layer*, that layer's distance alone; *svm weights*, the layers
weighed by a one-class machine instead of alike; *softmax*, one less the chance of the likeliest label; *energy*, Liu et
al., 2020; *auxiliary*, the chance of that label; *tf-idf*, 100 singular directions and a one-class machine, no encoder.
"""
TITLES = {"auroc": "AUROC", "aupr_in": "AUPR in", "aupr_out": "AUPR out", "fpr95": "FPR95", "dtacc": "DTACC"}
BAR = 1.0
"""Points of AUROC that a student in int8 may lose."""


def render(tables: Mapping[str, Raw], thresholds: Mapping[str, Any] | None = None) -> str:
    """The page of all raw results, by name."""
    sections = [HEADER, *("\n".join(_section(name, raw)) for name, raw in tables.items())]
    if thresholds is not None:
        sections.append("\n".join(threshold_lines(thresholds)))
    return "\n".join(sections).rstrip() + "\n"


def _section(name: str, raw: Raw) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{raw.about['inside']:,} test texts from inside, {raw.about['outside']:,} from outside.\n"
    if any(_has_all(raw, setting) for setting in SETTINGS):
        yield "Does the gate survive compression? AUROC, and what the student in int8 gains or loses, paired by text:\n"
        yield "| encoder | teacher float32 | student float32 | student int8 | int8 - teacher | within 1 point |"
        yield "| --- | ---: | ---: | ---: | ---: | --- |"
        yield from (_survival(raw, setting) for setting in SETTINGS if _has_all(raw, setting))
        yield ""
    yield "| encoder | score | AUROC | AUPR in | AUPR out | FPR95 | DTACC |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for row in raw.rows:
        for score in raw.scores_of(row):
            yield _line(f"{row} | {score}" if row != WORDS else f"none | {WORDS}", raw.sides(row, score))
    yield ""
    yield from _by_group(raw)
    yield from _flags(raw)
    yield from _evidence(raw)
    yield f"*{raw.about['machine']['processor']}, {raw.about['machine']['usable_cores']} cores.*\n"


def _has_all(raw: Raw, setting: str) -> bool:
    return all(row in raw.rows for row in three_rows(setting))


def three_rows(setting: str) -> tuple[str, str, str]:
    """Teacher, student, student in int8."""
    return f"{setting}/teacher/float32", f"{setting}/student/float32", f"{setting}/student/int8"


def _survival(raw: Raw, setting: str) -> str:
    teacher, student, small = (raw.sides(row, "gate") for row in three_rows(setting))
    value, low, high = (100 * number for number in area_difference(small, teacher))
    verdict = "yes" if low >= -BAR else "no" if high < -BAR else "not shown"
    areas = " | ".join(f"{100 * area(sides):.1f}" for sides in (teacher, student, small))
    return f"| {setting} | {areas} | {value:+.1f} ({low:+.1f}, {high:+.1f}) | {verdict} |"


def _line(name: str, sides: Sides) -> str:
    measured = with_intervals(sides.inside, sides.outside)
    cells = ("{:.1f} ({:.1f}, {:.1f})".format(*(100 * value for value in measured[name])) for name in NAMES)
    return f"| {name} | {' | '.join(cells)} |"


def _by_group(raw: Raw) -> Iterator[str]:
    groups = raw.about["groups"]
    if not groups:
        return
    yield f"AUROC against each source:\n\n| encoder | score | {' | '.join(groups)} |"
    yield f"| --- | --- |{' ---: |' * len(groups)}"
    for row in raw.rows:
        for score in raw.scores_of(row):
            areas = " | ".join(f"{100 * area(raw.sides(row, score, group)):.1f}" for group in groups)
            yield f"| {row} | {score} | {areas} |"
    yield ""


def _flags(raw: Raw) -> Iterator[str]:
    gated = {row: about for row, about in raw.rows.items() if "gate" in about}
    if not gated:
        return
    yield f"What the thresholds do, set where {raw.about['quantile']:.0%} of the held-out in-domain texts pass:\n"
    yield "| encoder | fitted on | held out | threshold | flagged inside | flagged outside | weights of the layers |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for row, about in gated.items():
        gate, counts = about["gate"], (raw.about["inside"], raw.about["outside"])
        shares = [wilson(flagged, count) for flagged, count in zip(about["flagged"], counts, strict=True)]
        told = " | ".join(f"{share.value:.1%} ({share.low:.1%}, {share.high:.1%})" for share in shares)
        weights = " ".join(f"{weight:.2f}" for weight in about["facts"]["layer_weights"])
        fitted = f"{gate['fitted_texts']:,} | {gate['held_out_texts']:,} | {gate['threshold']:.3f}"
        yield f"| {row} | {fitted} | {told} | {weights} |"
    yield ""


def _evidence(raw: Raw) -> Iterator[str]:
    """What in-domain text says of the weightings: the default was chosen by this, not by the tables above."""
    known = {row: about["evidence"] for row, about in raw.rows.items() if "evidence" in about}
    if not known:
        return
    yield "Weights of the layers, judged by in-domain text alone: the chance that a text spliced from the halves of two"
    yield "held-out texts is farther than a held-out one (higher is better), and their 95 % quantile over their median"
    yield "(lower is better):\n"
    yield "| encoder | spliced, svm | spliced, equal | tail, svm | tail, equal |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for row, found in known.items():
        svm, equal = found["svm"], found["equal"]
        areas = f"{svm['spliced']:.4f} | {equal['spliced']:.4f}"
        yield f"| {row} | {areas} | {svm['tail']:.4f} | {equal['tail']:.4f} |"
    yield ""
