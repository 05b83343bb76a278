"""Every precision of a recipe's models: quality on the test split, speed in one interleaved run, size, and the page.

    python -m benchmarks.precisions clinc150=out/clinc150 sst2=out/sst2

Each folder is the output of `understudy run RECIPE` or of `understudy distill RECIPE`: its models are exported once
more, in all precisions, to `precisions/` below it. Samples go to `results/NAME.json`, the page to
`docs/results/precisions.md`. On quiet cores only.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any, get_args

from artifact.dataset import read_info, read_split
from artifact.manifest import open_artifact
from artifact.progress import say
from artifact.stage import run_stage
from benchmarks.precisions.page import write_page
from export.config import ExportConfig, Precision
from export.run import export_stage
from pipeline.answers import Questions, answer_rows
from pipeline.bench_config import BenchConfig
from pipeline.bench_inputs import make_workload
from pipeline.machine import fingerprint, load_average
from serve.latency.contestant import Contestant
from serve.latency.in_process import measure
from serve.runtime import Runtime

RESULTS = Path(__file__).parent / "results"
PAGE = Path("docs/results/precisions.md")
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def main() -> None:
    """Measure what is named, then write the page from everything there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outputs", nargs="*", metavar="NAME=DIR", help="output folder of a recipe")
    parser.add_argument("--models", nargs="*", default=["teacher", "student", "small"], help="(default: %(default)s)")
    parser.add_argument("--note", default="", help="what a reader must know of how the models were trained")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="(default: %(default)s)")
    options = parser.parse_args()
    for named in options.outputs:
        name, _, directory = named.partition("=")
        found = measure_output(Path(directory), options.models, options.threads, options.rounds)
        found["note"] = options.note
        (RESULTS / f"{name}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    write_page(RESULTS, PAGE)
    say(f"page     {PAGE}")


def measure_output(root: Path, models: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """Facts of every bundle, whether each test text was answered rightly, and all samples of speed."""
    bundles = {model: _export(root, model) for model in models if (root / "models" / model / "manifest.json").exists()}
    rows = [(model, precision) for model in bundles for precision in PRECISIONS]
    openers = {
        f"{model}/{precision}": partial(Runtime.open, bundles[model], precision, threads=threads)
        for model, precision in rows
    }
    test, info = read_split(root / "data", "test"), read_info(root / "data")
    answers, _ = answer_rows(openers, Questions(info=info, test=test))
    config = BenchConfig(scenarios=("SingleStream", "Offline"), threads=threads, rounds=rounds)
    workload = make_workload(config, [example.text for example in test])
    contestants = [Contestant(name=row, factory=opener, threads=threads) for row, opener in openers.items()]
    before = load_average()
    measured = {row.name: row for row in measure(contestants, workload)}
    return {
        "machine": fingerprint(),
        "load_average": {"before": before, "after": load_average()},
        "threads": threads,
        "test": len(test),
        "rows": {
            name: {
                "right": [int(answer == example.label) for answer, example in zip(answers[name], test, strict=True)],
                "size_bytes": row.size_bytes,
                "peak_memory_bytes": row.peak_memory_bytes,
                "single_ms": [[round(ms, 4) for ms in turn.single_ms] for turn in row.rounds],
                "batch_texts_per_second": [round(turn.texts_per_second, 2) for turn in row.rounds],
            }
            for name, row in measured.items()
        },
        "facts": {model: open_artifact(bundle, "bundle").facts for model, bundle in bundles.items()},
        "covered": {model: _covered(root / "models" / model) for model in bundles},
    }


def _export(root: Path, model: str) -> Path:
    out = root / "precisions" / model
    config = ExportConfig(precisions=PRECISIONS)
    run_stage(*export_stage(root / "models" / model, out, config, model, data=root / "data"))
    return out


def _covered(model: Path) -> dict[str, Any] | None:
    vocabulary: dict[str, Any] | None = open_artifact(model, "model").facts.get("vocabulary")
    return vocabulary


if __name__ == "__main__":
    main()
