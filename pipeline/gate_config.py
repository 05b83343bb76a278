"""What of a recipe says yes or no."""

from typing import Literal

from pydantic import Field, model_validator

from artifact.config import Config

Metric = Literal["quality", "latency_p50", "throughput", "size"]


class Gate(Config):
    """One condition on the candidate row against the reference row of the report."""

    metric: Metric
    reference: str
    """Row it is compared with, such as `teacher/float32` or `teacher/pytorch`."""
    min_ratio: float | None = Field(default=None, gt=0)
    """Pass when candidate / reference is surely at least this (speed counts as reference / candidate time)."""
    max_ratio: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_bound(self) -> "Gate":
        if (self.min_ratio is None) == (self.max_ratio is None):
            raise ValueError("give either min_ratio or max_ratio")
        return self
