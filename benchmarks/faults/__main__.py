"""One fault at a time against our own service; raw samples, and a page of all.

    python -m benchmarks.faults overload --bundle out/minilm
    python -m benchmarks.faults kill --bundle out/minilm --serve="--workers 2"
    python -m benchmarks.faults fuzz --bundle out/minilm --peers out/peers
    python -m benchmarks.faults page

`page` only writes the page.
"""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.manifest import write_json
from artifact.progress import say
from benchmarks.faults import page
from benchmarks.faults.fuzz import fuzz
from benchmarks.faults.kill import kill
from benchmarks.faults.overload import overload
from benchmarks.faults.service import Setup
from benchmarks.faults.sigterm import sigterm
from benchmarks.faults.soak import soak
from benchmarks.faults.swap import swap
from pipeline.machine import fingerprint, load_average

SCENARIOS = ("overload", "kill", "sigterm", "fuzz", "swap", "soak")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one, write its samples and the page."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is then ended, on the way out
    if options.scenario != "page":
        setup = Setup(
            bundle=options.bundle,
            precision=options.precision,
            options=shlex.split(options.serve),
            threads=options.threads,
        )
        before = load_average()
        found = run(options.scenario, setup, options)
        about = {
            "machine": fingerprint(),
            "load_average": {"before": before, "after": load_average()},
            "threads": setup.threads,
            "options": [Path(option).name for option in setup.options],
            "model": setup.about["name"],
            "precision": setup.precision,
        }
        options.results.mkdir(parents=True, exist_ok=True)
        write_json(options.results / f"{options.scenario}.json", {**about, **found})
    page.write_page(options.results, options.page)
    say(f"wrote {options.page}")
    if options.scenario != "page":
        sys.stdout.write(json.dumps(page.summarize(options.scenario, found)) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("scenario", choices=[*SCENARIOS, "page"])
    parser.add_argument("--bundle", type=Path, help="what is served")
    parser.add_argument("--other", type=Path, help="swap: another bundle of the same task; left out, one is made")
    parser.add_argument("--peers", type=Path, help="fuzz: where `benchmarks.serve --install` put schemathesis")
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="more options of `python -m serve`")
    parser.add_argument("--precision", default="float32", help="the default of the service (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="overload: 60, soak: 3600")
    parser.add_argument("--times", type=int, help="kill: 10, sigterm: 50, swap: 1000")
    parser.add_argument("--generated", type=int, default=10_000, help="fuzz (default: %(default)s)")
    parser.add_argument("--mutated", type=int, default=5_000, help="fuzz (default: %(default)s)")
    parser.add_argument("--window", type=float, default=60, help="soak: seconds of a window (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=page.RESULTS)
    parser.add_argument("--page", type=Path, default=page.PAGE)
    options = parser.parse_args(arguments)
    if options.scenario != "page" and options.bundle is None:
        parser.error("--bundle is needed")
    return options


def run(scenario: str, setup: Setup, options: argparse.Namespace) -> dict[str, Any]:
    """The samples of one scenario."""
    times = {} if options.times is None else {"times": options.times}
    seconds = {} if options.seconds is None else {"seconds": options.seconds}
    if scenario == "overload":
        return overload(setup, **seconds)
    if scenario == "kill":
        return kill(setup, **times)
    if scenario == "sigterm":
        return sigterm(setup, **times)
    if scenario == "fuzz":
        return fuzz(setup, peers=options.peers, generated=options.generated, mutated=options.mutated)
    if scenario == "swap":
        return swap(setup, other=options.other, **times)
    return soak(setup, window=options.window, **seconds)


if __name__ == "__main__":
    main()
