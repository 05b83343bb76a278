"""Wiring: a sealed data set, a start and perhaps a teacher in; a model directory out."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from artifact.config import Config
from artifact.dataset import read_info, read_split
from artifact.digest import hash_directory
from artifact.stage import Stage
from distill.config import ModelConfig
from distill.config_starts import Checkpoint
from distill.sources import locate

VERSION = 1


class DistillRequest(Config):
    """What is asked of this stage: one model of a recipe, by name."""

    name: str
    model: ModelConfig


def distill_stage(
    name: str, config: ModelConfig, *, data: Path, out: Path, models: Mapping[str, Path]
) -> tuple[Stage, Callable[[Path], Mapping[str, Any]]]:
    """The stage that makes model `name`, and its work; `models` says where the recipe's other models lie."""
    inputs, digests, source = {"data": data}, {}, None
    if config.teacher is not None:
        inputs["teacher"] = models[config.teacher]
    if isinstance(config.start, Checkpoint) and config.start.source.startswith("model:"):
        source = models[config.start.source.removeprefix("model:")]
        inputs["start"] = source
    elif isinstance(config.start, Checkpoint):
        source = locate(config.start.source)
        digests["start"] = hash_directory(source)
    start = source or models[config.teacher or ""]
    stage = Stage(
        name="distill", version=VERSION, kind="model", out=out, config=DistillRequest(name=name, model=config),
        inputs=inputs, digests=digests, resumable=True,
    )  # fmt: skip
    teacher = models[config.teacher] if config.teacher is not None else None
    return stage, lambda directory: run_distill(name, config, data=data, start=start, teacher=teacher, out=directory)


def run_distill(
    name: str, config: ModelConfig, *, data: Path, start: Path, teacher: Path | None, out: Path
) -> Mapping[str, Any]:
    """Fill `out` with the trained model and return what was measured; goes on from `out/checkpoints` if there are any.

    Raises `DataError`, `ModelError` or `TrainingError`.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    from distill.architectures import layers_of
    from distill.card import write_card
    from distill.check import check_phases
    from distill.loop import Run, train
    from distill.objectives import Depths
    from distill.student import build_start, count_parameters, load_classifier, load_tokenizer, save_model
    from distill.text import Texts

    begun = time.monotonic()
    accelerator = Accelerator()
    set_seed(config.seed)
    labels = read_info(data).labels
    trust = isinstance(config.start, Checkpoint) and config.start.trust_remote_code
    tokenizer = load_tokenizer(start, trust_remote_code=trust)
    student = build_start(config, start, labels).to(accelerator.device)
    taught_by = load_classifier(teacher, labels).to(accelerator.device).eval() if teacher is not None else None
    check_phases(config, taught_by, student)
    run = Run(
        config=config,
        student=student,
        teacher=taught_by,
        train=Texts(tokenizer, read_split(data, "train"), config.max_tokens, "train"),
        validation=Texts(tokenizer, read_split(data, "validation"), config.max_tokens, "validation"),
        depths=Depths(teacher=len(layers_of(taught_by or student)), student=len(layers_of(student))),
        directory=out,
        accelerator=accelerator,
    )
    facts = {"parameters": count_parameters(student), **train(run)}
    if accelerator.is_main_process:
        save_model(student, tokenizer, out, name=name, max_tokens=config.max_tokens)
        write_card(out, name, config, facts, labels)
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    accelerator.wait_for_everyone()
    return facts | {"device": str(accelerator.device), "seconds": round(time.monotonic() - begun, 1)}
