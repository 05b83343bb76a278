"""The log of a run: one JSON object a line, and the same numbers for TensorBoard.

After a resume both go on as if nothing had happened: what was logged after the checkpoint is dropped, and TensorBoard's
file written anew, since its own way to drop what is double leaves it in the file. Both are written at once, by this
thread: the usual writer's own thread dies of a full disk with a stack trace, and nobody is told.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from distill.checkpoint import Position

_WHERE = ("phase_index", "step", "phase", "total_steps", "time")


class Journal:
    """Appends to `records/log.jsonl` and `records/tensorboard` below `directory`; with `write=False`, nowhere."""

    def __init__(self, directory: Path, position: Position, *, write: bool = True) -> None:
        self._path = directory / "records" / "log.jsonl"
        self._board: EventsWriter | None = None
        self.lines = 0  # of the log
        if not write:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines(self._path)[: position.logged]
        self.lines = len(kept)
        temporary = self._path.with_name(self._path.name + ".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self._path)
        board = directory / "records" / "tensorboard"
        shutil.rmtree(board, ignore_errors=True)
        board.mkdir()
        self._board = EventsWriter(str(board / "events"))
        for line in kept:
            self._draw(line)
        self._board.flush()

    def write(self, position: Position, phase: str, **values: Any) -> None:
        """One line; flushed, so that it can be watched with `tail -f`."""
        if self._board is None:
            return
        line = {
            "phase_index": position.phase, "step": position.step, "phase": phase, "total_steps": position.total_steps,
            "time": round(time.time(), 2), **values,
        }  # fmt: skip
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.lines += 1
        self._draw(line)
        self._board.flush()

    def close(self) -> None:
        """Of what TensorBoard reads."""
        if self._board is not None:
            self._board.close()

    def _draw(self, line: Mapping[str, Any]) -> None:
        if self._board is None:
            return
        for name, value in _scalars({name: value for name, value in line.items() if name not in _WHERE}):
            summary = scalar(f"{line['phase']}/{name}", value)
            self._board.write_event(Event(wall_time=line["time"], step=line["total_steps"], summary=summary))


class Speed:
    """Real tokens a second between two looks."""

    def __init__(self) -> None:
        self._tokens, self._since = 0, time.monotonic()

    def add(self, tokens: int) -> None:
        """Count what was read."""
        self._tokens += tokens

    def take(self) -> float:
        """Tokens a second since the last look."""
        now = time.monotonic()
        rate = self._tokens / max(now - self._since, 1e-9)
        self._tokens, self._since = 0, now
        return rate


def _scalars(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, float(value)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # the line that was being written when the process died
            break
    return lines
