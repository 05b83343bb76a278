"""Progress with time left, on stderr: a bar on a terminal, a line now and then in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 15.0

Advance = Callable[[int, str], None]
"""Call with how many units were done since the last call, and a short note to show beside them."""

console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)


def say(line: str) -> None:
    """One line for a person, on stderr; stdout is for results."""
    console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show work of `total` units, of which `done` were finished by an earlier run."""
    with _bar(description, total, done) if sys.stderr.isatty() else _lines(description, total, done) as advance:
        yield advance


@contextlib.contextmanager
def _bar(description: str, total: int, done: int) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console, transient=True) as bars:
        task = bars.add_task(description, total=total, completed=done, note="")
        yield lambda units, note: bars.update(task, advance=units, note=note)


@contextlib.contextmanager
def _lines(description: str, total: int, done: int) -> Iterator[Advance]:
    begun = last = time.monotonic()
    now_done = done

    def advance(units: int, note: str) -> None:
        nonlocal last, now_done
        now_done += units
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            left = (now - begun) / max(now_done - done, 1) * (total - now_done)
            say(f"  {description} {now_done}/{total}, {left:.0f} s left{', ' + note if note else ''}")

    yield advance
