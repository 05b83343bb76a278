"""What of a recipe says which rows stand in the report beside its models in their precisions."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from artifact.config import Config

PYTORCH = "pytorch"
CASCADE = "cascade"
BASELINE = "baseline"

PyTorchForm = Literal["sdpa", "eager", "compiled"]
"""How PyTorch runs the first model: as Transformers does by default, with attention longhand, by `torch.compile`."""
Floor = Literal["bag-of-words", "static-embeddings"]
"""What any encoder has to clear: word counts, and the mean of the first model's input embeddings; both with a linear
classifier on top."""
FLOORS: tuple[Floor, ...] = ("bag-of-words", "static-embeddings")


class RowsConfig(Config):
    """Rows that every candidate should be seen beside."""

    pytorch: tuple[PyTorchForm, ...] = ("sdpa",)
    """`sdpa` is the row `<model>/pytorch`, the others `<model>/pytorch-eager` and `<model>/pytorch-compiled`."""
    floors: tuple[Floor, ...] = ("bag-of-words",)
    """Quality floors, which are measured too."""

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


def pytorch_row(model: str, form: PyTorchForm) -> str:
    """`teacher/pytorch`, `teacher/pytorch-eager` or `teacher/pytorch-compiled`."""
    return f"{model}/{PYTORCH}" if form == "sdpa" else f"{model}/{PYTORCH}-{form}"


def is_optional(row: str) -> bool:
    """Whether a report may lack the row where the machine lacks what it needs: PyTorch's forms beside its usual one."""
    return row.partition("/")[2].startswith(f"{PYTORCH}-")


def is_served(row: str) -> bool:
    """Whether the row has a service: the models in their precisions, and the first one in PyTorch's usual form."""
    return "/" in row and not is_optional(row)


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
