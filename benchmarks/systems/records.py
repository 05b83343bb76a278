"""What the benchmark of each system leaves for the page of all: `docs/results/systems/NAME.json`."""

from pathlib import Path

from pydantic import Field, ValidationError

from artifact.config import Config
from artifact.errors import BenchError

FOLDER = Path("docs/results/systems")
ORDER = ("minilm", "minilmv2", "xtremedistil", "noesis", "ood", "gigabert")
"""The six, as the page has them; a file may speak for two."""


class Figure(Config):
    """One row: a value with its 95 % interval where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


class System(Config):
    """What was measured of one system."""

    system: str
    """Its name, and the paper's."""
    headline: str
    """The best figure first, in a sentence or two."""
    metric: str = ""
    """What the rows are of, with the unit."""
    rows: tuple[Figure, ...] = Field(min_length=1)
    paper: tuple[str, ...] = ()
    """The paper's own figures, and what differs."""
    failures: tuple[str, ...] = ()
    """What fell short, or was not measured."""
    commands: tuple[str, ...] = ()
    """What makes it again."""
    page: str = ""
    """Name of its own page beside the overview."""
    hours: float | None = None
    """Of training, all runs together."""
    hardware: str = ""
    manifests: dict[str, str] = {}
    """Artefact to digest."""


def read_systems(folder: Path) -> dict[str, System]:
    """All files of `folder` by name, in the page's order; raises `BenchError` for one of another form."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = System.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BenchError(f"{path} is no system's record: {str(error).splitlines()[1:3]}") from None
    if not found:
        raise BenchError(f"there is no record in {folder}", "run a system's benchmark first, such as benchmarks.noesis")
    known = [name for name in ORDER if name in found]
    return {name: found[name] for name in [*known, *(name for name in found if name not in known)]}
