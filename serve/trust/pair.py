"""Which two models can be compared text by text."""

from collections.abc import Sequence
from typing import Protocol

from artifact.errors import ServeError
from serve.engine import Outputs, Problem, Text


class Classifier(Protocol):
    """What has to be known of a model."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of its columns."""

    @property
    def problem(self) -> Problem | None:
        """What they are."""


class Measured(Classifier, Protocol):
    """A model whose answers are compared; `serve.runtime.Runtime` is one."""

    @property
    def name(self) -> str:
        """`model/precision`."""

    @property
    def digest(self) -> str:
        """Of its bundle."""

    def run(self, texts: Sequence[Text]) -> Outputs:
        """Answers to `texts`, in their order."""


def check_pair(student_name: str, student: Classifier, teacher_name: str, teacher: Classifier) -> None:
    """`ServeError` unless both name one of the same labels, listed in the same order."""
    for name, model in ((student_name, student), (teacher_name, teacher)):
        if model.problem != "single-label" or len(model.labels) < 2:
            raise ServeError(f"{name} does not choose one of several labels", "only such classifiers are compared")
    if list(student.labels) != list(teacher.labels):
        found = next((pair for pair in zip(student.labels, teacher.labels, strict=False) if pair[0] != pair[1]), None)
        first = f", first {found[0]!r} and {found[1]!r}" if found else ""
        counts = f"{len(student.labels)} and {len(teacher.labels)}"
        problem = f"{student_name} and {teacher_name} have different labels ({counts}{first})"
        raise ServeError(problem, "distil the student from that teacher, or keep the order of the labels")
