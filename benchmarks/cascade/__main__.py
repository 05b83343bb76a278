"""Thresholds from the validation split, tried on the test split, and the mean latency of each cascade.

    python -m benchmarks.cascade --bundles out/clinc150/bundles --data out/clinc150/data --name clinc150

The folder of bundles holds `student` and `teacher`. Samples go to `results/NAME.json`, the page to
`docs/results/cascade.md` with a plot beside it. On quiet cores only: the page calls latencies provisional where the
load average before the measurement says that others were at work.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import read_split
from artifact.digest import hash_file
from artifact.progress import say
from benchmarks.cascade.both import open_both
from benchmarks.cascade.page import write_page
from pipeline.bench_config import BenchConfig
from pipeline.bench_inputs import make_workload
from pipeline.machine import fingerprint, load_average
from serve.latency.contestant import Contestant
from serve.latency.in_process import measure
from serve.runtime import Runtime
from serve.trust.bound import fewest
from serve.trust.calibration import calibrate
from serve.trust.command import open_student
from serve.trust.confidence import confidence_of

RESULTS = Path(__file__).parent / "results"
LEVELS = (0.97, 0.98, 0.99, 0.995, 0.999)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the samples and the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade", description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", type=Path, required=True, help="folder of the bundles `student` and `teacher`")
    parser.add_argument("--data", type=Path, required=True, help="a sealed data set")
    parser.add_argument("--name", required=True, help="of the data set")
    parser.add_argument("--page", type=Path, default=Path("docs/results/cascade.md"), help="(default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the samples (default: beside this)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--calls", type=int, default=100, help="single texts a round (default: %(default)s)")
    options = parser.parse_args(arguments)
    found = measure_cascades(options.bundles, options.data, options.threads, options.rounds, options.calls)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{options.name}.json"
    path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    write_page(options.results, options.page)
    say(f"page     {options.page}")


def measure_cascades(bundles: Path, data: Path, threads: int, rounds: int, calls: int) -> dict[str, Any]:
    """For each level the threshold, and of every test text who would answer and whether rightly; then all samples."""
    student, teacher = open_student(bundles / "student", None), Runtime.open(bundles / "teacher", threads=threads)
    held_out = [example.text for example in read_split(data, "validation")]
    levels = [level for level in LEVELS if fewest(level) <= len(held_out)]
    digest = hash_file(data / "validation.jsonl")
    calibrations = {level: calibrate(student, teacher, held_out, level=level, texts_digest=digest) for level in levels}
    test = read_split(data, "test")
    labels, texts = np.array([example.label for example in test]), [example.text for example in test]
    logits = {"student": student.run(texts).logits, "teacher": teacher.run(texts).logits}
    answers = {name: each.argmax(axis=1) for name, each in logits.items()}
    foreign = [example.text for example in read_split(data, "out_of_domain")]
    precision = student.name.partition("/")[2]
    openers = {
        student.name: partial(Runtime.open, bundles / "student", precision, threads=threads),
        teacher.name: partial(Runtime.open, bundles / "teacher", threads=threads),
    } | {
        f"cascade at {level:g}": partial(
            open_both, bundles / "student", precision, bundles / "teacher", found.chosen.threshold, threads
        )
        for level, found in calibrations.items()
    }
    config = BenchConfig(
        scenarios=("SingleStream", "Offline"), threads=threads, rounds=rounds, calls_per_round=calls, texts=len(texts)
    )
    workload = make_workload(config, texts)
    contestants = [Contestant(name=name, factory=opener, threads=threads) for name, opener in openers.items()]
    before = load_average()
    measured = measure(contestants, workload)
    return {
        "machine": fingerprint(),
        "load_average": {"before": before, "after": load_average()},
        "threads": threads,
        "student": student.name,
        "teacher": teacher.name,
        "digests": {"student": student.digest, "teacher": teacher.digest},
        "calibrations": {
            str(level): found.model_dump(mode="json", exclude={"frontier", "confidences"})
            for level, found in calibrations.items()
        },
        "validation_frontier": [row.model_dump() for row in calibrations[levels[0]].frontier],
        "test": {
            "confidence": confidence_of(logits["student"]).round(9).tolist(),
            "agrees": (answers["student"] == answers["teacher"]).astype(int).tolist(),
            "student_right": (answers["student"] == labels).astype(int).tolist(),
            "teacher_right": (answers["teacher"] == labels).astype(int).tolist(),
        },
        "out_of_domain_confidence": confidence_of(student.run(foreign).logits).round(9).tolist() if foreign else [],
        "single_ms": {row.name: [[round(ms, 4) for ms in turn.single_ms] for turn in row.rounds] for row in measured},
    }


if __name__ == "__main__":
    main()
