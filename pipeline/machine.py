"""What a benchmark must say of the machine it ran on, and nothing that tells whose machine it is."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

from artifact.manifest import installed_versions
from artifact.progress import say
from serve.cgroup import CGROUPS, MEMBERSHIP, granted_bytes, granted_cores
from serve.threads import available_cores

CPUINFO = Path("/proc/cpuinfo")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

QUIET_SHARE = 0.25
"""Of the cores, at work for others before we begin, above which a person is told."""

FLAGS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Instruction sets that decide how fast an encoder runs."""


def fingerprint(cpuinfo: Path = CPUINFO, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> dict[str, Any]:
    """Processor, cores, memory, limits, kernel and versions: equal on two runs of an unchanged machine.

    No host name, user or path. Values are plain or lists of strings; what cannot be read is left out.
    """
    processor = _first_processor(cpuinfo)
    present = {*processor.get("flags", "").split(), *processor.get("Features", "").split()}
    memory_bytes = granted_bytes(cgroups, membership)
    found = {
        "processor": processor.get("model name"),
        "architecture": platform.machine(),
        "instruction_sets": [flag for flag in FLAGS if flag in present],
        "logical_cores": psutil.cpu_count(),
        "usable_cores": available_cores(),
        "cgroup_cores": granted_cores(cgroups, membership),
        "governor": _governor(),
        "huge_pages": _huge_pages(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "cgroup_memory_gib": memory_bytes and round(memory_bytes / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": [f"{name} {version}" for name, version in installed_versions().items()],
    }
    return {name: value for name, value in found.items() if value is not None}


def load_average() -> float:
    """Processes that wanted a core in the last minute, on average; ours among them."""
    return round(os.getloadavg()[0], 2)


def busy_cores(seconds: float = 0.5) -> float:
    """Of the cores this process may use, how many are at work while it sleeps for so long.

    A load average looks back a minute, and calls busy what our own stage before this one did.
    """
    shares = psutil.cpu_percent(interval=seconds, percpu=True)
    ours = os.sched_getaffinity(0)
    return sum(share for core, share in enumerate(shares) if core in ours) / 100


def tell_if_busy(cores: int, meaning: str) -> None:
    """Tell a person that others keep over a quarter of `cores` at work, and what that means for what is measured."""
    busy = busy_cores()
    if busy > QUIET_SHARE * cores:
        say(f"  others keep {busy:.1f} of {cores} cores busy: {meaning}")


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    """The fields of the first processor listed; none where there is no such file."""
    if not cpuinfo.is_file():
        return {"model name": platform.processor()} if sys.platform == "darwin" else {}
    first = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _huge_pages() -> str | None:
    """To whom the kernel grants them: always, madvise (who asks: the service and every contestant do) or never."""
    try:
        chosen = HUGE_PAGES.read_text(encoding="ascii")
    except OSError:
        return None
    return chosen.partition("[")[2].partition("]")[0] or None


def _governor() -> str | None:
    """How the processor's clock is chosen; unknown to most virtual machines."""
    try:
        return GOVERNOR.read_text(encoding="ascii").strip()
    except OSError:
        return None
