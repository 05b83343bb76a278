"""`docs/results/xtremedistil.md`, from the records."""

from collections.abc import Iterator

from benchmarks.xtremedistil.paper import NOTES, STUDENT_F1, TEACHER_F1, WAYS
from benchmarks.xtremedistil.records import PRECISION, Record, Records, Row
from benchmarks.xtremedistil.summary import COMMANDS, failures, headline, hours, verdict_of
from pipeline.results import Interval
from pipeline.table import MISSING

HEADER = """\
# XtremeDistil, measured

Written by `python -m benchmarks.xtremedistil` from `benchmarks/xtremedistil/results/`; how it works stands in
[xtremedistil.md](../xtremedistil.md). Every figure is of the bundle that is deployed, through the serving runtime, on
test sentences, with a 95 % interval by bootstrap over sentences; differences are paired.
"""
DESCRIPTIONS = {
    "ner": "One teacher and one student for all languages",
    "ner-quarter": "A quarter of the transfer set, at equal steps",
    "ner-longer": "Twice the labels, and a teacher that learnt longer",
    "ner-whole": "The whole transfer set, at equal steps",
}
MIB = 2**20


def render(records: Records) -> str:
    """The page."""
    lines = [HEADER, f"{headline(records)}\n"]
    for name, record in records.items():
        if name.startswith("ner") and record.rows:
            lines += _names(name, record)
    lines += _transfer(records)
    lines += ["## The paper, and what differs\n", *(f"* {note}" for note in NOTES), ""]
    if found := failures(records):
        lines += ["## What fell short\n", *(f"* {each}" for each in found), ""]
    lines += ["## Made by\n", "```sh", *COMMANDS, "```", ""]
    lines.append(_footer(records))
    return "\n".join(lines).rstrip() + "\n"


def _names(name: str, record: Record) -> Iterator[str]:
    yield f"## {DESCRIPTIONS.get(name, name)}\n"
    counts = record.examples
    yield (
        f"Universal NER: {counts['train']:,} training sentences (labels and transfer set), {counts['validation']:,} to "
        f"choose the best weights, {counts['test']:,} to test. F1 of exact spans, in percent.\n"
    )
    if name == "ner":
        yield "![share of the teacher's F1 that each student keeps](xtremedistil.svg)\n"
    languages = record.languages
    yield _line("row", "all", "of the teacher", *languages)
    yield _line("---", *["---:"] * (2 + len(languages)))
    for row, found in record.rows.items():
        yield _line(row, _share(found.quality), _share(found.kept), *(_share(found.groups.get(x)) for x in languages))
    yield ""
    yield from _ways(record)
    yield from _compression(record)


def _ways(record: Record) -> Iterator[str]:
    """What each step of the method brings, beside the paper's table 3."""
    yield f"### Ways to teach, {PRECISION}\n"
    yield _line("student", "F1", "kept", "the paper's F1", "kept")
    yield _line("---", *["---:"] * 4)
    for name, words in WAYS.items():
        row = record.rows.get(f"{name}/{PRECISION}")
        theirs = STUDENT_F1.get(name)
        paper = (f"{theirs:.2f}", f"{100 * theirs / TEACHER_F1:.1f} %") if theirs else (MISSING, MISSING)
        if row is not None:
            yield _line(f"`{name}`: {words}", _share(row.quality), _share(row.kept), *paper)
    yield (
        "\nOne training of each; intervals are over test sentences alone, and are not widened for the number of "
        "comparisons, so one that ends near 0 decides little.\n"
    )
    yield "| difference, points of F1 | | |\n| --- | ---: | --- |"
    for pair, gap in record.differences.items():
        yield _line(pair, _points(gap), verdict_of(gap))
    yield ""


def _compression(record: Record) -> Iterator[str]:
    teacher, reference = record.models[record.teacher].parameters, record.rows[record.reference]
    timed = any(row.p50_ms for row in record.rows.values())
    yield "### Compression\n"
    head = ["row", "parameters", "of them token embeddings", "MiB", "times smaller"]
    yield _line(*head, *(["single text", "texts a second, in batches"] if timed else []))
    yield _line("---", *["---:"] * (len(head) - 1 + 2 * timed))
    for name, row in record.rows.items():
        parameters = record.models[name.partition("/")[0]].parameters
        smaller = reference.size_bytes / row.size_bytes
        yield _line(
            name, f"{parameters['total'] / 1e6:.2f}M, 1/{teacher['total'] / parameters['total']:.2g} of the teacher's",
            f"{parameters['token_embedding'] / 1e6:.2f}M", f"{row.size_bytes / MIB:.1f}", f"{smaller:.1f}x",
            *(_speed(row) if timed else ()),
        )  # fmt: skip
    if not timed:
        yield "\nLatency is not on this page: the recipe's benchmark was not run on a quiet machine."
    yield ""


def _speed(row: Row) -> tuple[str, str]:
    single, batched = row.p50_ms, row.texts_per_second
    return (
        f"{single.value:.2f} ms [{single.low:.2f}, {single.high:.2f}]" if single else MISSING,
        f"{batched.value:,.0f} [{batched.low:,.0f}, {batched.high:,.0f}]" if batched else MISSING,
    )


def _transfer(records: Records) -> Iterator[str]:
    found = {name: record for name, record in records.items() if name.startswith("transfer") and record.rows}
    if not found:
        return
    yield "## A source task before the target\n"
    yield (
        "RTE by three layers of the checkpoint (`direct`), and by the same three after MRPC (`transferred`). Accuracy "
        "on RTE's validation file, which selected nothing.\n"
    )
    yield _line("run", "test rows", f"direct/{PRECISION}", f"transferred/{PRECISION}", "difference", "")
    yield _line("---", *["---:"] * 4, "---")
    for name, record in found.items():
        sides = (record.rows.get(f"{model}/{PRECISION}") for model in ("direct", "transferred"))
        gap = record.differences.get("transferred - direct")
        cells = (_share(row.quality if row else None) for row in sides)
        yield _line(name, f"{record.examples['test']:,}", *cells, _points(gap), verdict_of(gap) if gap else "")
    yield ""


def _footer(records: Records) -> str:
    machines = [f"{r.machine['processor']}, {r.machine['usable_cores']} cores" for r in records.values()]
    sealed = {name: r.manifests["evaluation"][:12] for name, r in records.items() if "evaluation" in r.manifests}
    digests = [f"{name} `{digest}`" for name, digest in sealed.items()]
    spent = f"{hours(records):.2g} hours of training by the clock of a busy machine"
    return f"*{spent}; {'; '.join(dict.fromkeys(machines))}; {', '.join(digests)}*"


def _share(found: Interval | None) -> str:
    if found is None:
        return MISSING
    return f"{100 * found.value:.1f} <sub>{100 * found.low:.1f} to {100 * found.high:.1f}</sub>"


def _points(gap: Interval | None) -> str:
    if gap is None:
        return MISSING
    return f"{100 * gap.value:+.1f} <sub>{100 * gap.low:+.1f} to {100 * gap.high:+.1f}</sub>"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
