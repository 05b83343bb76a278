"""Is our measuring right? What the loop and the turns cost, and our median beside loops written by hand.

    python -m benchmarks.latency overhead
    python -m benchmarks.latency settling --out out/demo --rows student/int8 teacher/float32 teacher/pytorch
    python -m benchmarks.latency pages --out out/demo --rows student/int8 teacher/float32 teacher/pytorch --rounds 12
    python -m benchmarks.latency agreement --bundle out/demo/bundles/student --data out/demo/data
    python -m benchmarks.latency page

Samples go to `results/`, the page to `docs/results/latency.md`. On quiet cores only.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from artifact.manifest import write_json
from artifact.progress import say
from benchmarks.latency.agreement import measure_agreement
from benchmarks.latency.overhead import measure_overhead
from benchmarks.latency.page import write_page
from benchmarks.latency.pages import measure_pages
from benchmarks.latency.settling import measure_settling
from pipeline.machine import fingerprint, load_average

RESULTS = Path(__file__).parent / "results"
PAGE = Path("docs/results/latency.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one part, write its samples and the page."""
    options = parse(arguments)
    if options.part != "page":
        before, name = load_average(), options.part
        if options.part == "overhead":
            found = measure_overhead(options.rounds)
        elif options.part == "settling":
            found = measure_settling(options.rows, options.out, threads=options.threads, rounds=options.rounds)
        elif options.part == "pages":
            found = measure_pages(
                options.rows, options.out, threads=options.threads, rounds=options.rounds, runs=options.runs,
            )  # fmt: skip
        else:
            found = measure_agreement(
                options.bundle, options.precision, options.data,
                threads=options.threads, rounds=options.rounds, calls=options.calls,
            )  # fmt: skip
            name += "-" + found["model"].replace("/", "-")
        about = {"machine": fingerprint(), "load_average": {"before": before, "after": load_average()}}
        options.results.mkdir(parents=True, exist_ok=True)
        write_json(options.results / f"{name}.json", {**about, **found}, indent=None)
    write_page(options.results, options.page)
    say(f"wrote {options.page}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["overhead", "settling", "pages", "agreement", "page"])
    parser.add_argument("--out", type=Path, help="settling, pages: a finished recipe, whose test texts are run")
    parser.add_argument("--rows", nargs="+", help="settling, pages: of its rows, as student/int8 and teacher/pytorch")
    parser.add_argument("--bundle", type=Path, help="agreement: a sealed bundle")
    parser.add_argument("--data", type=Path, help="agreement: the sealed data set whose test texts are run")
    parser.add_argument("--precision", default="int8", help="of --bundle (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="(default: %(default)s)")
    parser.add_argument("--runs", type=int, default=10, help="pages: of four equals (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=100, help="agreement: texts of a block (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    if options.part == "agreement" and not (options.bundle and options.data):
        parser.error("--bundle and --data are needed")
    if options.part in ("settling", "pages") and not (options.out and options.rows):
        parser.error("--out and --rows are needed")
    return options


if __name__ == "__main__":
    main()
