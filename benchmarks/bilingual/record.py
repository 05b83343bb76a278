"""What the page of all six systems reads of GigaBERT, from runs that are done: measured on their exported bundles.

    python -m benchmarks.bilingual.record "NER, zero-shot=out/gigabert-ner" "POS, zero-shot=out/gigabert-pos"

Each run is named by what it was selected on. A row is a model's bundle on the test split of one language; what each
step of the method brought is the paired difference of two models in Arabic, as they are deployed.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from artifact.dataset import read_split
from artifact.errors import UnderstudyError
from artifact.manifest import read_manifest, write_json
from benchmarks.systems.records import FOLDER, Figure, System
from pipeline.metrics import compare_two, scored_of
from pipeline.results import Evaluation, Interval

PAPER = (
    "GigaBERT-v4 (12 x 768, 50,000 pieces, 10 billion words), trained on English and Arabic ACE: F1 88.8, and 89.4",
    "these are of its authors' scripts; the English one is of the development set",
    "here: 6 x 384, 20,000 pieces, some million words after a transplant, Universal NER and AQMAR instead of ACE",
)
FAR = "ar"
"""The language that the encoder was not made for."""
PRECISION = "int8"
"""What is deployed, and so compared."""
STEPS = {
    ("transplanted", "monolingual"): "a joint vocabulary, untrained",
    ("bilingual", "transplanted"): "masked words of both languages",
    ("teacher", "bilingual"): "words switched",
    ("student", "teacher"): "half of the layers",
}
"""What the second model lacks, or the first does without: the steps from the English encoder to the student."""
SEED = 1
PARTS = ("truths", "predictions")
"""Of what is scored, an entry an example."""
RECIPES = ("transplant", "ner", "pos")
"""Of `recipes/gigabert`; the output of each begins with its name."""


def record(runs: Sequence[tuple[str, Path]], encoder: Path, hardware: str, failures: Sequence[str]) -> System:
    """The figures of all runs; raises `UnderstudyError` for one that is not evaluated."""
    folders = [encoder, *(run for _, run in runs)]
    models = sorted(manifest.parent for folder in folders for manifest in folder.glob("models/*/manifest.json"))
    manifests = {model: read_manifest(model) for model in models}
    evaluations = {name: _evaluation(run) for name, run in runs}
    gaps = {name: dict(_gaps(evaluations[name], run)) for name, run in runs}
    return System(
        system="GigaBERT (Lan et al., EMNLP 2020)",
        headline=" ".join(_told(name, evaluations[name], gaps[name]) for name in evaluations),
        metric="NER: F1 of spans; POS: share of words tagged right",
        rows=tuple(figure for name, found in evaluations.items() for figure in _figures(name, found)), paper=PAPER,
        failures=(*failures, *(line for name, found in gaps.items() for line in _undecided(name, found))),
        commands=tuple(_commands([run for _, run in runs])), hardware=hardware,
        hours=round(sum(m.facts.get("training_seconds", 0.0) for m in manifests.values()) / 3600, 2),
        manifests={f"{model.parts[-3]}/{model.name}": manifest.digest for model, manifest in manifests.items()},
    )  # fmt: skip


def _commands(runs: Sequence[Path]) -> Iterator[str]:
    """What made the encoder and the runs that are there."""
    yield "understudy distill recipes/gigabert/encoder.yaml"
    for recipe in RECIPES:
        if any(run.name.startswith(f"gigabert-{recipe}") for run in runs):
            yield f"understudy run recipes/gigabert/{recipe}.yaml"


def _evaluation(run: Path) -> Evaluation:
    read_manifest(run / "evaluation")
    return Evaluation.model_validate_json((run / "evaluation" / "evaluation.json").read_bytes())


def _gaps(evaluation: Evaluation, run: Path) -> Iterator[tuple[str, Interval]]:
    """What each of `STEPS` adds in Arabic, where both of its models are there."""
    places = [place for place, example in enumerate(read_split(run / "data", "test")) if example.group == FAR]
    for pair, step in STEPS.items():
        rows = [f"{model}/{PRECISION}" for model in pair]
        if not evaluation.rows.keys() >= set(rows):
            continue
        ours, theirs = (
            replace(each, **{part: [getattr(each, part)[place] for place in places] for part in PARTS})
            for each in (scored_of(evaluation, row) for row in rows)
        )
        gap = compare_two(evaluation.metric, "difference", ours, theirs, seed=SEED)
        if gap is not None:
            yield step, gap


def _told(name: str, evaluation: Evaluation, gaps: dict[str, Interval]) -> str:
    """What the student has in Arabic, and what each step brought."""
    row = next(row for row in (f"student/{PRECISION}", *reversed(evaluation.rows)) if row in evaluation.rows)
    found = evaluation.rows[row].groups[FAR]
    steps = f" ({'; '.join(f'{step} {_points(gap)}' for step, gap in gaps.items())})" if gaps else ""
    share = f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return f"{name}: {row} has {share} in Arabic{steps}."


def _undecided(name: str, gaps: dict[str, Interval]) -> Iterator[str]:
    """The steps that are not shown to help, and a student that loses."""
    for step, gap in gaps.items():
        if gap.high < 0:
            yield f"{name}, in Arabic: {step}, a loss: {_points(gap)}"
        elif gap.low <= 0:
            yield f"{name}, in Arabic: {step}, not told from no change: {_points(gap)}"


def _points(gap: Interval) -> str:
    return f"{100 * gap.value:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def _figures(name: str, evaluation: Evaluation) -> Iterator[Figure]:
    for row, found in evaluation.rows.items():
        if "/pytorch" in row:
            continue
        for group, interval in found.groups.items():
            yield Figure(name=f"{name}, {row}, {group}", value=interval.value, low=interval.low, high=interval.high)


def main(arguments: list[str] | None = None) -> int:
    """Write the record; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=DIR", help="an output folder of the recipes")
    parser.add_argument("--encoder", type=Path, default=Path("out/gigabert-encoder"), metavar="DIR")
    parser.add_argument("--hardware", default="")
    parser.add_argument("--failure", action="append", default=[], metavar="TEXT", help="what fell short")
    parser.add_argument("--out", type=Path, default=FOLDER / "gigabert.json", metavar="FILE")
    options = parser.parse_args(arguments)
    named = [run.rpartition("=") for run in options.runs]
    try:
        runs = [(name, Path(folder)) for name, _, folder in named]
        system = record(runs, options.encoder, options.hardware, options.failure)
    except UnderstudyError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, system.model_dump())
    sys.stdout.write(f"{options.out}: {len(system.rows)} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
