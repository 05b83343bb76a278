"""All benchmarks of training that a CPU can run, one after the other, and the page: about ten minutes.

    python -m benchmarks.distill --corpus CORPUS.jsonl.gz --peer PEER/bin/python

Without `--corpus` or `--peer`, what needs it is left out, and the page shows what was measured before.
"""

import argparse
import subprocess
import sys


def main() -> None:
    """Run each as a program of its own, so that none has the memory or the threads of another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="JSON lines with a field `text`, .gz too")
    parser.add_argument("--peer", help="interpreter of the environment that bertdistiller is installed in")
    options = parser.parse_args()
    commands = [["step"], ["memory"]]
    commands += [["peer", options.peer]] if options.peer else []
    commands += [["ragged", options.corpus], ["overhead", options.corpus]] if options.corpus else []
    for name, *arguments in [*commands, ["page"]]:
        subprocess.run([sys.executable, "-m", f"benchmarks.distill.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
