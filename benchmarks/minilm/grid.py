"""What the table is of: rows, tasks, seeds and budgets, and the recipe of each cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact.errors import DataError
from distill.config import ModelConfig
from distill.config_objectives import Logits
from pipeline.recipe import Recipe, load_recipe

RECIPES = Path("recipes/minilm")
ONE_TASK_RECIPE = Path("recipes/sst2.yaml")
GENERAL = Path("out/minilm-general/models")
TEACHER, NONE, LOGITS, ASSISTED, ONE_TASK = "teacher", "none", "logits", "narrow-assisted", "one-task"
COSINES = "cosines"
"""STS-B without fine-tuning, by the cosine of two sentences' vectors: a task beside those that have a recipe."""

ROWS: Mapping[str, str] = {
    TEACHER: "teacher: 6 layers",
    NONE: "no distillation: every other layer",
    LOGITS: "logits alone, in fine-tuning",
    "hidden": "hidden states, layer by layer (DistilBERT, TinyBERT)",
    "minilm-no-values": "MiniLM without the value relation",
    "minilm": "MiniLM",
    "minilm-layers": "MiniLM, layer by layer",
    "minilmv2-12": "MiniLMv2, 12 relation heads",
    "minilmv2": "MiniLMv2, 48 relation heads",
    "minilmv2-layer5": "MiniLMv2, from layer 5",
}
"""Table A, in its order. All but the teacher have 3 layers, the same start and the same budget."""

MORE_ROWS: Mapping[str, str] = {
    "minilmv2-quarter": "MiniLMv2, a quarter of the text",
    "minilmv2": "MiniLMv2",
    "minilmv2-times4": "MiniLMv2, four times the text",
    "narrow": "3x192, MiniLMv2",
    ASSISTED: "3x192, MiniLMv2 through a 6x192 assistant",
    "taught": "MiniLMv2, four times the text, then the fine-tuned teacher's logits, for twice the epochs",
    ONE_TASK: "for one task: the tuned teacher's layers, its relations for twice the epochs, its logits for four times",
}
"""Table B: budget, a teacher assistant, and students taught each task by that task's own teacher: the general one, and
one that nothing else made."""

TAUGHT: Mapping[str, tuple[str, int]] = {LOGITS: (NONE, 1), "taught": ("minilmv2-times4", 2)}
"""Rows that learn a task from the teacher's logits: the general student they start from, and times the epochs."""

BY_TASK = frozenset({*TAUGHT, ONE_TASK})
"""Rows that there are only with a task's teacher."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the table."""

    name: str
    """Of its recipe."""
    folder: str
    """That its files lie in, anywhere below the folder of all data."""
    short: tuple[str, ...]
    """Overrides of the recipe for the budget `short`."""
    minutes: tuple[float, float]
    """A guess of the core-minutes of teacher and student in that budget, where no cell of it has been measured."""


def _shortened(epochs: int, *more: str) -> tuple[str, ...]:
    lengths = (f"models.{model}.phases.0.epochs={epochs}" for model in ("teacher", "student"))
    return (*lengths, "data.rows={validation: 200}", *more)


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(name="sst2", folder="sst2", short=_shortened(1, "data.rows.train=6000"), minutes=(2.5, 1.5)),
        Task(name="cola", folder="cola", short=_shortened(2), minutes=(4, 2)),
        Task(name="stsb", folder="stsb", short=_shortened(4), minutes=(7, 3.5)),
        Task(name="mrpc", folder="mrpc", short=_shortened(3), minutes=(11, 6)),
        Task(name="rte", folder="rte", short=_shortened(3), minutes=(10, 5)),
        Task(name="clinc150", folder="clinc150_oos", short=_shortened(3), minutes=(8, 4)),
        Task(name="squad", folder="squad_small", short=_shortened(1), minutes=(45, 22)),
    )
}
"""In the order of the table's columns."""

PROOF = (
    "export.parity.batch_sizes=[1, 7]", "export.parity.lengths=[1, 16, 64]", "export.invariance.texts=32",
    "export.invariance.compositions=2", "export.calibration.texts=64", "export.min_quality=0.98",
)  # fmt: skip
"""Bundles of the budget `short` are proved on fewer shapes and texts. Their 200 validation texts cannot tell whether
int8 keeps 99.5 %: at that floor one text keeps the token embeddings in float32."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row on one task with one seed."""

    row: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.task}-{self.row}-{self.seed}"

    def root(self, out: Path) -> Path:
        """Where its models and bundles lie, beside those of the task's other rows with that seed."""
        return out / self.task / f"seed-{self.seed}"


def cell_recipe(cell: Cell, data: Path, *, general: Path = GENERAL, budget: str = "short") -> Recipe:
    """The task's recipe with the one model that the cell is of, by the row's name, and its teacher where it has one."""
    task = TASKS[cell.task]
    overrides = [f"data.source.directory={folder_of(task, data)}"]
    if budget == "short":
        overrides += [*task.short, *PROOF]
    recipe = load_recipe(RECIPES / f"{task.name}.yaml", overrides)
    models = _models(cell, recipe.models, general)
    return recipe.model_copy(update={"models": models, "gates": {}, "candidate": f"{cell.row}/int8"})


def folder_of(task: Task, data: Path) -> Path:
    """The task's folder below `data`; `DataError` where there is none."""
    found = sorted(path for path in data.rglob(task.folder) if path.is_dir())
    if not found:
        raise DataError(f"there is no folder {task.folder} below {data}", "name the folder that holds all data sets")
    return found[0]


def _models(cell: Cell, models: Mapping[str, ModelConfig], general: Path) -> dict[str, ModelConfig]:
    teacher, student = (_changed(models[name], seed=cell.seed) for name in ("teacher", "student"))
    if cell.row == TEACHER:
        return {TEACHER: teacher}
    if cell.row == ONE_TASK:
        return {TEACHER: teacher, ONE_TASK: _for_one_task(student, teacher)}
    source, times = TAUGHT.get(cell.row, (cell.row, 1))
    student = _changed(student, start=student.start.model_copy(update={"source": str(general / source)}))
    if cell.row not in TAUGHT:
        return {cell.row: student}
    phases = [
        phase.model_copy(update={"objectives": (Logits(kind="logits"),), "epochs": times * (phase.epochs or 1)})
        for phase in student.phases
    ]
    return {TEACHER: teacher, cell.row: _changed(student, teacher=TEACHER, phases=tuple(phases))}


def _for_one_task(student: ModelConfig, teacher: ModelConfig) -> ModelConfig:
    """As `recipes/sst2.yaml` distils, the epochs in proportion to the teacher's."""
    alike, epochs = load_recipe(ONE_TASK_RECIPE).models["student"], teacher.phases[0].epochs or 1
    relations, predictions = alike.phases
    phases = tuple(
        phase.model_copy(update={"epochs": times * epochs}) for phase, times in ((relations, 2), (predictions, 4))
    )
    return _changed(student, teacher=TEACHER, start=alike.start, phases=phases)


def _changed(model: ModelConfig, **update: Any) -> ModelConfig:
    return model.model_copy(update=update)
