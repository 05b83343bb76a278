"""Guarded bundles on CLINC150: who tells its out-of-scope texts from the others, and how many known ones are flagged.

    python -m benchmarks.out_of_domain out/clinc150full --page docs/results/out-of-domain.md

The folder is the output of a recipe whose data has a split `out_of_domain`. Each model is guarded three times, below
`guarded/`: with the training split, which it was trained on, with the validation split, which it was not, and fitted on
the one with the threshold from the other. Models that have no bundle yet are left out. Raw distances go to
`benchmarks/out_of_domain/results/NAME.json`; the page is written from them, and with no folder from those that are
there. No clock is read: it may run beside anything.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import read_split
from artifact.manifest import open_artifact
from artifact.progress import say
from artifact.stage import run_stage
from benchmarks.out_of_domain.page import render
from pipeline.guard import guard_stage
from pipeline.machine import fingerprint
from serve.engine import Floats, softmax
from serve.runtime import Runtime

RESULTS = Path(__file__).parent / "results"
ROWS = (("teacher", "float32"), ("student", "float32"), ("student", "int8"))
FITTED_ON = {
    "train": ("train", None),
    "validation": ("validation", None),
    "train, validation held out": ("train", "validation"),
}
"""Splits that a gate is fitted on and has its threshold from; None: a part of the former."""
QUANTILE = 0.95
CHUNK = 512
ALONE = 1000
"""Texts also asked one by one."""


def main() -> None:
    """Measure what is named, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", metavar="DIR", help="output folder of a recipe")
    parser.add_argument("--name", default="clinc150", help="of the raw file (default: %(default)s)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page there")
    options = parser.parse_args()
    if options.output is not None:
        found = measure_output(options.output)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{options.name}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    if options.page is not None:
        files = sorted(RESULTS.glob("*.json"))
        tables = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
        options.page.write_text(render(tables), encoding="utf-8")
        say(f"page     {options.page}")


def measure_output(root: Path) -> dict[str, Any]:
    """Distances and chances of every text in the splits `test` and `out_of_domain`, row by row."""
    texts = {split: [row.text for row in read_split(root / "data", split)] for split in ("test", "out_of_domain")}
    rows = {}
    for fitted_on in FITTED_ON:
        for model, precision in ROWS:
            if not (root / "bundles" / model / "manifest.json").exists():
                continue
            guarded = _guard(root, model, fitted_on)
            rows[f"{model}/{precision}, {fitted_on}"] = measure_row(guarded, precision, texts)
            say(f"measured {model}/{precision}, fitted on {fitted_on}")
    return {
        "quantile": QUANTILE,
        "texts": {split: len(some) for split, some in texts.items()},
        "rows": rows,
        "machine": fingerprint(),
    }


def measure_row(guarded: Path, precision: str, texts: dict[str, list[str]]) -> dict[str, Any]:
    """What one precision of a guarded bundle says of the texts, through the serving runtime."""
    runtime = Runtime.open(guarded, precision)
    found = {split: answer(runtime, some) for split, some in texts.items()}
    single = Runtime.open(guarded, precision, batch_tokens=1)
    alone, _ = answer(single, texts["test"][:ALONE])
    threshold = runtime.domain_threshold or 0.0
    moved = (alone > threshold) != (found["test"][0][:ALONE] > threshold)
    manifest = open_artifact(guarded)
    gates = runtime.bundle.info.domain or {}
    return {
        "gate": gates[precision].model_dump(),
        "facts": manifest.facts["domain"][precision],
        "size_bytes": manifest.facts["precisions"][precision]["size_bytes"],
        "digest": runtime.bundle.digest,
        "alone": {"texts": len(alone), "flags_moved": int(moved.sum())},
        "distances": {split: _rounded(distances) for split, (distances, _) in found.items()},
        "chances": {split: _rounded(chances) for split, (_, chances) in found.items()},
    }


def answer(runtime: Runtime, texts: list[str]) -> tuple[Floats, Floats]:
    """The distance of each text, and the chance of its likeliest label."""
    distances, chances = [], []
    for first in range(0, len(texts), CHUNK):
        outputs = runtime.run(texts[first : first + CHUNK])
        distances.append(np.asarray(outputs.domain))
        chances.append(softmax(outputs.logits).max(axis=1))
    return np.concatenate(distances), np.concatenate(chances)


def _guard(root: Path, model: str, fitted_on: str) -> Path:
    split, held_out = FITTED_ON[fitted_on]
    out = root / "guarded" / "-".join([model, split, *([held_out] if held_out else [])])
    precisions = [precision for name, precision in ROWS if name == model]
    texts, apart = root / "data" / f"{split}.jsonl", root / "data" / f"{held_out}.jsonl" if held_out else None
    bundle = root / "bundles" / model
    run_stage(*guard_stage(bundle, texts, out, precisions, held_out=apart, quantile=QUANTILE))
    return out


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


if __name__ == "__main__":
    main()
