"""What the page of all six systems reads of this one, and the sentences that both pages share."""

from collections.abc import Iterator

from benchmarks.systems.records import Figure, System
from benchmarks.xtremedistil.paper import NOTES, STUDENT_F1, WAYS
from benchmarks.xtremedistil.records import PRECISION, Record, Records
from pipeline.results import Interval

COMMANDS = (
    "understudy distill recipes/xtremedistil/encoder.yaml",
    "understudy run recipes/xtremedistil/ner.yaml",
    "understudy distill recipes/xtremedistil/source.yaml data.source.directory=MRPC",
    "understudy run recipes/xtremedistil/transfer.yaml data.source.directory=RTE",
    "python -m benchmarks.xtremedistil out/xtremedistil-{encoder,ner,source,transfer}",
)


def summarize(records: Records) -> System:
    """The record for `benchmarks.systems`."""
    rows = list(_figures(records))
    return System(
        system="XtremeDistil",
        headline=headline(records),
        metric="F1 of exact spans, all languages, % (task transfer: accuracy, %)",
        rows=tuple(rows) or (Figure(name="not measured yet", value=0.0),),
        paper=NOTES,
        failures=tuple(failures(records)),
        commands=COMMANDS,
        page="xtremedistil.md",
        hours=round(hours(records), 2),
        hardware="; ".join(dict.fromkeys(
            f"{each.machine['processor']}, {each.machine['usable_cores']} cores" for each in records.values()
        )),
        manifests={
            f"{name}/{artefact}": digest
            for name, each in records.items()
            for artefact, digest in each.manifests.items()
        },
    )  # fmt: skip


def headline(records: Records) -> str:
    """The best student, what it keeps and costs, and what of the method showed."""
    record = records.get("ner")
    best = best_student(record) if record is not None else None
    if record is None or best is None:
        return "Not measured yet."
    row = record.rows[f"{best}/{PRECISION}"]
    fewer = record.models[record.teacher].parameters["total"] / record.models[best].parameters["total"]
    kept = f", {_percent(row.kept)} % of its teacher" if row.kept is not None else ""
    return (
        f"The student that is best on validation, `{best}`, one {PRECISION} bundle of {row.size_bytes / 2**20:.1f} MiB "
        f"for {_number(len(record.languages))} languages, finds names with an F1 of {_percent(row.quality)}{kept}, "
        f"with {fewer:.1f} times fewer parameters. {' '.join(_shape(record))}".rstrip()
    )


def best_student(record: Record) -> str | None:
    """The model other than the teacher that is best on validation: the test split chooses nothing."""
    scores = {
        name: model.validation_f1
        for name, model in record.models.items()
        if name != record.teacher and f"{name}/{PRECISION}" in record.rows and model.validation_f1 is not None
    }
    return max(scores, key=lambda name: scores[name]) if scores else None


def failures(records: Records) -> list[str]:
    """What does not hold as the paper has it, and what nobody measured."""
    found = ["one seed of each model: intervals are over test sentences, not over trainings"]
    record = records.get("ner")
    if record is None or not record.rows:
        found.append("the taggers were not evaluated")
    else:
        for pair, gap in record.differences.items():
            first, second = pair.split(" - ")
            if gap.high < 0:
                found.append(f"`{first}` is worse than `{second}`, by {_percent(gap, sign=-1)} points of F1")
            elif gap.low <= 0:
                points = _percent(gap, plus=True)
                found.append(f"`{first}` is not shown to be better than `{second}`: {points} points of F1")
        if not any(row.p50_ms for row in record.rows.values()):
            found.append("latency: the recipe's benchmark was not run on a quiet machine")
    for name, each in records.items():
        helped = each.differences.get("transferred - direct")
        if helped is not None and helped.low <= 0:
            points = _percent(helped, plus=True)
            found.append(f"{name}: the source task is not shown to help RTE: {points} points of accuracy")
    if not any(name.startswith("transfer") and each.rows for name, each in records.items()):
        found.append("task transfer was not evaluated")
    return found


def hours(records: Records) -> float:
    """Of training, all models together."""
    return sum(model.training_seconds for each in records.values() for model in each.models.values()) / 3600


def verdict_of(gap: Interval) -> str:
    """Whether a difference is told from none."""
    if gap.low > 0:
        return "better"
    return "worse" if gap.high < 0 else "not decided"


def _shape(record: Record) -> Iterator[str]:
    """What each step of the method brought, a sentence for each that is decided or not."""
    words = {
        "staged - labels": "the teacher's stages against labels alone",
        "staged - joint": "stages against all losses at once",
        "unfrozen - staged": "gradual unfreezing against none",
        "wide - staged": "eight times the transfer set against the labelled sentences alone",
        "staged - random": "embeddings by SVD against random ones",
    }
    gaps = {text: record.differences[pair] for pair, text in words.items() if pair in record.differences}
    told = [f"{text} {_percent(gap, plus=True)}" for text, gap in gaps.items()]
    if told:
        yield f"In points of F1: {'; '.join(told)}."


def _figures(records: Records) -> Iterator[Figure]:
    record = records.get("ner")
    if record is not None:
        wanted = [record.reference, f"{record.teacher}/{PRECISION}", *(f"{name}/{PRECISION}" for name in WAYS)]
        for row in wanted:
            if row in record.rows:
                yield _figure(_named(row), record.rows[row].quality)
        best = best_student(record)
        if best is not None:
            for language, found in record.rows[f"{best}/{PRECISION}"].groups.items():
                yield _figure(f"{best}/{PRECISION}, {language}", found)
    for name, each in records.items():
        if name.startswith(("ner-", "transfer")):
            for row, answers in each.rows.items():
                if row.endswith(PRECISION):
                    yield _figure(f"{name}: {row}", answers.quality)


def _named(row: str) -> str:
    model = row.partition("/")[0]
    return f"{row}: {WAYS[model]}" if model in STUDENT_F1 or model in WAYS else row


def _figure(name: str, found: Interval) -> Figure:
    low, value, high = (round(100 * x, 2) for x in (found.low, found.value, found.high))
    return Figure(name=name, value=value, low=low, high=high)


def _percent(found: Interval, *, sign: int = 1, plus: bool = False) -> str:
    form = "+.1f" if plus else ".1f"
    low, value, high = sorted(100 * sign * x for x in (found.low, found.value, found.high))
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def _number(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count] if count < len(words) else str(count)
