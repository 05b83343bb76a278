"""How much memory does a step of 8 x 512 tokens take, beside the models?

    python -m benchmarks.distill.memory

Each contestant has a process of its own, and takes one step.
"""

import argparse
import json
import resource
import subprocess
import sys

import psutil

from benchmarks.distill import turns

TEXTS, LENGTH = 8, 512
CONTESTANTS = ("bound", "fused", "step", "dense")


def main() -> None:
    """Measure, and write `results/memory.json`; with a contestant's name, be the child that takes the step."""
    turns.prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contestant", nargs="?", choices=CONTESTANTS)
    options = parser.parse_args()
    if options.contestant:
        sys.stdout.write(json.dumps(taken(options.contestant)) + "\n")
        return
    found = {}
    for name in CONTESTANTS:
        command = [sys.executable, "-m", "benchmarks.distill.memory", name]
        found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    turns.write("memory", {"texts": TEXTS, "length": LENGTH, "bytes": found})


def taken(name: str) -> dict[str, int]:
    """What this process holds before a step of the contestant, and the most it has held after it."""
    from benchmarks.distill.models import minilm, random_batch

    bench = minilm()
    batch = random_batch(30_522, TEXTS, LENGTH)
    before = psutil.Process().memory_info().rss
    getattr(bench, name)(batch)
    return {"before": before, "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


if __name__ == "__main__":
    main()
