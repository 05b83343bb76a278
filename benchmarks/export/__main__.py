"""Our bundle of a classifier beside what `optimum-cli` makes of it: quality, speed, size, and what making it takes.

    python -m benchmarks.export out/demo/models/student --data out/demo/data --rounds 60

Makes all of them first, each in a process of its own, then lets them take turns on the test split. Needs the extra
`export`, which brings `optimum-cli`.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from artifact.dataset import read_info, read_split
from artifact.progress import say
from benchmarks.distill.turns import write
from benchmarks.export.make import make_all
from benchmarks.export.page import PAGE, RESULTS, render
from export.instruction_set import detect_instruction_set


def main(arguments: Sequence[str] | None = None) -> None:
    """Make, measure, and write `results/MODEL.json` and the page of all results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a classifier that transformers opens")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fields of our export config")
    parser.add_argument("--data", type=Path, required=True, help="a sealed data set; its test split is answered")
    parser.add_argument("--name", help="of the results; the model's folder and the data's, where it is not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--texts", type=int, help="answer only so many, to look whether it works")
    parser.add_argument("--work", type=Path, help="keep what is made here")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_intermixed_args(arguments)
    with tempfile.TemporaryDirectory(prefix="export-benchmark-") as scratch:
        # Before anything heavy is loaded: a child's peak memory begins at that of its parent.
        made = make_all(
            options.model, options.work or Path(scratch), data=options.data,
            overrides=options.overrides, target=detect_instruction_set(),
        )  # fmt: skip
        from benchmarks.export.measure import measure_all

        test = read_split(options.data, "test")[: options.texts]
        found = measure_all(
            [one for one in made if not one.failure], test, threads=options.threads, rounds=options.rounds
        )
    name = options.name or f"{options.model.resolve().name}-on-{options.data.resolve().name}"
    failures = {one.name: {"command": one.command, "said": one.failure} for one in made if one.failure}
    about = {"name": name, "labels": len(read_info(options.data).labels), "graph_threads": options.threads,
             "failures": failures}  # fmt: skip
    write(name, {**about, **found}, results=options.results)
    options.page.write_text(render(options.results), encoding="utf-8")
    say(f"wrote {options.page}")


if __name__ == "__main__":
    main()
