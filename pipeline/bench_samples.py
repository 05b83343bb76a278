"""Samples of the benchmark: kept on disk the moment they are there, then as records and medians."""

import contextlib
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from artifact.errors import BenchError
from artifact.progress import say
from pipeline.results import SpeedRow
from serve.latency.in_process import Measured
from serve.latency.over_http import MeasuredTarget
from serve.latency.plan import Round


@contextlib.contextmanager
def keeping(path: Path) -> Iterator[Callable[[str], Callable[[str, object], None]]]:
    """A file that takes each turn's samples as one line, at once; what is in it survives whatever comes after.

    It is given where they were taken, such as `http`, then the row and a dataclass that holds them. Where the
    measurement fails, the error says where the file is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:

        def keep(where: str, name: str, turn: object) -> None:
            file.write(json.dumps({"where": where, "row": name, **vars(turn)}) + "\n")
            file.flush()

        try:
            yield lambda where: partial(keep, where)
        except BenchError as error:
            if not file.tell():
                raise
            raise BenchError(error.problem, "\n  ".join(filter(None, (error.hint, _kept(path))))) from None
        except KeyboardInterrupt:
            if file.tell():
                say(f"  {_kept(path)}")
            raise


def speed_row(rounds: Sequence[Round], *, threads: int, size_bytes: int = 0, peak_memory_bytes: int = 0) -> SpeedRow:
    """The record of a contestant's turns; of what was not asked in a round there is none of that round."""
    lengths = rounds[0].by_length_ms if rounds else {}
    return SpeedRow(
        single_ms=tuple(turn.single_ms for turn in rounds),
        batch_texts_per_second=tuple(turn.texts_per_second for turn in rounds if turn.batch_texts),
        multi_ms=tuple(turn.multi_ms for turn in rounds if turn.multi_ms),
        by_length_ms={
            tokens: tuple(turn.by_length_ms[tokens] for turn in rounds if tokens in turn.by_length_ms)
            for tokens in lengths
        },
        size_bytes=size_bytes,
        peak_memory_bytes=peak_memory_bytes,
        threads=threads,
    )


def summarize(row: Measured | MeasuredTarget) -> dict[str, Any]:
    """Medians over all samples, and how the row got warm."""
    speed = speed_row(row.rounds, threads=1)
    medians = {"p50_ms": _median(speed.single_ms)}
    if speed.multi_ms:
        medians["multi_p50_ms"] = _median(speed.multi_ms)
    if speed.batch_texts_per_second:
        medians["texts_per_second"] = round(statistics.median(speed.batch_texts_per_second), 2)
    return {
        **medians,
        "first_ms": round(row.warm_up.first_ms, 3),
        "warm_up_calls": row.warm_up.calls,
        "flat": row.warm_up.flat,
    }


def _median(rounds: Sequence[Sequence[float]]) -> float:
    return round(statistics.median(chain.from_iterable(rounds)), 4)


def _kept(path: Path) -> str:
    return f"the samples so far are in {path}, until the next run"
