"""`python -m benchmarks.systems`: writes `docs/results/README.md` from the records of the six systems."""

import argparse
import sys
from pathlib import Path

from artifact.errors import UnderstudyError
from benchmarks.systems.page import plot, render
from benchmarks.systems.records import FOLDER, read_systems


def main(arguments: list[str] | None = None) -> int:
    """Write the page and the plots; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems", description=__doc__)
    parser.add_argument("--records", type=Path, default=FOLDER, metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        systems = read_systems(options.records)
    except UnderstudyError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for name, system in systems.items():
        (options.records / f"{name}.svg").write_text(plot(name, system), encoding="utf-8")
    (options.records.parent / "README.md").write_text(render(systems), encoding="utf-8")
    sys.stdout.write(f"{options.records.parent / 'README.md'}: {len(systems)} systems\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
