"""A student of one shape with random weights, as the graphs that the trained one would be exported to.

Built in a process of its own (`pipeline.processes`); it goes the way of `export.run`, all but the proof of parity.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from artifact.errors import ModelError
from distill.architectures import ARCHITECTURES
from distill.shape import Shape, shape_of, with_shape
from distill.student import count_parameters
from export.bundle import describe
from export.config import InstructionSet
from export.fuse import fuse
from export.graph import export_graph
from export.quantize import quantize_dynamic_int8
from export.quiet import quiet
from export.source import Source, load_source
from pipeline.plan_config import PlannedPrecision
from pipeline.plan_engine import Opening
from pipeline.plan_forms import DEPTHS, Form, forms_of
from pipeline.plan_records import Candidate, Teacher
from serve.bundle import BundleInfo

PLANNED: tuple[PlannedPrecision, ...] = ("float32", "int8")
TOKENIZER = "tokenizer.json"
_TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
)  # fmt: skip
_SPECIAL_IDS = ("pad_token_id", "cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One candidate to build."""

    candidate: Candidate
    teacher: Path
    """Directory with `config.json` and the tokenizer."""
    teacher_pieces: int
    labels: Sequence[str]
    max_tokens: int
    precisions: Sequence[PlannedPrecision]
    target: InstructionSet
    opset: int
    threads: int
    folder: Path
    """Where the graphs go; nothing else stays there."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A candidate whose graphs lie ready."""

    parameters: dict[str, int]
    openings: Mapping[PlannedPrecision, Mapping[Form, Opening]]
    """Every form of every precision asked for; first the one that counts where no other is surely faster."""


def read_teacher(directory: Path, source: str) -> Teacher:
    """What candidates are derived from, of `config.json` alone; `ModelError` when transformers does not read it."""
    try:
        config = AutoConfig.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot read the config of {source}: {' '.join(str(error).split())[:300]}") from None
    shape = shape_of(config)
    return Teacher(
        source=source,
        model_type=config.model_type,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        pieces=config.vocab_size,
        positions=_positions(config),
    )


def build(job: Job) -> Built:
    """The graphs of `job`, written to its folder.

    Raises `ExportError` when the architecture is not one we export, or a step fails.
    """
    torch.set_num_threads(1)  # several are built at a time
    model, scratch = random_student(job), job.folder / "model"
    _save(model, job, scratch)
    source = load_source(scratch)
    graphs = _make_graphs(source, job)
    info = _describe(describe(source, name=job.candidate.name, precisions=job.precisions), job.candidate.pieces)
    shutil.rmtree(scratch)
    pieces = job.candidate.pieces if job.candidate.pieces < job.teacher_pieces else None
    opening = partial(Opening, tokenizer=job.teacher / TOKENIZER, info=info, pieces=pieces, threads=job.threads)
    openings = {
        precision: {form: opening(graph=graph) for form, graph in forms.items()} for precision, forms in graphs.items()
    }
    return Built(parameters=count_parameters(model), openings=openings)


def random_student(job: Job) -> PreTrainedModel:
    """A classifier of the teacher's architecture in the candidate's shape, its weights random."""
    candidate = job.candidate
    shape = Shape(candidate.layers, candidate.hidden_size, candidate.heads, candidate.intermediate_size)
    config = with_shape(AutoConfig.from_pretrained(job.teacher), shape)
    special = {name: getattr(config, name, None) for name in _SPECIAL_IDS}
    config.update({name: value % candidate.pieces for name, value in special.items() if isinstance(value, int)})
    config.update({"vocab_size": candidate.pieces, "id2label": dict(enumerate(job.labels))})
    config.label2id = {label: index for index, label in enumerate(job.labels)}
    torch.manual_seed(0)
    with quiet():
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]  # untyped upstream
            config, dtype=torch.float32
        )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms start out equal, and a graph stores equal tensors once
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def _make_graphs(source: Source, job: Job) -> dict[PlannedPrecision, dict[Form, Path]]:
    """Trace, fuse to each depth, quantize what each fusion left."""
    graphs = {
        precision: {form: job.folder / f"{precision}-{form}.onnx" for form in forms_of(precision, job.target)}
        for precision in PLANNED
    }
    raw = job.folder / "float32-raw.onnx"
    export_graph(source, raw, opset=job.opset)
    for depth in DEPTHS:
        if depth in graphs["float32"]:
            fuse(raw, graphs["float32"][depth], source.architecture, depth=depth)
        if depth in graphs["int8"] and "int8" in job.precisions:
            quantize_dynamic_int8(graphs["float32"][depth], graphs["int8"][depth], job.target)
    return {precision: graphs[precision] for precision in job.precisions}


def _positions(config: PretrainedConfig) -> int | None:
    row = ARCHITECTURES.get(config.model_type)
    first = row.first_position if row else None
    positions = getattr(config, "max_position_embeddings", None)
    return positions and positions - (first(config) if first else 0)


def _save(model: PreTrainedModel, job: Job, directory: Path) -> None:
    model.save_pretrained(directory)
    for pattern in _TOKENIZER_FILES:
        for file in job.teacher.glob(pattern):
            shutil.copyfile(file, directory / file.name)
    (directory / "understudy.json").write_text(json.dumps({"max_tokens": job.max_tokens}), encoding="utf-8")


def _describe(description: dict[str, Any], pieces: int) -> BundleInfo:
    """What serving reads of a bundle's description, its padding folded like every id."""
    padding = description["padding"] | {"id": description["padding"]["id"] % pieces}
    return BundleInfo.model_validate(description | {"padding": padding})
