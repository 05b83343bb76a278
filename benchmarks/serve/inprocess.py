"""The same weights without a service, each in a process of its own that works when it is told to.

    with opened("ours", bundle, threads=2) as worker:
        worker.ask(do="single", texts=[...])["single_ms"]

As a program: `python -m benchmarks.serve.inprocess ours|plain BUNDLE THREADS`, questions and answers as lines of JSON.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from artifact.errors import BenchError
from benchmarks.serve.contestants import ROOT
from serve.latency.contestant import child_environment

Run = Callable[[Sequence[str]], object]

SHAPES = ((1024, 1024, 1024), (512, 384, 1536), (512, 1536, 384))
"""Products of matrices, rows x inner x columns: a large square one, and those of an encoder 384 wide."""
PRODUCTS = 40


class Worker:
    """Our end of one process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, **question: Any) -> dict[str, Any]:
        """Its answer; `BenchError` when it ends instead."""
        stdin, stdout = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
        line = stdout.readline()
        if not line:
            raise BenchError(f"the process that works without a service ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def opened(who: str, bundle: Path, threads: int) -> Iterator[Worker]:
    """A process with the bundle's float32 graph open: by our runtime (`ours`), or by plain ONNX Runtime (`plain`)."""
    command = [sys.executable, "-m", "benchmarks.serve.inprocess", who, str(bundle.resolve()), str(threads)]
    environment = child_environment(threads) | {"PEER_BUNDLE": str(bundle.resolve()), "PEER_THREADS": str(threads)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        try:
            yield Worker(process)
        finally:
            cast("IO[str]", process.stdin).close()


def sort_and_cut(texts: Sequence[str], tokens: Sequence[int], batch_size: int) -> list[list[str]]:
    """Batches of like lengths."""
    order = sorted(range(len(texts)), key=lambda place: tokens[place])
    return [[texts[place] for place in order[start : start + batch_size]] for start in range(0, len(order), batch_size)]


def count_flops(tokens: Sequence[int], config: dict[str, Any]) -> float:
    """Floating-point operations of an encoder's matrix products over texts of so many tokens, none on padding.

    A token's four projections and two layers of the feed-forward part, and two products of attention with all tokens.
    """
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    lengths = np.asarray(tokens, float)
    dense = lengths * (4 * hidden**2 + 2 * hidden * inner)
    attention = 2 * lengths**2 * hidden
    return float(2 * layers * (dense + attention).sum())


def measure_matrix_rate() -> dict[str, float]:
    """GFLOP/s of float32 products by numpy on all its threads, by shape; the best of several series."""
    random, rates = np.random.default_rng(0), {}
    for rows, inner, columns in SHAPES:
        left = random.random((rows, inner), np.float32)
        right = random.random((inner, columns), np.float32)
        series = [_seconds(lambda a=left, b=right: [a @ b for _ in range(PRODUCTS)]) for _ in range(4)]  # type: ignore[misc]
        rates[f"{rows}x{inner}x{columns}"] = 2e-9 * rows * inner * columns * PRODUCTS / min(series[1:])
    return rates


def answer(run: Run, question: dict[str, Any]) -> dict[str, Any]:
    """What one question asks for."""
    if question["do"] == "matrix":
        return measure_matrix_rate()
    texts: list[str] = question["texts"]
    if question["do"] == "single":
        for text in texts[:5]:
            run([text])
        return {"single_ms": [round(1e3 * _seconds(lambda text=text: run([text])), 4) for text in texts]}  # type: ignore[misc]
    batches = sort_and_cut(texts, question["tokens"], question["batch_size"]) if question["batch_size"] else [texts]
    run(batches[-1])
    return {"seconds": _seconds(lambda: [run(batch) for batch in batches])}


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _open(who: str, bundle: Path, threads: int) -> Run:
    if who == "ours":
        from serve.runtime import Runtime

        return Runtime.open(bundle, "float32", threads=threads).run
    from benchmarks.serve.peers.encoder import open_encoder

    return open_encoder().run


def main() -> None:
    """Answer until stdin ends."""
    who, bundle, threads = sys.argv[1:]
    run = _open(who, Path(bundle), int(threads))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(run, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
