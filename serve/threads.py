"""Cores this process may use, and how many threads each worker gets of them: never more than there are.

A container sees all cores of its host but may be given the time of two; a thread pool sized by the former is
the commonest reason for slow ONNX services.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from artifact.config import Config
from artifact.errors import ServeError

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


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
    quotas = [quota for directory in _groups(cgroups, membership) for quota in _quotas(directory)]
    return max(1, int(min([len(os.sched_getaffinity(0)), *quotas])))


def _groups(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Directories of the groups the process is in, up to their root: a parent's limit binds its children."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        root = cgroups if number == "0" else cgroups / _mount_name(cgroups, controllers)
        # Inside a container the path is often the host's and absent here; the root then is the container's own.
        relative = Path(path.lstrip("/"))
        yield from (root / parent for parent in (relative, *relative.parents))


def _mount_name(cgroups: Path, controllers: str) -> str:
    return controllers if (cgroups / controllers).is_dir() else "cpu"


def _quotas(directory: Path) -> Iterator[float]:
    """CPU time per time granted by one group, in cores: version 2 in one file, version 1 in two."""
    both = _read_numbers(directory / "cpu.max")
    quota, period = _read_numbers(directory / "cpu.cfs_quota_us"), _read_numbers(directory / "cpu.cfs_period_us")
    for pair in (both, quota + period):
        if len(pair) == 2 and pair[0] > 0 and pair[1] > 0:
            yield pair[0] / pair[1]


def _read_numbers(path: Path) -> list[float]:
    """The numbers in a file; none where it is absent or says `max`."""
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        return []
    return [float(word) for word in words] if all(word.lstrip("-").isdigit() for word in words) else []
