"""What does serving take? A Bento in an environment of its own: size by package, seconds to ready, peak memory.

    understudy package recipes/demo.yaml
    python -m benchmarks.package out/demo/package --page docs/results/package.md

Installs `.[serve]`, as the Bento locks it, into a new virtual environment; fails when that could import torch.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.manifest import open_artifact, write_json
from benchmarks.package.install import UNWANTED, install, look
from benchmarks.package.page import render
from benchmarks.package.start import REQUESTS, start, weights_of
from serve.package import BENTO, LOCK

RESULTS = Path(__file__).parent / "results" / "package.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the raw figures and the page, and print the page; 1 when the environment holds torch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.package", description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="what `understudy package` made")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="raw figures (default: %(default)s)")
    parser.add_argument("--page", type=Path, help="also write the page here, such as docs/results/package.md")
    options = parser.parse_args(arguments)
    results = measure(options.package, options.runs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, results)
    page = render(results)
    if options.page:
        options.page.write_text(page, encoding="utf-8")
    sys.stdout.write(page)
    if results["installed"]["found"]:
        sys.stderr.write(f"error: the environment holds {', '.join(results['installed']['found'])}\n")
    return bool(results["installed"]["found"])


def measure(package: Path, runs: int, python: Path | None = None) -> dict[str, Any]:
    """Everything that the page shows; `python` names an environment that is there already."""
    from pipeline.machine import fingerprint, load_average

    facts = open_artifact(package, kind="package").facts
    with tempfile.TemporaryDirectory(prefix="understudy-package-") as folder:
        chosen = python or install(Path(folder), package / BENTO / LOCK)
        installed = look(chosen)
        before = load_average()
        rows = start(chosen, package, runs)
    return {
        "machine": fingerprint(),
        "load_average": {"before": before, "after": load_average()},
        "facts": dict(facts),
        "installed": installed,
        "unwanted": list(UNWANTED),
        "weights_bytes": weights_of(package),
        "requests": REQUESTS,
        "runs": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
