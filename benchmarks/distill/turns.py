"""Contestants take turns, round by round and in random order, so that what else the machine does falls on all alike.

Only seconds and counts are kept, raw: what is said of them is computed where it is shown (`page.py`).
"""

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact.manifest import write_json
from artifact.progress import progress
from pipeline.machine import fingerprint, load_average
from pipeline.results import Interval
from pipeline.statistics import median_of_rounds

RESULTS = Path(__file__).parent / "results"
ENVIRONMENT = {
    "GOMP_SPINCOUNT": "10000",
    "OMP_NUM_THREADS": "2",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_OFFLINE": "1",
}
"""Of this program and of its children: two threads, which wait for work as those of `understudy` do."""

Turn = Callable[[], float]
"""Does something once and returns its seconds."""


@dataclass(frozen=True)
class Contestant:
    """Something that takes its turn in each of the first `rounds` rounds."""

    name: str
    turn: Turn
    rounds: int


def prepare() -> None:
    """Set the environment, where the user has not; before anything loads PyTorch."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def take_turns(contestants: Sequence[Contestant], about: str, *, warm_up: int = 1) -> dict[str, list[float]]:
    """The turns of each contestant, by round; `warm_up` turns of each come before and are thrown away."""
    order = random.Random(1)  # noqa: S311 - no secret
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    rounds = max(contestant.rounds for contestant in contestants)
    with progress(about, rounds + warm_up) as advance:
        for number in range(-warm_up, rounds):
            present = [contestant for contestant in contestants if number < contestant.rounds]
            for contestant in order.sample(present, len(present)):
                seconds = contestant.turn()
                if number >= 0:
                    taken[contestant.name].append(seconds)
            advance(1, "")
    return taken


def seconds_of(work: Callable[[], Any], wait: Callable[[], Any] = lambda: None) -> float:
    """How long `work` takes, with what it has put on a device; `wait` waits for that."""
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Median over rounds of the ratio within a round, over the rounds that both took part in."""
    pairs = zip(above, below, strict=False)
    return median_of_rounds([first / second for first, second in pairs], seed=1)


def write(name: str, found: Mapping[str, Any], *, results: Path | None = None) -> None:
    """`results/NAME.json`: what was found, and the machine it was found on."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    about = {"machine": fingerprint(), "load_average": load_average(), "threads": threads}
    results = results or RESULTS
    results.mkdir(parents=True, exist_ok=True)
    write_json(results / f"{name}.json", {**about, **found})


def read(name: str, *, results: Path = RESULTS) -> dict[str, Any] | None:
    """What `write` wrote; None where nothing was measured yet."""
    file = results / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
