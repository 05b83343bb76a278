"""Wiring: a sealed data set, a start and perhaps a teacher in; a model directory out."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from artifact.config import Config
from artifact.digest import hash_directory, hash_file
from artifact.disk import enough_disk
from artifact.errors import TrainingError
from artifact.stage import Stage
from distill.config import CorpusConfig, Mixture, ModelConfig, TextFiles
from distill.config_starts import Checkpoint, Scratch, Transplant
from distill.sources import locate

VERSION = 2
KEPT = ("checkpoints/latest.safetensors", "checkpoints/teacher-cache/*/*.bin")
"""What a killed run leaves that the next one goes on from."""
_ROOM_HINT = "the last checkpoint is intact: make room and run the same command again"


class DistillRequest(Config):
    """What is asked of this stage: one model of a recipe, by name, and the corpora that it reads."""

    name: str
    model: ModelConfig
    corpora: dict[str, CorpusConfig] | None = None


def distill_stage(
    name: str,
    config: ModelConfig,
    *,
    data: Path,
    out: Path,
    models: Mapping[str, Path],
    corpora: Mapping[str, CorpusConfig] | None = None,
    vocabularies: Mapping[str, Path] | None = None,
) -> tuple[Stage, Callable[[Path], Mapping[str, Any]]]:
    """The stage that makes model `name`, and its work.

    `models` and `vocabularies` say where the recipe's others lie.
    """
    inputs, digests, source = {"data": data}, {}, None
    if config.teacher is not None:
        inputs["teacher"] = models[config.teacher]
    if isinstance(config.start, Checkpoint | Transplant):
        named = config.start.source.startswith("model:")
        source = models[config.start.source.removeprefix("model:")] if named else locate(config.start.source)
        if named:
            inputs["start"] = source
        else:
            digests["start"] = hash_directory(source)
    body = source
    reads: tuple[str, ...] = ()
    if isinstance(config.start, Scratch | Transplant):
        source = (vocabularies or {})[config.start.vocabulary]
        inputs["vocabulary"] = source
    if isinstance(config.start, Transplant):
        reads = config.start.parallel
        if config.start.lexicon is not None:
            digests["lexicon"] = hash_file(config.start.lexicon)
    start = source or models[config.teacher or ""]
    names = dict.fromkeys((*reads, *(phase.corpus for phase in config.phases if phase.corpus is not None)))
    used = {name: (corpora or {})[name] for name in names}
    digests |= corpus_digests(used)
    request = DistillRequest(name=name, model=config, corpora={k: without_paths(v) for k, v in used.items()} or None)
    stage = Stage(
        name="distill", version=VERSION, kind="model", out=out, config=request, inputs=inputs, digests=digests,
        keeps=KEPT,
    )  # fmt: skip
    teacher = models[config.teacher] if config.teacher is not None else None

    def work(directory: Path) -> Mapping[str, Any]:
        return run_distill(
            name, config, data=data, start=start, teacher=teacher, corpora=used, out=directory, body=body
        )

    return stage, work


def run_distill(
    name: str,
    config: ModelConfig,
    *,
    data: Path,
    start: Path,
    teacher: Path | None,
    corpora: Mapping[str, CorpusConfig],
    out: Path,
    body: Path | None = None,
) -> Mapping[str, Any]:
    """Fill `out` with the trained model and return what was measured; goes on from `out/checkpoints` if there are any.

    `body` is the model whose layers a transplant takes; its `start` is the vocabulary. Raises `DataError`,
    `ModelError` or `TrainingError`.
    """
    from distill.build import build_run, save_result
    from distill.fidelity import measure_fidelity
    from distill.loop import train

    begun = time.monotonic()
    built = build_run(config, data=data, start=start, teacher=teacher, corpora=corpora, out=out, body=body)
    run = built.run
    with enough_disk(out, TrainingError, _ROOM_HINT):
        facts = {**built.facts, **train(run)}
        if run.accelerator.is_main_process:
            facts |= measure_fidelity(run)
            save_result(built, facts, name)
    if run.accelerator.is_main_process:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    run.accelerator.wait_for_everyone()
    return facts | {"device": str(run.accelerator.device), "seconds": round(time.monotonic() - begun, 1)}


def corpus_digests(corpora: Mapping[str, CorpusConfig]) -> dict[str, str]:
    """Of each local file that the corpora are read from, by name: what makes them the same text."""
    if not corpora:
        return {}
    from distill.corpus import corpus_files

    found: dict[str, str] = {}
    for name, corpus in corpora.items():
        found |= {f"corpus:{name}:{file}": hash_file(path) for file, path in corpus_files(corpus).items()}
    return found


def without_paths(corpus: CorpusConfig) -> CorpusConfig:
    """The same text in another folder is the same request: content counts, by digest."""
    if isinstance(corpus.source, Mixture):
        parts = {name: without_paths(part) for name, part in (corpus.source.parts or {}).items()}
        return corpus.model_copy(update={"source": corpus.source.model_copy(update={"parts": parts})})
    if not isinstance(corpus.source, TextFiles):
        return corpus
    return corpus.model_copy(update={"source": corpus.source.model_copy(update={"directory": Path()})})
