"""The supervisor replaces a worker when it ends, not when it looks next."""

import subprocess
import sys

from serve.supervisor import PAUSE_SECONDS

PROGRAM = """
import os, signal, sys
from bentoml._internal.utils import reserve_free_port
from circus.arbiter import Arbiter
from circus.watcher import Watcher
from serve.supervisor import hear_of_ends

if "heard" in sys.argv:
    hear_of_ends()
    hear_of_ends()
with reserve_free_port() as one, reserve_free_port() as two:
    watcher = Watcher("sleeps", sys.executable, args=["-c", "import time; time.sleep(60)"], stop_children=True)
    ends = [f"tcp://127.0.0.1:{port}" for port in (one, two)]
    arbiter = Arbiter([watcher], *ends, check_delay=3600)
seen = []

def kill():
    seen.extend(watcher.processes)
    os.kill(seen[0], signal.SIGKILL)
    arbiter.loop.call_later(float(sys.argv[1]), look)

def look():
    print("replaced" if set(watcher.processes) - set(seen) else "missing", flush=True)
    arbiter.loop.add_callback(arbiter.stop)

arbiter.start(cb=lambda _: arbiter.loop.call_later(0.2, kill))
"""


def run(*options: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(4 * PAUSE_SECONDS), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_worker_that_ended_is_replaced_at_once():
    """Oracle: a supervisor that looks once an hour, with our ears and without; nothing is left when it stops."""
    assert run("heard") == "replaced"
    assert run() == "missing"
