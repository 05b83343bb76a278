"""Measure one stall in both ways at once: `python -m benchmarks.omission`.

It takes 20 seconds, writes `results/omission.json` and `docs/results/omission.md` with its drawing; `--page-only`
writes the page again.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from artifact.manifest import write_json
from artifact.progress import say
from benchmarks.omission.page import write_page
from pipeline.machine import fingerprint, load_average
from serve.latency.contestant import child_environment
from serve.latency.server import Service, free_port, running
from serve.load.client import Address, make_request
from serve.load.clock import run_on_time
from serve.load.loops import closed_loop_for, open_loop, poisson_schedule

RESULTS = Path(__file__).parent / "results" / "omission.json"
PAGE = Path("docs/results/omission.md")
ROOT = Path(__file__).resolve().parents[2]
REQUEST = make_request("/embed", {"inputs": "how long do I wait"})


def measure(rate: float, seconds: float, stall_seconds: float, seed: int = 1) -> dict[str, Any]:
    """Both loops against one service, which stalls in the middle; raw milliseconds, and when each began."""
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.omission.server", str(port), str(seconds / 2), str(stall_seconds)]
    service = Service(name="stalling", argv=argv, environment=child_environment(1), port=port, directory=ROOT)
    before = load_average()
    with running(service):
        both = run_on_time(_ask_both(Address(port), rate, seconds, seed))
    setting = {"rate_per_second": rate, "seconds": seconds, "stall_seconds": stall_seconds, "seed": seed}
    return {**setting, "machine": fingerprint(), "load_average": {"before": before, "after": load_average()}, **both}


async def _ask_both(address: Address, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    begun = asyncio.get_running_loop().time()
    opened, closed = await asyncio.gather(
        open_loop(address, [REQUEST], poisson_schedule(rate, seconds, seed)),
        closed_loop_for(address, [REQUEST], 1, seconds),
    )
    return {
        "open": {
            "begun_seconds": [round(one.scheduled - begun, 4) for one in opened.arrived],
            "ms": [round(one.milliseconds, 3) for one in opened.arrived],
            "late_ms": [round(one.late_ms, 3) for one in opened.arrived],
        },
        "closed": {
            "begun_seconds": [round(reply.sent - begun, 4) for reply in closed.replies],
            "ms": [round(reply.milliseconds, 3) for reply in closed.replies],
        },
        "client_cpu_share": round(opened.client_cpu_share, 3),
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.omission", description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second of the open loop")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--stall-seconds", type=float, default=1.0)
    parser.add_argument("--page-only", action="store_true", help="write the page of the results that are there")
    options = parser.parse_args(arguments)
    if not options.page_only:
        RESULTS.parent.mkdir(exist_ok=True)
        write_json(RESULTS, measure(options.rate, options.seconds, options.stall_seconds))
    write_page(json.loads(RESULTS.read_text(encoding="utf-8")), PAGE)
    say(f"page     {PAGE}")


if __name__ == "__main__":
    main()
