"""A student and a teacher in one process, as a contestant of a measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.engine import Outputs
from serve.runtime import Runtime
from serve.trust.cascade import CascadeEngine


@dataclass(frozen=True)
class Both:
    """A cascade with what a measurement asks of an engine."""

    engine: CascadeEngine
    threads: int
    size_bytes: int

    def run(self, texts: Sequence[str], /) -> Outputs:
        """The answers of the cascade."""
        return self.engine.run(texts)


def open_both(student: Path, student_precision: str, teacher: Path, threshold: float, threads: int) -> Both:
    """Both bundles, the teacher in the first precision it has."""
    models = (Runtime.open(student, student_precision, threads=threads), Runtime.open(teacher, threads=threads))
    engine = CascadeEngine(name="cascade", student=models[0], teacher=models[1], threshold=threshold)
    return Both(engine, models[0].threads, sum(model.size_bytes for model in models))
