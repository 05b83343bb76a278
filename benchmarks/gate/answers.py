"""Real answers with a known loss: those of a bundle on its test split, and the same with some of them made wrong.

A run draws examples with replacement, so the loss is true of what it draws from, and of the run only by chance.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import read_split
from artifact.errors import BenchError
from artifact.progress import progress, say
from benchmarks.gate.rules import run_quality_gate
from benchmarks.gate.simulate import EXAMPLES, Rights
from serve.runtime import Runtime

LOSS = 0.01
CHUNK = 256


def read_answers(bundle: Path, data: Path, threads: int) -> tuple[dict[str, Rights], str]:
    """Whether each precision of the bundle is right on each test example; the digest of the bundle.

    Raises `BenchError` when there are fewer than two precisions to compare.
    """
    test = read_split(data, "test")
    truths, texts = np.array([example.label for example in test]), [example.text for example in test]
    runtimes = [Runtime.open(bundle, threads=threads)]
    others = [name for name in runtimes[0].bundle.info.precisions if not runtimes[0].name.endswith(f"/{name}")]
    if not others:
        raise BenchError(f"{bundle} has one precision only, so there are no discordant answers", "export int8 too")
    runtimes.append(Runtime.open(bundle, others[0], threads=threads))
    rights = {}
    with progress("answer", total=len(runtimes) * len(texts)) as advance:
        for runtime in runtimes:
            answers: list[int] = []
            for start in range(0, len(texts), CHUNK):
                answers += runtime.run(texts[start : start + CHUNK]).logits.argmax(axis=1).tolist()
                advance(len(texts[start : start + CHUNK]), runtime.name)
            rights[runtime.name.partition("/")[2]] = np.asarray(np.array(answers) == truths, np.bool_)
    return rights, runtimes[0].digest


def run_answers(rights: Mapping[str, Rights], runs: int) -> dict[str, Any]:
    """The verdict of every run, by what the candidate's answers are, and how those differ from the reference's."""
    (first, reference), (second, other) = rights.items()
    equal = balance(reference, other, np.random.default_rng(1))
    candidates = {
        "the same answers": reference,
        f"{first} with {LOSS:.0%} of all answers made wrong": spoil(reference, LOSS, np.random.default_rng(2)),
        f"{second}, made as accurate as {first}": equal,
        f"{second}, made so, and {LOSS:.0%} made wrong": spoil(equal, LOSS, np.random.default_rng(3)),
    }
    found = {}
    for number, (name, candidate) in enumerate(candidates.items()):
        draws = [np.random.default_rng([number, run]).integers(len(reference), size=EXAMPLES) for run in range(runs)]
        outcomes = [asdict(run_quality_gate(reference[draw], candidate[draw])) for draw in draws]
        found[name] = {
            "loss": float(reference.mean() - candidate.mean()),
            "discordance": float((reference != candidate).mean()),
            "outcomes": outcomes,
        }
        say(f"  {name}: {runs} runs")
    return found


def spoil(right: Rights, share: float, random: np.random.Generator) -> Rights:
    """`right` with so large a share of all examples, drawn from the right ones, made wrong."""
    spoiled = right.copy()
    spoiled[random.choice(np.flatnonzero(right), round(share * len(right)), replace=False)] = False
    return spoiled


def balance(reference: Rights, candidate: Rights, random: np.random.Generator) -> Rights:
    """`candidate` as accurate as `reference`: of the examples that only the better one gets right, some are mended.

    What is drawn from that cell, as many as it is larger than the other, is answered as the reference answers it.
    """
    lost, won = np.flatnonzero(reference & ~candidate), np.flatnonzero(candidate & ~reference)
    larger = lost if len(lost) > len(won) else won
    mended = random.choice(larger, abs(len(lost) - len(won)), replace=False)
    balanced = candidate.copy()
    balanced[mended] = reference[mended]
    return balanced
