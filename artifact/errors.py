"""The exception tree: everything a user can cause, each with what to do next.

    UnderstudyError
    ├── ConfigError        a recipe, override or option that does not parse
    ├── DataError          a data set that is missing, empty, or does not fit its labels
    ├── ModelError         a teacher or student that cannot be loaded, captured or built
    ├── TrainingError      a run that collapsed, diverged or ran out of room
    ├── ArtifactError      a directory that is not the artefact it should be
    │   └── RecipeMismatchError  an output made from another recipe
    ├── ExportError        a graph that could not be exported, fused or quantized
    │   └── ParityError    a graph that does not answer as its source model does
    ├── BenchError         a measurement that could not be taken
    └── ServeError         a service that could not be built or started

Whatever else is raised is a bug of ours and keeps its stack trace.
"""


class UnderstudyError(Exception):
    """One clear fault: `problem` says what is wrong and where, `hint` what to do next (either may span lines).

    The command line prints both, without a stack trace, and exits with 2.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.hint}" if self.hint else self.problem


class ConfigError(UnderstudyError):
    """A recipe, override or option that does not parse; lists every fault found, with its path."""


class DataError(UnderstudyError):
    """A data set that is missing, empty, or does not fit its labels."""


class ModelError(UnderstudyError):
    """A teacher or student that cannot be loaded, captured or built."""


class TrainingError(UnderstudyError):
    """A run that collapsed, diverged or ran out of room; the last good checkpoint is kept."""


class ArtifactError(UnderstudyError):
    """A directory that is not the artefact it should be: absent, unsealed, of another kind, or changed."""


class RecipeMismatchError(ArtifactError):
    """An output directory that already holds something made from another recipe."""


class ExportError(UnderstudyError):
    """A graph that could not be exported, fused or quantized."""


class ParityError(ExportError):
    """A graph whose answers differ from its source model's by more than the stated bound."""


class BenchError(UnderstudyError):
    """A measurement that could not be taken; the raw samples taken so far are kept."""


class ServeError(UnderstudyError):
    """A service that could not be packaged or started."""
