"""XtremeDistil, measured: what the recipes in `recipes/xtremedistil/` made, on one page.

    python -m benchmarks.xtremedistil out/xtremedistil-encoder out/xtremedistil-ner out/xtremedistil-source …

Each folder is the output of a recipe, evaluated where it deploys anything (`understudy evaluate`, or `run`). What the
page needs of it goes to `benchmarks/xtremedistil/results/NAME.json`, without answers or texts; the page, its plot and
the record for `benchmarks.systems` are written from those that are there, also with no folder. No clock is read:
latency is on the page where the recipe's own benchmark was run.
"""

import argparse
import sys
from pathlib import Path

from artifact.errors import UnderstudyError
from artifact.manifest import write_json
from artifact.progress import say
from benchmarks.xtremedistil.page import render
from benchmarks.xtremedistil.plot import plot
from benchmarks.xtremedistil.records import PREFIX, read_output, read_records
from benchmarks.xtremedistil.summary import summarize

RESULTS = Path(__file__).parent / "results"
PAGES = Path("docs/results")


def main(arguments: list[str] | None = None) -> int:
    """Read what is named, then write the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.xtremedistil", description=__doc__.splitlines()[0])
    parser.add_argument("outputs", type=Path, nargs="*", metavar="DIR", help="output folder of one of the recipes")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default: beside this module)")
    parser.add_argument("--pages", type=Path, default=PAGES, metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        for output in options.outputs:
            options.results.mkdir(parents=True, exist_ok=True)
            record = options.results / f"{output.name.removeprefix(PREFIX)}.json"
            write_json(record, read_output(output).model_dump(mode="json"))
        records = read_records(options.results)
    except UnderstudyError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    (options.pages / "systems").mkdir(parents=True, exist_ok=True)
    (options.pages / "xtremedistil.svg").write_text(plot(records), encoding="utf-8")
    (options.pages / "xtremedistil.md").write_text(render(records), encoding="utf-8")
    write_json(options.pages / "systems" / "xtremedistil.json", summarize(records).model_dump(mode="json"))
    say(f"page     {options.pages / 'xtremedistil.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
