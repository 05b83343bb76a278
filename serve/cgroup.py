"""What the process's control groups grant it: cores' time and memory, as both versions of the kernel's files say."""

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 2**60
"""Version 1 writes some such number for no limit at all."""


def granted_cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Cores whose time the process may use, such as 1.5; None without a quota."""
    quotas = [quota for directory in _groups("cpu", cgroups, membership) for quota in _quotas(directory)]
    return min(quotas, default=None)


def granted_bytes(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Memory the process may use before the kernel ends it; None without a limit."""
    files = ("memory.max", "memory.limit_in_bytes")
    directories = list(_groups("memory", cgroups, membership))
    limits = [number for directory in directories for file in files for number in _read_numbers(directory / file)]
    return min((int(limit) for limit in limits if 0 < limit < UNLIMITED_BYTES), default=None)


def _groups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """Directories of the groups the process is in, up to their root: a parent's limit binds its children."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        root = cgroups if number == "0" else cgroups / _mount_name(controller, cgroups, controllers)
        # Inside a container the path is often the host's and absent here; the root then is the container's own.
        relative = Path(path.lstrip("/"))
        yield from (root / parent for parent in (relative, *relative.parents))


def _mount_name(controller: str, cgroups: Path, controllers: str) -> str:
    return controllers if (cgroups / controllers).is_dir() else controller


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
