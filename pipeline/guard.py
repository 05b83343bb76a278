"""`understudy guard`: a bundle whose graphs also say how far each text is from those the model knows.

stage, work = guard_stage(Path("bundles/student"), Path("texts.jsonl"), Path("bundles/guarded"), ("int8",))
manifest = run_stage(stage, work)

Each precision is fitted with its own graph, through the tokenizer and the padding that serve: quantization moves hidden
states, and a gate fitted on others would take that for distance.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from pydantic import Field

from artifact.config import Config
from artifact.digest import hash_file, list_files
from artifact.errors import ExportError
from artifact.manifest import read_manifest, write_json
from artifact.progress import progress
from artifact.stage import Stage, Work, run_stage
from export.config import Weighting
from export.domain import DOMAIN, add_distance, add_means
from export.domain_fit import fit_gate
from export.proof import PROOF, add_distances
from pipeline.guard_graphs import ask, check_same, count_layers, layer_means
from pipeline.guard_texts import Parts, read_parts
from serve.bundle import DESCRIPTION, Bundle, DomainGate, open_bundle
from serve.runtime import Runtime
from serve.session import open_session

VERSION = 2
COMPARED_TEXTS = 256
"""Held-out texts on which all other outputs have to be the same bits as before."""

_CARD = f"""
`{DOMAIN}` (batch) is one output more: how far each text is from those the gate was fitted on, about 1 for texts like
them. `understudy.json` holds the threshold of each precision under `domain`.
"""


class Bound(Config):
    """What `understudy verify` holds the float32 graph to; carried over from the bundle that was guarded."""

    float32_max_abs_error: float


class GuardConfig(Config):
    """How gates are fitted."""

    field: str = "text"
    """Key of the text in each line of the file."""
    precisions: tuple[str, ...]
    """Guarded; the new bundle has no others."""
    quantile: float = Field(default=0.95, gt=0, lt=1)
    """The share of held-out texts that pass."""
    most_texts: int = Field(default=8000, gt=0)
    """Of a larger file so many are drawn: covariances do not get better for ever."""
    weighting: Weighting = "equal"
    """Of the layers' distances."""
    parity: Bound | None = None


def guard(
    bundle: Path, texts: Path, out: Path, precisions: Sequence[str], *, force: bool, quantile: float, **options: Any
) -> str:
    """Seal the guarded bundle at `out`; the thresholds, as a line of JSON. Raises as `guard_stage` and its work do."""
    if not 0 < quantile < 1:
        raise ExportError(f"a quantile is between 0 and 1, not {quantile:g}", "0.95 flags one in-domain text in 20")
    stage, work = guard_stage(bundle, texts, out, precisions, quantile=quantile, **options)
    manifest = run_stage(stage, work, force=force)
    gates = open_bundle(out).info.domain or {}
    thresholds = {name: gate.model_dump() | manifest.facts["domain"][name] for name, gate in gates.items()}
    return json.dumps(thresholds) + "\n"


def guard_stage(
    bundle: Path,
    texts: Path,
    out: Path,
    precisions: Sequence[str] = (),
    *,
    held_out: Path | None = None,
    field: str = "text",
    quantile: float = 0.95,
    most_texts: int = 8000,
    weighting: Weighting = "equal",
) -> tuple[Stage, Work]:
    """The stage that guards `precisions` of `bundle`, all when none is named, and its work, for `run_stage`.

    Raises `ArtifactError` when `bundle` is none or lacks a precision, `ExportError` when it has a gate already or
    there is no such file.
    """
    opened = open_bundle(bundle)
    if opened.info.domain or DOMAIN in opened.info.outputs:
        raise ExportError(f"{bundle} has a gate already", "name the bundle that it was made from")
    files = {"texts": texts} if held_out is None else {"texts": texts, "held_out": held_out}
    for file in files.values():
        if not file.is_file():
            raise ExportError(f"there is no file {file}", "name one with a JSON object a line")
    for precision in precisions:
        opened.graph(precision)
    parity = read_manifest(bundle).request.config.get("parity")
    config = GuardConfig(
        field=field,
        precisions=tuple(dict.fromkeys(precisions)) or tuple(opened.info.precisions),
        quantile=quantile,
        most_texts=most_texts,
        weighting=weighting,
        parity=Bound(float32_max_abs_error=parity["float32_max_abs_error"]) if parity else None,
    )
    stage = Stage(
        name="guard", version=VERSION, kind="bundle", out=out, config=config, inputs={"bundle": bundle},
        digests={name: hash_file(file) for name, file in files.items()},
    )  # fmt: skip
    return stage, lambda directory: run_guard(opened, directory, config, texts, held_out)


def run_guard(bundle: Bundle, out: Path, config: GuardConfig, texts: Path, held_out: Path | None) -> Mapping[str, Any]:
    """Fill `out` with the guarded bundle; its facts are those of `bundle` and what was measured of the gates.

    Raises `ExportError` when the texts are too few, a graph does not show its layers' states, or any other output of a
    guarded graph is not the same bits as before.
    """
    facts = dict(read_manifest(bundle.directory).facts)
    parts = read_parts(texts, held_out, field=config.field, quantile=config.quantile, most_texts=config.most_texts)
    _copy_rest(bundle, out, config.precisions)
    gates: dict[str, DomainGate] = {}
    about: dict[str, Any] = {}
    with progress(f"guard {bundle.info.name}", total=len(config.precisions)) as advance:
        for precision in config.precisions:
            gates[precision], about[precision] = _guard(bundle, precision, parts, out, config)
            advance(1, precision)
    info = bundle.info.model_copy(
        update={
            "precisions": {name: bundle.info.precisions[name] for name in config.precisions},
            "outputs": {**bundle.info.outputs, DOMAIN: ("batch",)},
            "domain": gates,
        }
    )
    write_json(out / DESCRIPTION, info.model_dump(mode="json", exclude_none=True))
    known = facts.get("precisions", {})
    precisions = {
        name: {**known.get(name, {}), "size_bytes": (out / info.precisions[name]).stat().st_size}
        for name in config.precisions
    }
    return {**facts, "precisions": precisions, "domain": about}


def _guard(
    bundle: Bundle, precision: str, parts: Parts, out: Path, config: GuardConfig
) -> tuple[DomainGate, dict[str, Any]]:
    """Write the guarded graph of one precision; its gate, and what was measured of it."""
    info, runtime, quantile = bundle.info, Runtime.open(bundle, precision), config.quantile
    threads = runtime.threads
    held_out = runtime.tokenize(parts.held_out)
    before = bundle.graph(precision)[1]
    after = out / info.precisions[precision]
    layers = count_layers(bundle)
    means = layer_means(before, runtime.tokenize(parts.fitted), info, layers, threads)
    fit = fit_gate(means, config.weighting)
    model = onnx.load(before)
    add_distance(model, add_means(model, layers), fit.gate)
    after.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, after)
    check_same(before, after, runtime.tokenize(parts.held_out[:COMPARED_TEXTS]), info)
    distances = ask(open_session(after, info, threads), held_out, info, [DOMAIN])[DOMAIN]
    if not np.isfinite(distances).all():
        raise ExportError(f"the gate of {precision} answers with NaN or infinity", "name more and more varied texts")
    threshold = float(np.quantile(distances, quantile, method="higher"))
    if (out / PROOF).is_file():
        add_distances(out / PROOF, after, precision)
    gate = DomainGate(
        threshold=threshold, quantile=quantile, fitted_texts=len(parts.fitted), held_out_texts=len(parts.held_out)
    )
    return gate, {
        "held_out_median": float(np.median(distances)),
        "held_out_flagged": float((distances > threshold).mean()),
        "layer_weights": [round(float(weight), 6) for weight in fit.gate.weights],
        "layer_shrinkage": [round(shrinkage, 6) for shrinkage in fit.shrinkage],
        "added_bytes": after.stat().st_size - before.stat().st_size,
    }


def _copy_rest(bundle: Bundle, out: Path, precisions: Sequence[str]) -> None:
    """Every file but the graphs; the card names those that are left, and the output that is new."""
    graphs = set(bundle.info.precisions.values())
    for name in list_files(bundle.directory):
        if name not in graphs:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.directory / name, out / name)
    card = out / "README.md"
    if card.is_file():
        dropped = [f"* `{file}`" for name, file in bundle.info.precisions.items() if name not in precisions]
        lines = card.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not any(line.startswith(mark) for mark in dropped)]
        card.write_text("".join(kept) + _CARD, encoding="utf-8")
