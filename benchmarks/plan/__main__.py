"""Does a plan tell the truth? Each trained bundle beside random weights of its shape, in one interleaved run.

    python -m benchmarks.plan out/demo/bundles/student out/demo/bundles/teacher --data out/demo/data

The random ones are built and run as `understudy plan` does it, in the form it chooses and all in one process; each
trained graph has a process of its own, as in a benchmark. So the ratio holds what random weights, what a form chosen
anew and what sharing a process may change.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.dataset import read_split
from artifact.manifest import read_manifest, write_json
from benchmarks.plan.page import render
from pipeline.plan_config import PlanConfig, PlannedPrecision
from pipeline.plan_engine import Opening, take_turn
from pipeline.plan_records import Candidate
from serve.bundle import TOKENIZER, Bundle, open_bundle
from serve.latency.plan import Round, Task, Workload
from serve.latency.turns import take_turns

TRAINED, RANDOM = "trained", "random"
VARIANTS: dict[PlannedPrecision, str] = {"float32": "variant", "int8": "int8_variant"}
"""Where the facts of a bundle say which form of the graph a precision is, or is made from."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write `results.json` and the page, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="a sealed bundle of a trained model")
    parser.add_argument("--data", type=Path, required=True, help="a sealed data set; its test texts are measured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/plan-benchmark"))
    parser.add_argument("--page", type=Path, help="also write the table here, such as docs/results/plan.md")
    options = parser.parse_args(arguments)
    texts = [example.text for example in read_split(options.data, "test")]
    results = compare(options.bundles, texts, threads=options.threads, rounds=options.rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", results)
    page = render(results)
    if options.page:
        options.page.write_text(page, encoding="utf-8")
    sys.stdout.write(page)


def compare(directories: Sequence[Path], texts: list[str], *, threads: int, rounds: int) -> dict[str, Any]:
    """Samples of every bundle and of its random double, by `bundle/precision`, and the machine they were taken on."""
    from pipeline.machine import fingerprint, load_average
    from pipeline.plan_race import make_plan_workload, weigh_all

    workload = make_plan_workload(PlanConfig(rounds=rounds), texts)
    before = load_average()
    with tempfile.TemporaryDirectory(prefix="understudy-plan-") as folder:
        bundles = {f"{number}-{path.name}": open_bundle(path) for number, path in enumerate(directories)}
        openings, forms = _openings(bundles, Path(folder), threads)
        turns = _race(openings, workload)
        peaks = weigh_all(openings, workload)
        sizes = {name: opening.size_bytes for name, opening in openings.items()}
    rows: dict[str, Any] = {}
    for name, rounds_taken in turns.items():
        kind, _, row = name.partition(":")
        rows.setdefault(row, {})[kind] = {
            "form": forms[name],
            "single_ms": [turn.single_ms for turn in rounds_taken],
            "texts_per_second": [turn.texts_per_second for turn in rounds_taken],
            "size_bytes": sizes[name],
            "peak_memory_bytes": peaks[name],
        }
    shapes = {key: _shape(bundle).name for key, bundle in bundles.items()}
    return {
        "machine": fingerprint(),
        "load_average": {"before": before, "after": load_average()},
        "threads": threads,
        "texts": len(workload.texts),
        "rounds": rounds,
        "shapes": shapes,
        "rows": rows,
    }


def _openings(bundles: dict[str, Bundle], folder: Path, threads: int) -> tuple[dict[str, Opening], dict[str, str]]:
    """`trained:ROW` and `random:ROW` for each precision of each bundle, and the form each is in.

    The random ones are built here; their forms are chosen as a plan does.
    """
    from pipeline.plan_build import PLANNED, Job, build
    from pipeline.plan_forms import choose_forms
    from pipeline.processes import work_all
    from serve.threads import available_cores

    jobs = []
    for key, bundle in bundles.items():
        facts, shape = read_manifest(bundle.directory).facts, _shape(bundle)
        jobs.append(
            Job(
                candidate=shape,
                teacher=bundle.directory,
                teacher_pieces=shape.pieces,
                labels=bundle.info.labels,
                max_tokens=bundle.info.max_tokens,
                precisions=[name for name in PLANNED if name in bundle.info.precisions],
                target=facts["target"],
                opset=facts["opset"],
                threads=threads,
                folder=folder / key,
            )
        )
    built = work_all(build, jobs, processes=available_cores(), description="export random doubles")
    openings, forms = {}, {}
    for (key, bundle), job, double in zip(bundles.items(), jobs, built, strict=True):
        chosen = choose_forms({str(precision): forms for precision, forms in double.openings.items()}, job.target)
        shipped = read_manifest(bundle.directory).facts["precisions"]["float32"]
        for precision, contestants in double.openings.items():
            trained, random = f"{TRAINED}:{key}/{precision}", f"{RANDOM}:{key}/{precision}"
            _, graph = bundle.graph(precision)
            openings[trained] = Opening(
                graph=graph, tokenizer=bundle.directory / TOKENIZER, info=bundle.info, pieces=None, threads=threads
            )
            forms[trained] = shipped[VARIANTS[precision]]["chosen"]
            forms[random] = chosen[precision]["chosen"]
            openings[random] = contestants[forms[random]]
    return openings, forms


def _race(openings: dict[str, Opening], workload: Workload) -> dict[str, tuple[Round, ...]]:
    """Every round of each opening, in random order: the random ones in one process, each trained one in its own."""
    from pipeline.processes import own_processes

    with contextlib.ExitStack() as stack:
        shared = stack.enter_context(own_processes(1))
        own = {name: shared if name.startswith(RANDOM) else stack.enter_context(own_processes(1)) for name in openings}

        def turn(name: str, task: Task) -> Round:
            return own[name].submit(take_turn, openings[name], task, stays=True).result()

        return take_turns(list(openings), workload, turn, lambda _name, _round: None, "trained beside random")


def _shape(bundle: Bundle) -> Candidate:
    """The shape of a bundle's model, of its `config.json`."""
    from pipeline.plan_build import read_teacher

    about = read_teacher(bundle.directory, bundle.info.name)
    return Candidate(
        name=f"{about.layers}x{about.hidden_size}",
        layers=about.layers,
        hidden_size=about.hidden_size,
        heads=about.heads,
        intermediate_size=about.intermediate_size,
        pieces=about.pieces,
    )


if __name__ == "__main__":
    main()
