"""Error rates of the gates: simulated, and on real processes and answers whose difference is known.

    python -m benchmarks.gate simulate
    python -m benchmarks.gate speed --bundle out/demo/bundles/student --data out/demo/data
    python -m benchmarks.gate answers --bundle out/demo/bundles/student --data out/demo/data
    python -m benchmarks.gate page

Verdicts go to `results/`, the page to `docs/results/gates.md` with a plot beside it. Turns of `speed` are kept below
`out/gate` as they come; a run that is there is not measured again, only judged. On quiet cores only.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from artifact.dataset import read_split
from artifact.manifest import write_json
from artifact.progress import progress, say
from benchmarks.gate.answers import read_answers, run_answers
from benchmarks.gate.page import write_page
from benchmarks.gate.rules import Plan, summarize
from benchmarks.gate.simulate import (
    ACCURACY,
    DIFFERENCES,
    EXAMPLES,
    NOISES,
    SLOWER,
    simulate_quality,
    simulate_speed,
)
from benchmarks.gate.speed import Subject, judge_runs, measure_runs

RESULTS = Path(__file__).parent / "results"
PAGE = Path("docs/results/gates.md")
RUNS = {"simulate": 1000, "speed": 100, "answers": 100}
"""By part, unless told otherwise."""
TEXTS = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Do one part, write its verdicts and the page."""
    options = parse(arguments)
    if options.part != "page":
        found = PARTS[options.part](options)
        options.results.mkdir(parents=True, exist_ok=True)
        write_json(options.results / f"{options.part}.json", found)
    write_page(options.results, options.page)
    say(f"wrote {options.page}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*RUNS, "page"])
    parser.add_argument("--bundle", type=Path, help="speed, answers: a classifier, in two precisions for answers")
    parser.add_argument("--data", type=Path, help="speed, answers: the sealed data set of its test split")
    parser.add_argument("--precision", default="int8", help="speed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="speed (default: %(default)s)")
    parser.add_argument(
        "--conditions", nargs="+", choices=["quiet", "neighbour"], default=["quiet", "neighbour"], help="speed"
    )
    parser.add_argument("--runs", type=int, help="runs of each gate (simulate: 1000, else 100)")
    parser.add_argument("--rounds", type=int, default=Plan().rounds, help="for the first look (default: %(default)s)")
    parser.add_argument("--max-rounds", type=int, default=Plan().max_rounds, help="(default: %(default)s)")
    parser.add_argument(
        "--calls", type=int, default=Plan().calls, help="single texts of a round (default: %(default)s)"
    )
    parser.add_argument("--parts", type=int, default=Plan().parts, help="of each round (default: %(default)s)")
    parser.add_argument("--raw", type=Path, default=Path("out/gate"), help="turns of speed (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    if options.part in ("speed", "answers") and not (options.bundle and options.data):
        parser.error("--bundle and --data are needed")
    options.runs = options.runs or RUNS.get(options.part)
    options.plan = Plan(rounds=options.rounds, max_rounds=options.max_rounds, calls=options.calls, parts=options.parts)
    return options


def simulate(options: argparse.Namespace) -> dict[str, Any]:
    """What the gates said of each noise and difference: counts, mean rounds."""
    runs, plan = range(options.runs), options.plan
    speed: dict[str, dict[str, Any]] = {}
    with progress("simulate", total=(len(NOISES) * len(SLOWER) + len(DIFFERENCES)) * len(runs)) as advance:
        for place, (noise, about) in enumerate(NOISES.items()):
            speed[noise] = {}
            for slower, times in SLOWER.items():
                outcomes = []
                for run in runs:
                    outcomes.append(simulate_speed(about, times, plan, (1, place, run)))
                    advance(1, f"{noise}, {slower}")
                speed[noise][slower] = summarize(outcomes)
        quality = {}
        for place, (name, difference) in enumerate(DIFFERENCES.items()):
            outcomes = []
            for run in runs:
                outcomes.append(simulate_quality(difference, (2, place, run)))
                advance(1, name)
            quality[name] = summarize(outcomes) | asdict(difference)
    return {"plan": asdict(plan), "noises": {k: asdict(v) for k, v in NOISES.items()}, "accuracy": ACCURACY,
            "examples": EXAMPLES, "speed": speed, "quality": quality}  # fmt: skip


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """What the gates said of each real run, under each condition."""
    texts = tuple(example.text for example in read_split(options.data, "test")[:TEXTS])
    subject = Subject(
        bundle=options.bundle, precision=options.precision, threads=options.threads, texts=texts, plan=options.plan
    )
    conditions = {}
    for condition in options.conditions:
        runs = measure_runs(subject, condition, options.runs, options.raw / f"{condition}.jsonl")
        conditions[condition] = judge_runs(runs, options.plan)
    return {**subject.setup(), "conditions": {**_kept(options.results / "speed.json", subject.setup()), **conditions}}


def _kept(path: Path, setup: dict[str, Any]) -> dict[str, Any]:
    """What was judged before under other conditions, of the same bundle, machine and plan."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    same = all(found.get(name) == value for name, value in json.loads(json.dumps(setup)).items())
    return dict(found["conditions"]) if same else {}


def answers(options: argparse.Namespace) -> dict[str, Any]:
    """What the gate said of real answers with a known loss."""
    rights, digest = read_answers(options.bundle, options.data, options.threads)
    accuracies = {name: float(right.mean()) for name, right in rights.items()}
    pool = len(next(iter(rights.values())))
    cases = run_answers(rights, options.runs)
    return {"digest": digest, "accuracies": accuracies, "pool": pool, "examples": EXAMPLES, "cases": cases}


PARTS = {"simulate": simulate, "speed": speed, "answers": answers}

if __name__ == "__main__":
    main()
