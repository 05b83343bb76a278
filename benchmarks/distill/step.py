"""What does the objective cost a step, beyond the passes through both models that no implementation can do without?

    python -m benchmarks.distill.step [--device cuda] [--rounds N]

*bound* is the teacher's forward pass up to the projections wanted, the student's up to its own, and its backward pass
from their sum. *fused* has the loss in place of the sum; *dense* has it by whole matrices; *step* is the training step,
with clipping and AdamW.
"""

import argparse
import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.distill import turns


@dataclass(frozen=True)
class Case:
    """A batch, and how many rounds it is measured in."""

    texts: int
    length: int
    rounds: int
    dense_rounds: int
    ragged: bool = False
    dropout: float = 0.0


CPU = (
    Case(32, 32, 20, 8),
    Case(32, 128, 9, 4),
    Case(8, 512, 8, 3),
    Case(32, 128, 6, 3, ragged=True),
    Case(32, 32, 8, 0, dropout=0.1),
    Case(32, 128, 6, 0, dropout=0.1),
)
CUDA = (Case(256, 128, 20, 20), Case(256, 512, 20, 20), Case(256, 512, 20, 20, ragged=True))


def main() -> None:
    """Measure, and write `results/step.json` or `results/step-cuda.json`."""
    turns.prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, help="at most so many, to look whether it works")
    options = parser.parse_args()
    if options.device == "cuda":
        _cuda(options.rounds)
    else:
        from benchmarks.distill.models import minilm

        turns.write("step", {"cases": measure(lambda case: minilm(case.dropout), CPU, options.rounds)})


def measure(make: Callable[[Case], Any], cases: Sequence[Case], most: int | None = None) -> list[dict[str, Any]]:
    """Raw seconds and the loss of every contestant in each case; `make` gives a case's `Bench`."""
    return [_measured(make(case), case, most or case.rounds) for case in cases]


def _measured(bench: Any, case: Case, most: int) -> dict[str, Any]:
    from benchmarks.distill.models import random_batch

    device = bench.run.accelerator.device
    batch = random_batch(
        bench.run.teacher.config.vocab_size, case.texts, case.length, ragged=case.ragged, device=device.type
    )
    losses: dict[str, float] = {}

    def contestant(name: str, rounds: int) -> turns.Contestant:
        def work() -> None:
            losses[name] = getattr(bench, name)(batch)

        return turns.Contestant(name, lambda: turns.seconds_of(work, _waiting(device.type)), min(rounds, most))

    rounds = {"bound": case.rounds, "fused": case.rounds, "step": case.rounds, "dense": case.dense_rounds}
    contestants, too_large = [], []
    for name, count in rounds.items():
        if count and _fits(bench, name, batch):
            contestants.append(contestant(name, count))
        elif count:
            too_large.append(name)
    kind = "ragged " if case.ragged else ""
    about = f"{kind}{case.texts} x {case.length}, dropout {case.dropout}"
    seconds = turns.take_turns(contestants, about, warm_up=1 if device.type == "cpu" else 5)
    return {
        **asdict(case), "tokens": int(batch.mask.sum()), "seconds": seconds, "too_large": too_large,
        "losses": {name: loss for name, loss in losses.items() if loss is not None},
    }  # fmt: skip


def _fits(bench: Any, name: str, batch: Any) -> bool:
    """On a GPU, whether one turn fits into its memory; a CPU's is not tried out."""
    import torch

    if batch.mask.device.type == "cpu":
        return True
    try:
        getattr(bench, name)(batch)
    except torch.OutOfMemoryError:
        bench.run.student.zero_grad(set_to_none=True)
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return True


def _waiting(device: str) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _cuda(most: int | None) -> None:
    import torch

    from artifact.progress import say

    if not torch.cuda.is_available():
        say("no CUDA device here: nothing measured")
        return
    from benchmarks.distill.cuda import matmul_rate, peaks, work_of
    from benchmarks.distill.models import random_bench

    bench = random_bench("cuda")
    cases = measure(lambda _case: bench, CUDA, most)
    for case, found in zip(CUDA, cases, strict=True):
        found |= {"matmul_flops": work_of(bench, case), "peak_bytes": peaks(bench, case, found["seconds"])}
    gpu = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "matmul_flops_per_s": matmul_rate()}
    turns.write("step-cuda", {**gpu, "cases": cases})


if __name__ == "__main__":
    main()
