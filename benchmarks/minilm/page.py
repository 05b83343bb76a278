"""`docs/results/minilm.md`, its plot, and the record for the page of all systems."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifact.manifest import MANIFEST, Manifest, open_artifact, read_manifest, write_json
from benchmarks.minilm.cells import PRECISIONS, read_cells
from benchmarks.minilm.grid import ASSISTED, COSINES, MORE_ROWS, NONE, RECIPES, ROWS, TASKS, TEACHER
from benchmarks.minilm.one_task import one_task_sentence, one_task_table
from benchmarks.minilm.plot import plot
from benchmarks.minilm.shares import Drawn, Kept, keep_of, mean_of
from pipeline.machine import fingerprint
from pipeline.recipe import load_recipe
from pipeline.results import Interval
from pipeline.scores.quality import QUALITIES

PAGE = Path("docs/results/minilm.md")
RECORD = Path("docs/results/systems/minilm.json")
GENERAL_STAGE = "general"
"""Folder beside the cells, of the general students' manifests."""
SEEDS = 3
"""What the whole table has."""
KEEPS = 0.99
KEEPS_INT8 = 0.985
RELATIONS = ("QQ", "KK", "VV")
ALL_ROWS = {**ROWS, **MORE_ROWS, **ROWS}  # in the order of table A first, by its names

COMMANDS = (
    (
        "understudy distill recipes/minilm/general.yaml data.source.directory=DIR/wikipedia_en_part "
        "corpora.wikipedia.source.directory=DIR/wikipedia_en_part corpora.books.source.directory=DIR/gutenberg_part"
    ),
    "python -m benchmarks.minilm DIR",
)

Table = Mapping[str, Mapping[tuple[str, str], Kept]]

HEADER = """\
# MiniLM and MiniLMv2: one general student for many tasks

Written by `python -m benchmarks.minilm` from the answers of every cell. all-MiniLM-L6-v2 (6 layers of 384) is the
teacher. Its students have 3 layers, half of the Transformer's parameters, and begin as layers 1, 3 and 6 of it. In the
*general* stage (`recipes/minilm/general.yaml`) each learns from the same text, without any task, by one objective. Then
teacher and students are fine-tuned alike from each task's labels, exported, and the sealed bundles answer the test
split. *Kept* is a row's score over that of the teacher in float32. Intervals are 95 %, of test examples drawn anew, the
same ones for all rows, and of seeds where there are several.
"""

PAPER: tuple[str, ...] = (
    """\
MiniLM (arXiv 2002.10957, table 3), 3x384 from BERT-base, averages over SQuAD 2.0, MNLI-m and SST-2: word distillation
74.4, TinyBERT's objectives 76.5, MiniLM 78.1, with an assistant 78.6. Without the value relation (table 5)
66.2/78.8/89.3 become 64.2/77.8/88.3; layer by layer (table 7) 78.1 becomes 77.0.""",
    "MiniLM's 6x768 student keeps more than 99 % of BERT-base on SQuAD 2.0 and several GLUE tasks (table 2).",
    """\
What differs: 400,000 steps of 256 texts there, {tokens} here; a teacher of 12x768 there, of 6x384 here; random starts
there, the teacher's own layers here, of which so little text can only mend what the missing layers broke; 3 to 10
epochs of fine-tuning there, those above here.""",
)


def write_page(directory: Path, budget: str, general: Path) -> None:
    """The page, the plot and the record, from every cell in `directory` and the general students' manifests."""
    cells = read_cells(directory)
    table = keep_of(cells)
    cosines = table.pop(COSINES, {})
    students = _students(general, directory / GENERAL_STAGE)
    PAGE.with_suffix(".svg").write_text(plot(table), encoding="utf-8")
    lines = [HEADER, *_general_stage(students, cosines), *_budgets(cells, budget)]
    for precision in reversed(PRECISIONS):
        lines += ["", f"## Bundles in {precision}\n", *_table(table, precision, ROWS)]
        if any(row in MORE_ROWS and row not in ROWS for found in table.values() for row, _ in found):
            lines += [
                "",
                "More text, half the width, and a task's own teacher:\n",
                *_table(table, precision, MORE_ROWS),
            ]
    lines += [
        "",
        f"![share of the teacher kept, by objective]({PAGE.stem}.svg)\n",
        *_findings(table),
        *_missing(cells),
        *_kept_float(cells),
    ]
    lines += ["", *one_task_table(), "", "## The papers\n", *(f"* {item}" for item in _paper())]
    machine = fingerprint()
    lines += ["", f"*{machine['processor']}, {machine['usable_cores']} cores, shared with other work.*"]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    write_json(RECORD, _record(table, cosines, cells, students))


def _students(general: Path, kept: Path) -> dict[str, Manifest]:
    """Manifests of the general students: of those that are there, kept beside the cells for when they are not."""
    for row in ALL_ROWS:
        if (general / row / MANIFEST).exists():
            (kept / row).mkdir(parents=True, exist_ok=True)
            write_json(kept / row / MANIFEST, open_artifact(general / row, "model").model_dump(mode="json"))
    return {row: read_manifest(kept / row) for row in ALL_ROWS if (kept / row / MANIFEST).exists()}


def _tokens() -> str:
    """How much text the general stage reads, as its recipe has it."""
    phase = load_recipe(RECIPES / "general.yaml").models["minilmv2"].phases[0]
    return f"{phase.steps:,} steps of {phase.batch_tokens:,} tokens"


def _paper() -> list[str]:
    return [" ".join(item.format(tokens=_tokens()).split()) for item in PAPER]


def _general_stage(students: Mapping[str, Manifest], cosines: Mapping[tuple[str, str], Kept]) -> Iterator[str]:
    """The students before any task: a test without fine-tuning, and how near they came to what they were to match."""
    yield "## After the general stage\n"
    yield (
        f"{_tokens()} each where the name says no other, from Wikipedia and books in turn. *STS-B* is Spearman's "
        "correlation, on its test split, of people's marks with the cosine of the two sentences' vectors: nothing is "
        "fine-tuned, so there are no seeds. "
        "The other columns are of texts of Wikipedia that nobody trained on: the CKA of the sentence vectors of both "
        "last layers, and the divergence of their last layers' relations at 48 heads, which is MiniLMv2's loss.\n"
    )
    yield "| student | STS-B, float32 | STS-B, int8 | int8 keeps of the teacher | CKA | QQ | KK | VV | seconds |"
    yield f"|{' --- |'}{' ---: |' * 8}"
    for row, about in ALL_ROWS.items():
        if row not in students:
            continue
        found = [cosines.get((row, precision)) for precision in PRECISIONS]
        scores = [_points(kept.quality.interval) if kept else "-" for kept in found]
        share = f"{_points(_share(found[-1]))} %" if found[-1] else "-"
        facts = students[row].facts
        near = {} if row == ASSISTED else facts.get("fidelity", {})  # that one's is to its assistant
        inside = [near["cka"], *(near["relation_kl"][pair] for pair in RELATIONS)] if near else []
        shown = [f"{matrix[-1][-1]:.3f}" for matrix in inside] or ["-"] * 4
        yield f"| {about} | {' | '.join([*scores, share, *shown])} | {facts['seconds']:,.0f} |"
    yield ""


def _budgets(cells: Sequence[Mapping[str, Any]], budget: str) -> Iterator[str]:
    yield "## Fine-tuning\n"
    yield f"Budget `{budget}`, the same for every row:\n"
    yield "| task | training rows | epochs | learning rate | test rows | score |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for task in TASKS:
        if of_task := [cell for cell in cells if cell["task"] == task]:
            about = next((cell for cell in of_task if cell["row"] == TEACHER), of_task[0])
            phase = about["phases"][0]
            yield (
                f"| {task} | {about['examples']['train']:,} | {phase['epochs']:g} | {phase['learning_rate']:g} | "
                f"{len(about['truths']):,} | {QUALITIES[about['metric']].word} |"
            )


def _table(table: Table, precision: str, rows: Mapping[str, str]) -> Iterator[str]:
    tasks = [task for task in TASKS if task in table]
    yield f"| row | seeds | {' | '.join(tasks)} | average | kept |"
    yield f"| --- | ---: | {'---: | ' * len(tasks)}---: | ---: |"
    for row, about in rows.items():
        found = {task: table[task][row, precision] for task in tasks if (row, precision) in table[task]}
        if not found:
            yield f"| {about} | 0 |{' - |' * (len(tasks) + 2)}"
            continue
        seeds = sorted({kept.seeds for kept in found.values()})
        cells = [_points(found[task].quality.interval) if task in found else "-" for task in tasks]
        average, kept = _averages(table, row, precision, tasks)
        few = "" if len(found) == len(tasks) else f" of {len(found)}"
        seen = "-".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))
        means = f"{_points(average.interval)}{few} | {_points(kept.interval)} %"
        yield f"| {about} | {seen} | {' | '.join(cells)} | {means} |"


def _averages(table: Table, row: str, precision: str, tasks: Sequence[str]) -> tuple[Drawn, Drawn]:
    """Over the row's tasks, and that over the teacher's average of the same tasks."""
    mine = [task for task in tasks if (row, precision) in table[task]]
    average = mean_of([table[task][row, precision].quality for task in mine])
    teacher = mean_of([table[task][TEACHER, "float32"].quality for task in mine])
    return average, average.over(teacher)


def _findings(table: Table) -> Iterator[str]:
    """The headline asked for, task by task."""
    yield f"## Does a student keep {KEEPS:.0%} of its teacher?\n"
    yield f"| row | task | float32 keeps | at least {KEEPS:.0%} | int8 keeps | at least {KEEPS_INT8:.1%} |"
    yield "| --- | --- | ---: | --- | ---: | --- |"
    for row, about in ALL_ROWS.items():
        for task in TASKS:
            if row in (TEACHER, NONE) or (row, "int8") not in table.get(task, {}):
                continue
            if table[task][row, "int8"].share is None:
                continue
            whole, small = (_share(table[task][row, precision]) for precision in PRECISIONS)
            yield (
                f"| {about} | {task} | {_points(whole)} % | {_verdict(whole, KEEPS)} | "
                f"{_points(small)} % | {_verdict(small, KEEPS_INT8)} |"
            )
    yield "\n*open*: the interval spans the bound."


def _verdict(found: Interval, bound: float) -> str:
    return "**holds**" if found.low >= bound else "missed" if found.high < bound else "open"


def _missing(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    done = {(cell["row"], cell["task"], cell["seed"]) for cell in cells}
    done = {cell for cell in done if cell[1] != COSINES}
    whole, there = len(ROWS) * len(TASKS) * SEEDS, sum(row in ROWS for row, _, _ in done)
    yield f"\n## What is missing\n\n{there} of {whole} cells of table A (rows x tasks x {SEEDS} seeds) are measured."
    others = [about for row, about in MORE_ROWS.items() if row not in ROWS and row not in {cell[0] for cell in done}]
    if others:
        yield f"* table B, not measured: {'; '.join(others)}"
    for row, about in ROWS.items():
        seeds = {task: sum((row, task, seed) in done for seed in range(1, SEEDS + 1)) for task in TASKS}
        lacking = [f"{task} {SEEDS - count}" for task, count in seeds.items() if count < SEEDS]
        if lacking:
            yield f"* {about}: seeds of {', '.join(lacking)}"


def _kept_float(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Bundles whose int8 is not int8 throughout."""
    for cell in cells:
        if kept := cell.get("int8_kept_float"):
            yield f"* int8 of {cell['row']} on {cell['task']}, seed {cell['seed']}: {len(kept)} nodes stay in float32"


def _record(
    table: Table,
    cosines: Mapping[tuple[str, str], Kept],
    cells: Sequence[Mapping[str, Any]],
    students: Mapping[str, Manifest],
) -> dict[str, Any]:
    tasks = [task for task in TASKS if task in table]
    rows = []
    for row, about in ALL_ROWS.items():
        if tasks and all((row, "int8") in table[task] for task in tasks):
            kept = _averages(table, row, "int8", tasks)[1].interval
            rows.append({"row": row, **_figure(f"{about}: {', '.join(tasks)}", kept)})
    headline = f"{_headline(rows, table)} {one_task_sentence()}"
    rows += [
        _figure(f"{ALL_ROWS[row]}: STS-B by cosine, not fine-tuned", _share(cosines[row, "int8"]))
        for row in ALL_ROWS
        if (row, "int8") in cosines
    ]
    hours = sum(cell["core_seconds"] for cell in cells) + sum(each.facts["seconds"] for each in students.values())
    machine = fingerprint()
    return {
        "system": "MiniLM and MiniLMv2",
        "headline": headline,
        "metric": "share of the float32 teacher's score that the int8 bundle keeps, %",
        "rows": [{key: value for key, value in row.items() if key != "row"} for row in rows],
        "paper": _paper(),
        "failures": [
            line.removeprefix("* ").removeprefix("\n## What is missing\n\n")
            for line in [*_missing(cells), *_kept_float(cells)]
        ],
        "commands": COMMANDS,
        "page": PAGE.name,
        "hours": round(hours / 3600, 2),
        "hardware": f"{machine['processor']}, {machine['usable_cores']} cores, shared with other work",
        "manifests": {f"general {name}": manifest.digest for name, manifest in students.items() if name != TEACHER},
    }


def _figure(name: str, found: Interval) -> dict[str, Any]:
    return {"name": name, **{end: round(100 * number, 2) for end, number in found.model_dump().items()}}


def _headline(rows: Sequence[Mapping[str, Any]], table: Table) -> str:
    """The best of one budget, what more text or the task's own teacher add to it, and where a share is sure."""
    students = [row for row in rows if row["row"] in ROWS and row["row"] != TEACHER]
    if not students:
        return "Only the teacher has been measured."
    held = [
        f"{task} ({ALL_ROWS[row]})"
        for task in table
        for row in ALL_ROWS
        if row != TEACHER and (row, "int8") in table[task] and _share(table[task][row, "int8"]).low >= KEEPS_INT8
    ]
    more = [f"; {row['name']}: {_percent(row)}" for row in rows if row["row"] in MORE_ROWS and row["row"] not in ROWS]
    sure = f"surely {KEEPS_INT8:.1%} or more on {', '.join(held)}" if held else f"surely {KEEPS_INT8:.1%} on no task"
    best = max(students, key=lambda row: row["value"])
    return (
        f"Half of the layers in int8, distilled without a task for {_tokens()} and then fine-tuned, keep "
        f"{_percent(best)} of the teacher's average at best ({best['name']}){''.join(more)}; {sure}."
    )


def _percent(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.1f} % [{row['low']:.1f}, {row['high']:.1f}]"


def _share(kept: Kept) -> Interval:
    """Of the teacher; nothing, where the teacher is no better than chance."""
    return kept.share.interval if kept.share is not None else Interval(value=0, low=0, high=0)


def _points(found: Interval) -> str:
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
