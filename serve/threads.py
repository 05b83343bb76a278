"""Cores this process may use, and how many threads each worker gets of them: never more than there are.

A container sees all cores of its host but may be given the time of two; a thread pool sized by the former is
the commonest reason for slow ONNX services.
"""

import os
from pathlib import Path

from pydantic import Field

from artifact.config import Config
from artifact.errors import ServeError
from serve.cgroup import CGROUPS, MEMBERSHIP, granted_cores


class ThreadPlan(Config):
    """Processes, and threads that compute in each: `workers * intra_op_threads <= cores`."""

    cores: int = Field(gt=0)
    workers: int = Field(gt=0)
    intra_op_threads: int = Field(gt=0)

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = "1 thread" if self.intra_op_threads == 1 else f"{self.intra_op_threads} threads"
        return f"{workers} x {threads} on {self.cores} usable core{'s' * (self.cores > 1)}"


def plan_threads(workers: int = 1, threads: int | None = None, cores: int | None = None) -> ThreadPlan:
    """The plan for `workers` processes; left out, `threads` is an equal share and `cores` what may be used.

    Raises `ServeError` when there would be more threads than cores.
    """
    usable = cores or available_cores()
    per_worker = threads or max(1, usable // max(1, workers))
    if workers < 1 or per_worker < 1:
        raise ServeError(f"{workers} workers x {per_worker} threads is no plan", "ask for at least one of each")
    if workers * per_worker > usable:
        problem = f"{workers} workers x {per_worker} threads would share {usable} usable cores"
        raise ServeError(problem, f"ask for at most {usable} threads in all, or give the process more cores")
    return ThreadPlan(cores=usable, workers=workers, intra_op_threads=per_worker)


def available_cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Whole cores this process may keep busy: its affinity, cut by the CPU quota of its control groups, at least 1."""
    quota = granted_cores(cgroups, membership)
    return max(1, int(min([len(os.sched_getaffinity(0)), *([] if quota is None else [quota])])))
