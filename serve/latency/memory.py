"""Peak memory of a process."""

from pathlib import Path

import psutil


def peak_memory_bytes(pid: int) -> int:
    """Peak resident memory of a process, ours or another's; 0 when it is gone.

    Not `ru_maxrss`: Linux hands that on through fork and exec, so a small child of a large parent would report its
    parent's peak. Without /proc, what is resident now.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        peaks = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0].split()[1]) * 1024 if peaks else psutil.Process(pid).memory_info().rss
    except FileNotFoundError:
        return psutil.Process(pid).memory_info().rss if psutil.pid_exists(pid) else 0
    except (ProcessLookupError, psutil.NoSuchProcess):
        return 0
