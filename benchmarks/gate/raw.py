"""Turns on disk, one line each the moment it is over; runs that were finished are not measured again."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from artifact.errors import BenchError


@dataclass(frozen=True)
class Run:
    """All turns of one run of a gate."""

    facts: Mapping[str, Any]
    """Seconds it took, load average before it."""
    single_ms: dict[str, list[list[float]]] = field(default_factory=dict)
    """Latencies by contestant, round and call."""


def read_runs(path: Path, setup: Mapping[str, Any]) -> list[Run]:
    """The finished runs in the file; none where there is no file.

    Raises `BenchError` when they are of another setup.
    """
    lines = [json.loads(line) for line in _whole_lines(path)]
    if lines and lines[0] != {"setup": setup}:
        raise BenchError(f"{path} holds runs of another setup", "name another folder with --raw, or delete the file")
    runs: list[Run] = []
    turns: dict[str, list[list[float]]] = {}
    for line in lines[1:]:
        if "begun" in line:
            turns = {}
        elif "ended" in line:
            runs.append(Run(line["ended"], turns))
        else:
            turns.setdefault(line["row"], []).append(line["single_ms"])
    return runs


class Writer:
    """Adds to a file what comes, line by line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def begin(self, number: int) -> None:
        """Run `number` begins; what an interrupted one left before it does not count."""
        self._write({"begun": number})

    def turn(self, row: str, index: int, single_ms: tuple[float, ...]) -> None:
        """One turn of `row`, in round `index`."""
        self._write({"row": row, "round": index, "single_ms": [round(ms, 4) for ms in single_ms]})

    def end(self, facts: Mapping[str, Any]) -> None:
        """The run is complete."""
        self._write({"ended": dict(facts)})

    def setup(self, setup: Mapping[str, Any]) -> None:
        """What all runs of the file are of; its first line."""
        self._write({"setup": dict(setup)})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


@contextlib.contextmanager
def open_writer(path: Path, setup: Mapping[str, Any]) -> Iterator[Writer]:
    """To add runs to the file, which is begun when there is none; `BenchError` while another command writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(f"{path} is being written", "wait, or name another folder with --raw") from None
        whole = _whole_lines(path)
        path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        writer = Writer(file)
        if not whole:
            writer.setup(setup)
        yield writer


def _whole_lines(path: Path) -> list[str]:
    """Lines that end; the last one does not where a write was cut off."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
