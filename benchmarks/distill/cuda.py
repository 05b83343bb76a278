"""What only a GPU can be asked: peak memory of a contestant, and how fast its matrix products could be."""

import time
from collections.abc import Iterable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.distill.models import Bench, random_batch
from benchmarks.distill.step import Case
from distill.batch import Batch

SIDE, TIMES = 8192, 20


def matmul_rate() -> float:
    """Operations a second of a large bf16 matrix product: what the hardware gives at its best."""
    x = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    seconds = []
    for _ in range(TIMES):
        torch.cuda.synchronize()
        began = time.perf_counter()
        _ = x @ x
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return float(2 * SIDE**3 / sorted(seconds)[TIMES // 2])


def work_of(bench: Bench, case: Case) -> int:
    """Operations in the matrix products of both models, without those of the objective."""
    batch = _batch(bench, case)
    with FlopCounterMode(display=False) as counter:
        bench.bound(batch)
    return int(counter.get_total_flops())


def peaks(bench: Bench, case: Case, names: Iterable[str]) -> dict[str, int]:
    """Peak memory of each contestant's step, models included."""
    batch, found = _batch(bench, case), {}
    for name in names:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        getattr(bench, name)(batch)
        found[name] = torch.cuda.max_memory_allocated()
    return found


def _batch(bench: Bench, case: Case) -> Batch:
    vocabulary = bench.run.student.config.vocab_size
    return random_batch(vocabulary, case.texts, case.length, ragged=case.ragged, device="cuda")
