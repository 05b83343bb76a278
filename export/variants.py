"""Which form of a graph is shipped: the one that is faster here, since fewer nodes are not always faster.

facts = choose_fastest({"whole": whole, "light": light, "raw": raw}, pad_id=0, target="vnni")
facts["chosen"]  # "light"

Graphs take turns, in another order each round, so that what disturbs the machine disturbs them alike; only ratios of
the same round are compared.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from onnxruntime import InferenceSession, SessionOptions

from artifact.errors import ExportError
from export.config import InstructionSet
from export.grid import Inputs
from export.instruction_set import detect_instruction_set
from export.quiet import quiet

BATCHES = ((1, 16, 5), (8, 32, 1))
"""Texts, tokens, and runs a round, that decide: one short text, as a request brings it, and a full queue's batch.

Of several runs the fastest counts: a neighbour that takes the core for a few milliseconds triples a short run.
"""
MIN_ROUNDS = 8
"""Taken however slow the graphs are; an interval of fewer says little."""
MAX_ROUNDS = 60
_WARM_ROUNDS = 2
_RESAMPLES = 2000
_TIMED_TEXTS = 16
_TEXT_RUNS = 2

Timings = Float[np.ndarray, "rounds batches graphs"]
"""Milliseconds of one run."""


def choose_fastest(
    graphs: Mapping[str, Path],
    *,
    pad_id: int,
    target: InstructionSet,
    max_tokens: int | None = None,
    threads: int = 1,
    seconds: float = 2.0,
) -> dict[str, Any]:
    """The name of the graph to ship, under `chosen`, and why: medians, and each one's speed-up over the first.

    The first is shipped unless another is faster beyond doubt: the 95 % interval of its speed-up, a geometric mean
    over `BATCHES`, lies above 1. Of several such, the one with the greatest. Where `target` is not this machine's
    instruction set nothing is measured, for its clock says nothing of another's. Takes about `seconds` a graph.
    """
    names = list(graphs)
    if not is_host(target):
        return {"chosen": names[0], "measured": False, "reason": f"made for {target}, this machine is {_host()}"}
    sessions = [_open(path, threads) for path in graphs.values()]
    shapes = [(texts, min(tokens, max_tokens or tokens)) for texts, tokens, _ in BATCHES]
    batches = [_batch(sessions[0], texts, tokens, pad_id) for texts, tokens in shapes]
    runs = [runs for _, _, runs in BATCHES]
    timings = time_in_turns(sessions, batches, runs, seconds=seconds * len(sessions))
    chosen, speedups = pick_fastest(names, timings)
    medians = np.median(timings, axis=0)
    return {
        "chosen": chosen,
        "measured": True,
        "threads": threads,
        "rounds": len(timings),
        "median_ms": {
            name: {f"{texts}x{tokens}": round(float(ms), 3) for (texts, tokens), ms in zip(shapes, column, strict=True)}
            for name, column in zip(names, medians.T, strict=True)
        },
        f"speedup_over_{names[0]}": speedups,
    }


def pick_fastest(names: Sequence[str], timings: Timings) -> tuple[str, dict[str, dict[str, float]]]:
    """The greatest speed-up among those surely above 1, else the first; and the speed-ups of all others over it."""
    speedups = {name: speedup(timings, place) for place, name in enumerate(names) if place}
    faster = {name: facts["ratio"] for name, facts in speedups.items() if facts["low"] > 1}
    return max(faster, key=faster.__getitem__, default=names[0]), speedups


def speedup(timings: Timings, place: int) -> dict[str, float]:
    """How many times faster the graph at `place` is than the first, with a 95 % bootstrap interval over rounds.

    Over rounds the median, over batches the geometric mean, of ratios within a round.
    """
    logs = np.log(timings[:, :, 0] / timings[:, :, place])
    picked = np.random.default_rng(0).integers(0, len(logs), (_RESAMPLES, len(logs)))
    means = np.median(logs[picked], axis=1).mean(axis=1)
    low, high = np.exp(np.quantile(means, (0.025, 0.975)))
    ratio = np.exp(np.median(logs, axis=0).mean())
    return {"ratio": round(float(ratio), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def latency_in_turns(graphs: Sequence[Path], texts: Sequence[Inputs], *, threads: int = 1) -> list[float]:
    """Median milliseconds of one text by each graph, over texts spread evenly through `texts`, one text a run."""
    places = np.linspace(0, len(texts) - 1, min(_TIMED_TEXTS, len(texts))).round().astype(int)
    sessions = [_open(path, threads) for path in graphs]
    chosen = [texts[place] for place in places]
    timings = time_in_turns(sessions, chosen, [_TEXT_RUNS] * len(chosen), seconds=0.5 * len(graphs))
    return [float(ms) for ms in np.median(timings, axis=(0, 1))]


def time_in_turns(
    sessions: Sequence[InferenceSession], batches: Sequence[Inputs], runs: Sequence[int], *, seconds: float
) -> Timings:
    """The fastest of so many `runs` by each session of each batch, round by round, for about `seconds`."""
    random = np.random.default_rng(0)
    rounds: list[Timings] = []
    begun = time.perf_counter()
    while len(rounds) < _WARM_ROUNDS + MIN_ROUNDS or (
        len(rounds) < _WARM_ROUNDS + MAX_ROUNDS and time.perf_counter() - begun < seconds
    ):
        spent = np.full((len(batches), len(sessions)), np.inf)
        for row, (batch, times) in enumerate(zip(batches, runs, strict=True)):
            for place in np.concatenate([random.permutation(len(sessions)) for _ in range(times)]):
                started = time.perf_counter()
                sessions[place].run(None, batch)
                spent[row, place] = min(spent[row, place], 1000 * (time.perf_counter() - started))
        rounds.append(spent)
    return np.stack(rounds[_WARM_ROUNDS:])


def is_host(target: InstructionSet) -> bool:
    """Whether this machine's clock says anything of `target`."""
    return _host() == target


def _host() -> InstructionSet | None:
    try:
        return detect_instruction_set()
    except ExportError:  # a machine we do not know is not the target, and that is all that is asked here
        return None


def _open(path: Path, threads: int) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # as serving has it
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # they would spin against each other
    with quiet():
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _batch(session: InferenceSession, texts: int, tokens: int, pad_id: int) -> Inputs:
    """Whole texts of one word: what the words are does not change the time."""
    values = {"input_ids": 0 if pad_id else 1, "attention_mask": 1, "token_type_ids": 0}
    return {item.name: np.full((texts, tokens), values[item.name], dtype=np.int64) for item in session.get_inputs()}
