"""What do reading, logging and checkpoints cost a run of the real loop, beside its steps?

    python -m benchmarks.distill.overhead CORPUS.jsonl.gz

A run of the loop is timed from inside. Making a window of texts is charged in full, as if nothing went on beside it,
and a log and a checkpoint as often as a run writes them. Evaluations are not counted; they are asked for.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.distill import turns
from benchmarks.distill.ragged import MAX_TOKENS, corpus_config

STEPS, STEPS_PER_CHECKPOINT = 60, 500
CHECKPOINTS_MEASURED = 6


def main() -> None:
    """Measure, and write `results/overhead.json`."""
    turns.prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="JSON lines with a field `text`, .gz too")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    turns.write("overhead", measure(options.corpus, options.steps))


def measure(corpus: Path, steps: int, teacher: str | None = None) -> dict[str, Any]:
    """Raw seconds of every part of the run."""
    from benchmarks.distill.models import TEACHER
    from distill import loop, stream
    from distill.sources import locate

    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        run = _run(Path(name), corpus, steps, locate(teacher or TEACHER))
        leg = loop._Leg  # noqa: SLF001 - where the time goes is its own business
        places: list[tuple[Any, str, str]] = [
            (loop, "take_step", "step"), (leg, "_log", "log"), (leg, "_save", "checkpoint"),
            (leg, "_evaluate", "evaluate"),
        ]  # fmt: skip
        for owner, attribute, part in places:
            stack.enter_context(patch.object(owner, attribute, _timed(getattr(owner, attribute), part, taken)))
        stack.enter_context(patch.object(leg, "_feed", _timed_steps(leg._feed, "wait", taken)))  # noqa: SLF001
        windows = _timed_steps(stream.Stream._windows, "window", taken)  # noqa: SLF001
        stack.enter_context(patch.object(stream.Stream, "_windows", windows))
        began = time.perf_counter()
        loop.train(run)
        whole = time.perf_counter() - began
    return {
        "seconds": taken, "whole_seconds": whole, "steps": steps,
        "texts_per_step": run.phases[0].batch_size, "window_texts": stream.WINDOW_TEXTS,
        "steps_between_logs": loop.STEPS_BETWEEN_LOGS, "steps_between_checkpoints": STEPS_PER_CHECKPOINT,
    }  # fmt: skip


def _run(directory: Path, corpus: Path, steps: int, teacher: Path) -> Any:
    from artifact.dataset import Example, write_dataset
    from distill.build import build_run
    from distill.config import ModelConfig

    data = directory / "data"
    data.mkdir()
    rows = [Example(text=f"text number {index}", label=index % 2) for index in range(8)]
    write_dataset(data, ("one", "two"), {"train": rows, "validation": rows, "test": rows})
    config = ModelConfig.model_validate({
        "start": {"kind": "layers", "layers": [0, 2, 5]}, "teacher": "teacher", "max_tokens": MAX_TOKENS,
        "checkpoint_every_steps": max(1, steps // CHECKPOINTS_MEASURED),
        "phases": [{
            "name": "relations", "objectives": [{"kind": "relations", "relation_heads": 48}], "corpus": "text",
            "steps": steps, "learning_rate": 1e-4, "batch_size": 32, "dropout": 0.0,
        }],
    })  # fmt: skip
    out = directory / "out"
    corpora = {"text": corpus_config(corpus)}
    return build_run(config, data=data, start=teacher, teacher=teacher, corpora=corpora, out=out).run


def _timed(work: Callable[..., Any], part: str, taken: dict[str, list[float]]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            taken.setdefault(part, []).append(time.perf_counter() - began)

    return timed


def _timed_steps(iterate: Callable[..., Iterator[Any]], part: str, taken: dict[str, list[float]]) -> Any:
    """The same, for each item of what `iterate` returns."""

    def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
        items = iterate(*arguments, **named)
        following = _timed(lambda: next(items, None), part, taken)
        while (item := following()) is not None:
            yield item

    return timed


if __name__ == "__main__":
    main()
