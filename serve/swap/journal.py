"""What the service was asked to serve since it started: one file, which all its workers read.

A worker that takes a swap writes it here; the others notice and follow, and one that replaces a dead worker follows
before it takes a request. The file names bundles and never paths, so that whoever reads it looks for them where
the service may take them from, and nowhere else.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from artifact.config import Config
from artifact.errors import ServeError
from artifact.manifest import write_json
from serve.problem import Problem

FILE = "swaps.json"
LOCK = "swaps.lock"


class Place(Config):
    """A bundle, by where it is found and what it holds."""

    bundle: str
    """Its name on the shelf."""
    digest: str


class Entry(Config):
    """One model."""

    now: Place
    before: Place
    """What `previous` means."""


class _Content(Config):
    models: dict[str, Entry] = Field(default_factory=dict)


class Journal:
    """The swaps so far by model: in the file below `home`, or without a home in memory alone."""

    def __init__(self, home: Path | None) -> None:
        self._home = home
        self._memory: Mapping[str, Entry] = {}

    @property
    def stamp(self) -> tuple[int, int]:
        """Another value once the file was written again."""
        try:
            found = (self._home / FILE).stat() if self._home else None
        except OSError:  # none yet; what else it may be, `read` tells
            found = None
        return (found.st_ino, found.st_mtime_ns) if found else (0, 0)

    def read(self) -> Mapping[str, Entry]:
        """`ServeError` when the file is damaged."""
        if self._home is None:
            return self._memory
        path = self._home / FILE
        try:
            return _Content.model_validate(json.loads(path.read_bytes())).models
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, ValidationError):
            raise ServeError(
                f"{path} is no list of swaps", "remove it: the service then starts as configured"
            ) from None

    def write(self, model: str, entry: Entry) -> None:
        """Record that `model` is to be served as `entry` says; `ArtifactError` when that cannot be written."""
        models = {**self.read(), model: entry}
        if self._home is None:
            self._memory = models
        else:
            write_json(self._home / FILE, _Content(models=models).model_dump(mode="json"))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For one swap at a time, of all workers; `Problem` 409 while another has it."""
        if self._home is None:
            yield
            return
        with (self._home / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy() from None
            yield


def busy() -> Problem:
    """What a second swap hears while one runs."""
    return Problem(409, "Conflict", "another swap is running", {"Retry-After": "1"})
