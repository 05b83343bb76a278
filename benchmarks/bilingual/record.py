"""What the page of all six systems reads of GigaBERT, from runs that are done: measured on their exported bundles.

    python -m benchmarks.bilingual.record "NER, zero-shot=out/gigabert-ner" "POS, zero-shot=out/gigabert-pos"

Each run is named by what it was selected on. A row is a model's bundle on the test split of one language.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact.errors import UnderstudyError
from artifact.manifest import read_manifest, write_json
from benchmarks.systems.records import FOLDER, Figure, System
from pipeline.results import Evaluation

PAPER = (
    "GigaBERT-v4 (12 x 768, 50,000 pieces, 10 billion words), trained on English and Arabic ACE: F1 88.8, and 89.4",
    "these are of its authors' scripts; the English one is of the development set",
    "here: 6 x 384, 20,000 pieces, some million words after a transplant, Universal NER and AQMAR instead of ACE",
)
COMMANDS = (
    "understudy distill recipes/gigabert/encoder.yaml",
    "understudy run recipes/gigabert/transplant.yaml",
    "understudy run recipes/gigabert/ner.yaml",
    "understudy run recipes/gigabert/pos.yaml",
)


def record(runs: Sequence[tuple[str, Path]], encoder: Path, hardware: str, failures: Sequence[str]) -> System:
    """The figures of all runs; raises `UnderstudyError` for one that is not evaluated."""
    figures = [figure for name, run in runs for figure in _figures(name, run)]
    folders = [encoder, *(run for _, run in runs)]
    models = sorted(manifest.parent for folder in folders for manifest in folder.glob("models/*/manifest.json"))
    manifests = {model: read_manifest(model) for model in models}
    best = max((figure for figure in figures if figure.name.endswith(", ar")), key=lambda figure: figure.value)
    return System(
        system="GigaBERT (Lan et al., EMNLP 2020)",
        headline=f"Best in Arabic: {best.name}, {best.value:.3f}.",
        metric="NER: F1 of spans; POS: share of words tagged right",
        rows=tuple(figures), paper=PAPER, failures=tuple(failures), commands=COMMANDS, hardware=hardware,
        hours=round(sum(m.facts.get("training_seconds", 0.0) for m in manifests.values()) / 3600, 2),
        manifests={f"{model.parts[-3]}/{model.name}": manifest.digest for model, manifest in manifests.items()},
    )  # fmt: skip


def _figures(name: str, run: Path) -> list[Figure]:
    read_manifest(run / "evaluation")
    rows = Evaluation.model_validate_json((run / "evaluation" / "evaluation.json").read_bytes()).rows
    return [
        Figure(name=f"{name}, {row}, {group}", value=interval.value, low=interval.low, high=interval.high)
        for row, found in rows.items()
        for group, interval in found.groups.items()
        if "/pytorch" not in row
    ]


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
