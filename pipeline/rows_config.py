"""What of a recipe says which rows stand in the report beside its models in their precisions."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from artifact.config import Config
from artifact.dataset import Task

PYTORCH = "pytorch"
CASCADE = "cascade"
BASELINE = "baseline"

PyTorchForm = Literal["sdpa", "eager", "compiled"]
"""How PyTorch runs the first model: as Transformers does by default, with attention longhand, by `torch.compile`."""
Floor = Literal["bag-of-words", "static-embeddings", "tf-idf"]
"""What any encoder has to clear: word counts, and the mean of the first model's input embeddings, both with a linear
classifier on top; to choose a response, the cosine of word counts."""
FLOORS: tuple[Floor, ...] = ("bag-of-words", "static-embeddings", "tf-idf")
FLOORS_OF: Mapping[Task, tuple[Floor, ...]] = {
    "classification": ("bag-of-words", "static-embeddings"),
    "response-selection": ("tf-idf",),
}
"""Floors that there are for a task, none for those not named; the first is measured where a recipe does not say."""


class RowsConfig(Config):
    """Rows that every candidate should be seen beside."""

    pytorch: tuple[PyTorchForm, ...] = ("sdpa",)
    """`sdpa` is the row `<model>/pytorch`, the others `<model>/pytorch-eager` and `<model>/pytorch-compiled`."""
    floors: tuple[Floor, ...] | None = None
    """Quality floors, which are measured too. Left out: `bag-of-words` for classification, `tf-idf` for response
    selection, none for other tasks, which have none."""

    @model_validator(mode="after")
    def _check_forms(self) -> "RowsConfig":
        if "sdpa" not in self.pytorch:
            raise ValueError("pytorch lacks sdpa, whose row all speed-ups are to")
        return self


class CascadeConfig(Config):
    """The row `cascade`; its threshold is calibrated on the validation split."""

    student: str
    """Row that answers, such as `student/int8`."""
    teacher: str
    """Row that is asked when it is unsure, such as `teacher/float32`."""
    agreement: float = Field(default=0.99, gt=0, lt=1)
    """With what the teacher alone would say, at least, at 95 % confidence."""


def floors_of(rows: RowsConfig, task: Task) -> tuple[Floor, ...]:
    """The floors of a recipe for data of that task, each once."""
    return tuple(dict.fromkeys(FLOORS_OF.get(task, ())[:1] if rows.floors is None else rows.floors))


def task_faults(rows: RowsConfig, cascade: CascadeConfig | None, task: Task) -> list[str]:
    """What rows a task does not have, a line each."""
    there = FLOORS_OF.get(task, ())
    known = f"expected {', '.join(there)}" if there else "which has none: leave it out"
    faults = [f"rows.floors has {floor!r}, for {task} {known}" for floor in rows.floors or () if floor not in there]
    if cascade is not None and task != "classification":
        faults.append(f"cascade needs classification, data.task is {task!r}: leave it out")
    return faults


def pytorch_row(model: str, form: PyTorchForm) -> str:
    """`teacher/pytorch`, `teacher/pytorch-eager` or `teacher/pytorch-compiled`."""
    return f"{model}/{PYTORCH}" if form == "sdpa" else f"{model}/{PYTORCH}-{form}"


def is_optional(row: str) -> bool:
    """Whether a report may lack the row where the machine lacks what it needs: PyTorch's forms beside its usual one."""
    return row.partition("/")[2].startswith(f"{PYTORCH}-")


def is_served(row: str) -> bool:
    """Whether the row has a service: models in their precisions, the cascade, the baseline, PyTorch's usual form."""
    return row in (CASCADE, BASELINE) or ("/" in row and not is_optional(row))


def cascade_faults(cascade: CascadeConfig | None, exported: Sequence[str]) -> list[str]:
    """What is wrong with the two rows a cascade names, a line each."""
    if cascade is None:
        return []
    sides = {"student": cascade.student, "teacher": cascade.teacher}
    faults = [
        f"cascade.{side} is {row!r}, expected one of {', '.join(exported)}"
        for side, row in sides.items()
        if row not in exported
    ]
    if cascade.student == cascade.teacher:
        faults.append(f"cascade.student and cascade.teacher are both {cascade.student!r}")
    return faults
