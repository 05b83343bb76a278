"""Another program that keeps one core busy."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

BURN = """\
import os, sys, time
until, parent = time.monotonic() + float(sys.argv[1]), int(sys.argv[2])
while time.monotonic() < until and os.getppid() == parent:
    sum(range(10_000))
"""


@contextlib.contextmanager
def burning(seconds: float) -> Iterator[int]:
    """A process that computes without pause, for at most `seconds`, and no longer than we live; its number."""
    process = subprocess.Popen([sys.executable, "-c", BURN, str(seconds), str(os.getpid())], stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
