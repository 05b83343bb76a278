"""The log of a run: one JSON object a line, and the same numbers for TensorBoard.

After a resume both go on as if nothing had happened: what was logged past the step it goes on from is dropped.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from distill.checkpoint import Position


class Journal:
    """Appends to `records/log.jsonl` and `records/tensorboard` below `directory`; with `write=False`, nowhere."""

    def __init__(self, directory: Path, position: Position, *, write: bool = True) -> None:
        self._path = directory / "records" / "log.jsonl"
        self._board: SummaryWriter | None = None
        if not write:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        now = (position.phase, position.step)
        kept = [line for line in _lines(self._path) if (line["phase_index"], line["step"]) < now]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        board = str(directory / "records" / "tensorboard")
        self._board = SummaryWriter(board, purge_step=position.total_steps or None, write_to_disk=True)

    def write(self, position: Position, phase: str, **values: Any) -> None:
        """One line; flushed, so that it can be watched with `tail -f`."""
        if self._board is None:
            return
        line = {"phase_index": position.phase, "step": position.step, "phase": phase, **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in _scalars(values):
            self._board.add_scalar(f"{phase}/{name}", value, position.total_steps)

    def close(self) -> None:
        """Flush what TensorBoard reads."""
        if self._board is not None:
            self._board.close()


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
