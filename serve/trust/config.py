"""The parts of the service's file on how far the student is trusted."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from artifact.config import Config


class CascadeConfig(Config):
    """A student that answers when it is sure, and a teacher that answers the rest."""

    student: str
    """`model/precision` of a served classifier."""
    teacher: str
    """`model/precision` of another, of the same labels."""
    calibration: Path | None = None
    """The file that `understudy calibrate` wrote for these two; relative to the folder of the service's file."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Instead of a calibration: the student answers alone where its confidence is above it."""
    degrade: bool = False
    """Whether the student's unsure answer is given where the teacher's queue is full, instead of 429."""

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if (self.calibration is None) == (self.threshold is None):
            raise ValueError("give either a calibration or a threshold")
        return self

    def below(self, folder: Path) -> "CascadeConfig":
        """The same with its file found from `folder`."""
        return self.model_copy(update={"calibration": self.calibration and folder / self.calibration})


class ShadowConfig(Config):
    """A share of the answered texts that the teacher is asked too, when nobody waits."""

    student: str
    """`model/precision` of a served classifier, or a cascade."""
    teacher: str
    """`model/precision` of another, of the same labels."""
    share: float = Field(default=0.05, gt=0, le=1)
    """Of the student's texts."""
    window: int = Field(default=1000, gt=0)
    """Texts that the gauges look back on."""
    calibration: Path | None = None
    """A calibration whose confidences are the reference of the drift; left out, the first window is."""

    def below(self, folder: Path) -> "ShadowConfig":
        """The same with its file found from `folder`."""
        return self.model_copy(update={"calibration": self.calibration and folder / self.calibration})
