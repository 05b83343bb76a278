"""What of a recipe says which rows stand in the report beside its models in their precisions."""

from typing import Literal

from pydantic import Field

from artifact.config import Config

PyTorchForm = Literal["sdpa", "eager", "compiled"]
"""How PyTorch runs the first model: as Transformers does by default, with attention longhand, by `torch.compile`."""
Floor = Literal["bag-of-words", "static-embeddings"]
"""What any encoder has to clear: word counts, and the mean of the first model's input embeddings; both with a linear
classifier on top."""


class RowsConfig(Config):
    """Rows that every candidate should be seen beside."""

    pytorch: tuple[PyTorchForm, ...] = ("sdpa",)
    """`sdpa` is the row `<model>/pytorch`, the others `<model>/pytorch-eager` and `<model>/pytorch-compiled`."""
    floors: tuple[Floor, ...] = ("bag-of-words",)
    """Quality floors, which are measured too."""


class CascadeConfig(Config):
    """The row `cascade`; its threshold is calibrated on the validation split."""

    student: str
    """Row that answers, such as `student/int8`."""
    teacher: str
    """Row that is asked when it is unsure, such as `teacher/float32`."""
    agreement: float = Field(default=0.99, gt=0, lt=1)
    """With what the teacher alone would say, at least, at 95 % confidence."""
