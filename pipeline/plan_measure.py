"""The stage behind `understudy plan`: build every candidate, weigh it, and let all take turns on the recipe's texts."""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.dataset import read_info, read_split
from artifact.digest import hash_file, hash_json
from artifact.errors import BenchError, ModelError
from artifact.manifest import write_json
from artifact.stage import Stage, Work
from distill.config_starts import Checkpoint
from distill.sources import locate
from export.config import InstructionSet
from export.instruction_set import resolve_target
from pipeline.machine import fingerprint, load_average, tell_if_busy
from pipeline.plan_config import PlanConfig
from pipeline.plan_engine import Opening, PacedRound
from pipeline.plan_race import Race, make_plan_workload, race_all, weigh_all
from pipeline.plan_records import Candidate, Measurements, Pace, Teacher, Texts
from pipeline.plan_shapes import candidates
from pipeline.processes import work_all
from pipeline.recipe import Recipe
from pipeline.results import SpeedRow
from serve.latency.plan import Asked
from serve.session import open_tokenizer
from serve.threads import available_cores

if TYPE_CHECKING:
    from pipeline.plan_forms import Form

VERSION = 7
FILE = "candidates.json"
TOKENIZER = "tokenizer.json"


class CandidatesRequest(PlanConfig):
    """What is measured of which shapes, and on which machine: numbers of another one are not this plan's."""

    threads: int
    max_tokens: int
    opset: int
    target: InstructionSet
    processor: str
    cores: int


def candidates_stage(recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that measures the candidates of `recipe` below its output folder, and its work.

    Raises `ModelError` when the teacher is not there or has no `tokenizer.json`.
    """
    source = teacher_source(recipe)
    directory, model = locate(source), recipe.candidate.partition("/")[0]
    machine = fingerprint()
    config = CandidatesRequest(
        **recipe.plan.model_dump() | {"threads": recipe.plan.threads or recipe.bench.threads},
        max_tokens=recipe.models[model].max_tokens,
        opset=recipe.export.opset,
        target=resolve_target(recipe.export.target),
        processor=str(machine.get("processor", machine["architecture"])),
        cores=machine["usable_cores"],
    )
    stage = Stage(
        name="plan", version=VERSION, kind="candidates", out=root / "candidates", config=config,
        inputs={"data": root / "data"}, digests={"teacher": _digest(directory, source)},
    )  # fmt: skip
    return stage, lambda out: run_candidates(config, directory, root / "data", out, source=source, model=model)


def teacher_source(recipe: Recipe) -> str:
    """The pretrained model that the recipe begins with: the first model's start, since nothing stands above it."""
    start = next(iter(recipe.models.values())).start
    if not isinstance(start, Checkpoint):
        raise ModelError(f"the first model starts from {start.kind!r}, expected a checkpoint to derive shapes from")
    return start.source


def run_candidates(
    config: CandidatesRequest, teacher: Path, data: Path, out: Path, *, source: str, model: str
) -> Mapping[str, Any]:
    """Write `candidates.json` to `out`; returns how many were measured and how long each part took.

    `model` is the recipe's name of what is planned. Raises `BenchError` for more threads than cores or a process that
    died, `ConfigError` for a shape that the teacher rules out, `ModelError` for texts longer than it can place,
    `ExportError` for an architecture that is not exported.
    """
    from pipeline.plan_build import read_teacher
    from pipeline.plan_forms import choose_forms

    load_before = _check_machine(config.threads)
    workload = make_plan_workload(config, [example.text for example in read_split(data, "test")])
    about = read_teacher(teacher, source)
    _check_positions(about, config.max_tokens, model)
    shapes = candidates(config, about)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=out, prefix="graphs-") as folder:
        with _timed(seconds, "export"):
            labels = read_info(data).labels
            parameters, contestants = _build_all(shapes, config, about, teacher=teacher, labels=labels, folder=folder)
        with _timed(seconds, "forms"):
            forms = choose_forms(contestants, config.target)
        openings = {row: contestants[row][facts["chosen"]] for row, facts in forms.items()}
        with _timed(seconds, "speed"):
            race = race_all(openings, workload, config.patience_seconds)
        with _timed(seconds, "memory"):
            peaks = weigh_all(openings, workload)
        rows = {row: _row(opening, race.turns[row], peaks[row]) for row, opening in openings.items()}
    texts = _describe_texts(workload.texts, teacher / TOKENIZER, config.max_tokens)
    measurements = Measurements(
        machine=fingerprint(), threads=config.threads, target=config.target, teacher=about, texts=texts,
        candidates=shapes, parameters=parameters, rows=rows, pace=describe_pace(race), forms=forms,
    )  # fmt: skip
    write_json(out / FILE, measurements.model_dump(mode="json"))
    load = {"before": load_before, "after": load_average()}
    return {"candidates": len(shapes), "rows": len(rows), "seconds": seconds, "load_average": load}


def _build_all(
    shapes: Sequence[Candidate], config: CandidatesRequest, about: Teacher, *,
    teacher: Path, labels: Sequence[str], folder: str,
) -> tuple[dict[str, dict[str, int]], dict[str, Mapping["Form", Opening]]]:  # fmt: skip
    """Parameters of each candidate, and by `candidate/precision` how to open each form of its graph."""
    from pipeline.plan_build import Job, build

    jobs = [
        Job(
            candidate=shape, teacher=teacher, teacher_pieces=about.pieces, labels=labels,
            max_tokens=config.max_tokens, precisions=config.precisions, target=config.target, opset=config.opset,
            threads=config.threads, folder=Path(folder) / shape.name,
        )
        for shape in shapes
    ]  # fmt: skip
    built = dict(
        zip(
            (shape.name for shape in shapes),
            work_all(build, jobs, processes=available_cores(), description="export random candidates"),
            strict=True,
        )
    )
    contestants = {f"{name}/{each}": forms for name, made in built.items() for each, forms in made.openings.items()}
    return {name: made.parameters for name, made in built.items()}, contestants


def _check_machine(threads: int) -> float:
    """The load average before we began; says when others are at work. `BenchError` for more threads than cores."""
    cores, load = available_cores(), load_average()
    if threads > cores:
        raise BenchError(f"plan.threads is {threads}, but this process may use {cores} cores", "set plan.threads")
    tell_if_busy(cores, "milliseconds will be those of a busy machine")
    return load


def _check_positions(teacher: Teacher, max_tokens: int, model: str) -> None:
    if teacher.positions is not None and max_tokens > teacher.positions:
        raise ModelError(
            f"models.{model}.max_tokens is {max_tokens}, but {teacher.source} has positions for {teacher.positions}",
            f"set models.{model}.max_tokens to at most {teacher.positions}",
        )


def describe_pace(race: Race) -> Pace:
    """What the yardstick showed."""
    shown = {name: tuple(turn.yardstick_ms for turn in taken) for name, taken in race.turns.items()}
    return Pace(yardstick=race.yardstick, yardstick_ms=shown, retaken=race.retaken)


def _row(opening: Opening, turns: Sequence[PacedRound], peak: int) -> SpeedRow:
    return SpeedRow(
        single_ms=tuple(turn.round.single_ms for turn in turns),
        batch_texts_per_second=tuple(turn.round.texts_per_second for turn in turns),
        size_bytes=opening.size_bytes,
        peak_memory_bytes=peak,
        threads=opening.threads,
    )


def _describe_texts(texts: Sequence[Asked], tokenizer: Path, max_tokens: int) -> Texts:
    lengths = [len(encoding) for encoding in open_tokenizer(tokenizer, max_tokens).encode_batch(list(texts))]
    return Texts(
        count=len(lengths),
        max_tokens=max_tokens,
        median_tokens=float(np.median(lengths)),
        longest_tokens=max(lengths),
    )


def _digest(directory: Path, source: str) -> str:
    """Of all that is read of the teacher: its weights play no part."""
    if not (directory / TOKENIZER).is_file():
        raise ModelError(f"{source} has no {TOKENIZER}", "save it with a fast tokenizer")
    return hash_json({name: hash_file(directory / name) for name in ("config.json", TOKENIZER)})


@contextlib.contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[part] = round(time.perf_counter() - begun, 1)
