"""Every setting's teacher and student, guarded on the same in-domain texts, asked through the serving runtime."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifact.dataset import DETECTION, INSIDE, Example, read_info, read_split
from artifact.manifest import open_artifact, read_manifest
from artifact.progress import say
from artifact.stage import run_stage
from benchmarks.out_of_domain.baselines import label_scores, layer_scores, word_scores
from benchmarks.out_of_domain.raw import GROUPS, WORDS, Raw, load, save
from benchmarks.out_of_domain.scores import Distances, Sides
from pipeline.guard import guard_stage
from pipeline.guard_texts import read_parts
from pipeline.machine import fingerprint
from pipeline.stages import UNGUARDED
from serve.engine import Floats
from serve.runtime import Runtime

SETTINGS = {
    "labels": ("teacher", "student"),
    "plain": ("plain", "plain-student"),
    "imlm": ("imlm", "imlm-student"),
    "bcad": ("bcad", "bcad-student"),
    "imlm-bcad": ("imlm-bcad", "imlm-bcad-student"),
}
"""What the encoder learnt before, and the models of the recipes: teacher, student."""
PRECISIONS = {"teacher": ("float32",), "student": ("float32", "int8")}
WITH_LABELS = ("labels", "bcad", "imlm-bcad")
"""Settings whose labels say something of the domain."""
WITH_LAYERS = ("labels", "plain")
"""Settings of which other gates on the same layers are measured too."""
QUANTILE = 0.95
MOST_TEXTS = 8000
MOST_OF_A_GROUP = 500
"""Texts from outside of each source, as in Xu et al., where a data set has several."""
CHUNK = 512


def measure(name: str, data: Path, roots: Sequence[Path], results: Path, *, most_texts: int = MOST_TEXTS) -> Raw:
    """Measure what is below `roots` and not measured yet, row by row; what was measured before stays.

    `data` is the sealed data set whose training split gates are fitted on, with thresholds from its validation split.
    """
    raw, info = load(name, results), read_info(data)
    # A detector's test split holds both sides, those from outside with the label 1.
    inside = [row.text for row in read_split(data, "test") if info.task != DETECTION or row.label == INSIDE]
    outside, groups = draw_outside(read_split(data, "out_of_domain"), list(info.groups))
    texts = (inside, [row.text for row in outside])
    raw.about |= {"quantile": QUANTILE, "inside": len(inside), "outside": len(outside), "groups": groups}
    raw.about |= {"data": open_artifact(data).digest, "machine": fingerprint()}
    raw.arrays[GROUPS] = np.array([groups.index(row.group) if row.group in groups else -1 for row in outside], np.int8)
    files = data / "train.jsonl", data / "validation.jsonl"
    parts = read_parts(*files, field="text", quantile=QUANTILE, most_texts=most_texts)
    if WORDS not in raw.rows:
        raw.add(WORDS, {}, {WORDS: word_scores([str(text) for text in parts.fitted], *texts)})
    for setting, role, precision, bundle in _bundles(roots):
        row = f"{setting}/{role}/{precision}"
        if not _is_measured(raw, row, bundle, most_texts):
            guarded = data.parent / "guarded" / f"{setting}-{role}"
            stage = guard_stage(
                bundle, files[0], guarded, PRECISIONS[role], held_out=files[1], quantile=QUANTILE, most_texts=most_texts
            )
            run_stage(*stage, force=True)
            about, scores = measure_row(guarded, precision, *texts, labelled=setting in WITH_LABELS)
            raw.add(row, about | {"bundle": open_artifact(bundle).digest, "most_texts": most_texts}, scores)
            raw.about["trained"] = raw.about.get("trained", {}) | _trained(bundle)
            save(raw, name, results)
            say(f"measured {row}")
    for setting, role, precision, bundle in _bundles(roots):
        row = f"{setting}/{role}/{precision}"
        if setting in WITH_LAYERS and "evidence" not in raw.rows[row]:
            others, evidence = layer_scores(bundle, precision, parts, *texts)
            raw.add(row, raw.rows[row] | {"evidence": evidence}, raw.all_sides(row) | others)
            save(raw, name, results)
            say(f"measured layers of {row}")
    save(raw, name, results)
    return raw


def _is_measured(raw: Raw, row: str, bundle: Path, most_texts: int) -> bool:
    """Whether the row is of this very bundle, with a gate of as many texts."""
    known = raw.rows.get(row, {})
    return bool(known.get("bundle") == open_artifact(bundle).digest and known.get("most_texts") == most_texts)


def measure_row(
    guarded: Path, precision: str, inside: Sequence[str], outside: Sequence[str], *, labelled: bool
) -> tuple[dict[str, Any], dict[str, Sides]]:
    """What is known of one precision of a guarded bundle, and its scores of the texts."""
    runtime = Runtime.open(guarded, precision)
    found = [_answer(runtime, texts, labelled=labelled) for texts in (inside, outside)]
    scores = {score: Sides(*(side[score] for side in found)) for score in found[0]}
    facts, gate = open_artifact(guarded).facts, (runtime.bundle.info.domain or {})[precision]
    flagged = [int((side["gate"] > gate.threshold).sum()) for side in found]
    about = {
        "digest": runtime.bundle.digest, "gate": gate.model_dump(), "facts": facts["domain"][precision],
        "size_bytes": facts["precisions"][precision]["size_bytes"], "flagged": flagged,
    }  # fmt: skip
    return about, scores


def draw_outside(rows: Sequence[Example], groups: Sequence[str]) -> tuple[list[Example], list[str]]:
    """At most 500 rows of each group, drawn the same way each time, and the groups that have some."""
    if not groups:
        return list(rows), []
    drawn: list[Example] = []
    for group in groups:
        own = [row for row in rows if row.group == group]
        places = np.random.default_rng(42).permutation(len(own))[:MOST_OF_A_GROUP]
        drawn += [own[place] for place in places]
    return drawn, [group for group in groups if any(row.group == group for row in drawn)]


def _answer(runtime: Runtime, texts: Sequence[str], *, labelled: bool) -> dict[str, Distances]:
    """Every score of each text."""
    distances: list[Floats] = []
    logits: list[Floats] = []
    for first in range(0, len(texts), CHUNK):
        outputs = runtime.run(texts[first : first + CHUNK])
        distances.append(np.asarray(outputs.domain))
        logits.append(outputs.logits)
    scores = {"gate": np.concatenate(distances).astype(np.float64)}
    return scores | (label_scores(np.concatenate(logits), runtime.labels) if labelled else {})


def _bundles(roots: Sequence[Path]) -> Iterator[tuple[str, str, str, Path]]:
    """Setting, role, precision and bundle of all that there are."""
    for setting, models in SETTINGS.items():
        for root in roots:
            for role, model in zip(PRECISIONS, models, strict=True):
                bundle = root / UNGUARDED / model
                bundle = bundle if bundle.exists() else root / "bundles" / model
                if (bundle / "manifest.json").is_file():
                    yield from ((setting, role, precision, bundle) for precision in PRECISIONS[role])


def _trained(bundle: Path) -> dict[str, Any]:
    """Steps and seconds of the models beside a bundle, as they were measured."""
    folders = sorted((bundle.parent.parent / "models").iterdir())
    manifests = {path.name: read_manifest(path).facts for path in folders if (path / "manifest.json").is_file()}
    return {name: {key: facts.get(key) for key in ("steps", "training_seconds")} for name, facts in manifests.items()}
