"""What of a recipe gives its bundles a gate: `understudy guard` as a part of the export."""

from collections.abc import Iterator

from pydantic import Field

from artifact.config import Config
from artifact.dataset import DETECTION, Task
from export.config import Weighting
from pipeline.data_config import DataConfig
from pipeline.data_contrast import Contrast

_GUARDED: tuple[Task, ...] = (DETECTION, "classification", "regression", "token-classification")


class RecipeGuard(Config):
    """A gate for every bundle, fitted on the training texts, with its threshold from the validation texts."""

    quantile: float = Field(default=0.95, gt=0, lt=1)
    """The share of validation texts that pass."""
    most_texts: int = Field(default=8000, gt=0)
    """Of a larger data set so many are drawn; three in four are fitted."""
    weighting: Weighting = "equal"
    """Of the layers' distances; `svm` is Xu et al.'s."""


def guard_faults(data: DataConfig) -> Iterator[str]:
    """Why the texts of `data` are not what a gate is fitted on, a line each."""
    if data.task not in _GUARDED or data.fields.pair is not None:
        yield f"guard is fitted on lone texts, which data for {data.task} has not: leave it out"
    elif isinstance(data.source, Contrast):
        yield "guard is fitted on texts of the domain alone, and source kind contrast has others too: leave it out"
