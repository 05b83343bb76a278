"""Where a threshold comes from: the same classifiers guarded three times, and how many known texts each gate flags.

Fitted on the training split, which the model was trained on, on the validation split, which it was not, and on the one
with the threshold from the other.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import read_split
from artifact.manifest import open_artifact
from artifact.progress import say
from artifact.stage import run_stage
from benchmarks.out_of_domain.scores import Distances
from pipeline.guard import guard_stage
from pipeline.machine import fingerprint
from pipeline.statistics import wilson
from serve.engine import Floats, softmax
from serve.runtime import Runtime

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


def threshold_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The section of the page, from its raw distances."""
    yield "## Where a threshold comes from\n"
    yield f"CLINC150's classifiers; {found['quantile']:.0%} of the texts held out from the named split pass."
    yield "The layers weigh as a one-class machine says.\n"
    yield ("| gate | fitted on | held out | threshold | flagged inside | flagged outside | moved by company | added |")
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row, about in found["rows"].items():
        yield _flags(row, about)
    yield ""


def _guard(root: Path, model: str, fitted_on: str) -> Path:
    split, held_out = FITTED_ON[fitted_on]
    out = root / "guarded" / "-".join([model, split, *([held_out] if held_out else [])])
    precisions = [precision for name, precision in ROWS if name == model]
    texts, apart = root / "data" / f"{split}.jsonl", root / "data" / f"{held_out}.jsonl" if held_out else None
    bundle = root / "bundles" / model
    run_stage(*guard_stage(bundle, texts, out, precisions, held_out=apart, quantile=QUANTILE, weighting="svm"))
    return out


def _flags(row: str, about: Mapping[str, Any]) -> str:
    gate, alone = about["gate"], about["alone"]
    shares = []
    for split in ("test", "out_of_domain"):
        flagged = np.array(about["distances"][split], dtype=np.float64) > gate["threshold"]
        share = wilson(int(flagged.sum()), len(flagged))
        shares.append(f"{share.value:.1%} ({share.low:.1%}, {share.high:.1%})")
    cells = [
        row, f"{gate['fitted_texts']:,}", f"{gate['held_out_texts']:,}", f"{gate['threshold']:.3f}", *shares,
        f"{alone['flags_moved']} of {alone['texts']:,}", f"{about['facts']['added_bytes'] / 1e6:.1f} MB",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _rounded(values: Floats | Distances) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
