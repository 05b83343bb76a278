"""The log of a run, one JSON object a line; after a resume it goes on as if nothing had happened."""

import json
from pathlib import Path
from typing import Any


class Journal:
    """Appends to `path`, after dropping what an interrupted run wrote past the step it goes on from."""

    def __init__(self, path: Path, *, phase: int, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(path) if (line["phase_index"], line["step"]) < (phase, step)]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._path = path

    def write(self, phase_index: int, step: int, **values: Any) -> None:
        """One line; flushed, so that it can be watched with `tail -f`."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase_index": phase_index, "step": step, **values}) + "\n")


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
