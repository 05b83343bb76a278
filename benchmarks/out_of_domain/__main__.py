"""Guarded bundles: who tells texts from outside from those in the domain, and what the detector lost to compression.

    python -m benchmarks.out_of_domain NAME --data DIR/data OUTPUT ...
    python -m benchmarks.out_of_domain --page docs/results/out-of-domain.md --summary docs/results/systems/ood.json

The folders are outputs of recipes; which bundles belong together is in `measure.SETTINGS`, and those that are not there
are left out. Gates are fitted on the in-domain training split of `--data`. A row that was measured of the same bundle
is not measured again, so the command can be stopped and run on. No clock is read: it may run beside anything.
`--thresholds DIR` measures the classifiers of one folder, guarded in three ways.
"""

import argparse
import json
from pathlib import Path

from artifact.manifest import write_json
from artifact.progress import say
from benchmarks.out_of_domain.measure import MOST_TEXTS, measure
from benchmarks.out_of_domain.page import render
from benchmarks.out_of_domain.raw import RESULTS, load_all
from benchmarks.out_of_domain.summary import summarize
from benchmarks.out_of_domain.thresholds import measure_output


def main() -> None:
    """Measure what is named, then write what is to be written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="of the raw files, such as clinc150")
    parser.add_argument("outputs", type=Path, nargs="*", metavar="DIR", help="output folders of recipes")
    parser.add_argument("--data", type=Path, metavar="DIR", help="sealed in-domain data set")
    parser.add_argument("--most-texts", type=int, default=MOST_TEXTS, help="that gates are fitted on and held out")
    parser.add_argument("--thresholds", type=Path, metavar="DIR", help="output folder of recipes/clinc150.yaml")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="of raw files")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the summary there")
    options = parser.parse_intermixed_args()
    if options.name is not None:
        if options.data is None:
            parser.error("--data is missing")
        measure(options.name, options.data, options.outputs, options.results, most_texts=options.most_texts)
    thresholds = options.results / "thresholds.json"
    if options.thresholds is not None:
        thresholds.write_text(json.dumps(measure_output(options.thresholds)) + "\n", encoding="utf-8")
    tables = dict(load_all(options.results))
    if options.page is not None:
        found = json.loads(thresholds.read_text(encoding="utf-8")) if thresholds.is_file() else None
        options.page.write_text(render(tables, found), encoding="utf-8")
        say(f"page     {options.page}")
    if options.summary is not None:
        options.summary.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.summary, summarize(tables))
        say(f"summary  {options.summary}")


if __name__ == "__main__":
    main()
