"""The model to be exported, loaded once and checked: what every later step needs to know of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from artifact.errors import ExportError
from export.pooling import Pooling, read_pooling
from export.quiet import quiet
from export.tasks import Problem, Task, problem_of, task_of

_LOADERS: dict[str, Any] = {
    "classification": AutoModelForSequenceClassification,
    "ranking": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "embedding": AutoModel,
}

SUPPORTED = (
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "xlm-roberta",
)  # fmt: skip
"""Values of `model_type` whose export is tested; optimum knows more, mostly decoders."""

_FIRST_POSITION_AFTER_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Families whose first token has position `pad_id + 1`, so that as many rows of the position table are never used."""


_ACTIVATION_FIELDS = {"distilbert": "activation", "modernbert": "hidden_activation"}
"""Where a family's config does not call its activation `hidden_act`."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the fusion patterns depend on."""

    model_type: str
    layers: int
    heads: int
    hidden: int
    activation: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model in PyTorch, float32 and eager, with its tokenizer, its task and the limits of its inputs."""

    directory: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    architecture: Architecture
    task: Task
    problem: Problem | None
    """Of a sequence classifier; else none."""
    pooling: Pooling
    labels: tuple[str, ...]
    """In order of their id; none where the task has none."""
    max_tokens: int
    """Longest input the bundle promises to answer, special tokens included."""
    pad_id: int


def load_source(directory: Path) -> Source:
    """The model in `directory`: local files and safetensors only, no code from the model's authors.

    Raises `ExportError` when it is of an architecture or task we do not export, when weights are missing (a head
    that transformers would fill with noise), or when labels, pooling, tokenizer or length limit do not fit.
    """
    config = _read_json(directory / "config.json")
    task = _task(directory, config)
    model = _load_model(directory, task)
    tokenizer = _load_tokenizer(directory)
    shape: Any = model.config
    labels = _ordered_labels(directory, shape.id2label) if task.labelled else ()
    classifies = task.name == "classification"
    return Source(
        directory=directory,
        model=model,
        tokenizer=tokenizer,
        architecture=Architecture(
            model_type=shape.model_type,
            layers=shape.num_hidden_layers,
            heads=shape.num_attention_heads,
            hidden=shape.hidden_size,
            activation=getattr(shape, _ACTIVATION_FIELDS.get(shape.model_type, "hidden_act")),
        ),
        task=task,
        problem=problem_of(labels=len(labels), problem_type=shape.problem_type) if classifies else None,
        pooling=read_pooling(directory),
        labels=labels,
        max_tokens=_max_tokens(directory, tokenizer, shape),
        pad_id=int(tokenizer.pad_token_id),
    )


def _task(directory: Path, config: dict[str, Any]) -> Task:
    model_type = config.get("model_type")
    if model_type not in SUPPORTED:
        raise ExportError(f"{directory} is a {model_type!r} model", f"export supports {', '.join(SUPPORTED)}")
    architecture = (config.get("architectures") or [""])[0]
    labels = len(config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"})  # transformers' default is two
    return task_of(architecture, labels=labels, problem_type=config.get("problem_type"), where=str(directory))


def _load_model(directory: Path, task: Task) -> PreTrainedModel:
    try:
        with quiet():
            model, notes = _LOADERS[task.name].from_pretrained(
                directory,
                attn_implementation="eager",  # the only form whose torchscript graph ONNX Runtime fuses everywhere
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise ExportError(f"cannot load {directory}: {str(error).splitlines()[0]}") from error
    missing = sorted(key for key in notes["missing_keys"] if not _is_unused(key, task))
    if missing:
        raise ExportError(f"{directory} lacks weights of its model: {', '.join(missing[:4])}", "train it first")
    model.eval()
    return model  # type: ignore[no-any-return]  # the auto class is untyped


def _is_unused(key: str, task: Task) -> bool:
    """The pooler of a bare encoder: transformers always builds one, and our own pooling does not ask it."""
    return task.name == "embedding" and key.startswith("pooler.")


def _load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    if not (directory / "tokenizer.json").is_file():
        raise ExportError(f"{directory} has no tokenizer.json", "save it with a fast tokenizer: serving needs one")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]  # the auto class is untyped
                directory, local_files_only=True, use_fast=True
            )
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot load the tokenizer of {directory}: {str(error).splitlines()[0]}") from error
    if tokenizer.pad_token_id is None:
        raise ExportError(f"the tokenizer of {directory} has no padding token", "name one in tokenizer_config.json")
    return tokenizer  # type: ignore[no-any-return]  # the auto class is untyped


def _ordered_labels(directory: Path, names: dict[int, str]) -> tuple[str, ...]:
    if sorted(names) != list(range(len(names))):
        raise ExportError(f"{directory}/config.json: id2label must count 0..{len(names) - 1}, found {sorted(names)}")
    return tuple(names[index] for index in range(len(names)))


def _max_tokens(directory: Path, tokenizer: PreTrainedTokenizerFast, config: Any) -> int:
    positions = config.max_position_embeddings
    if config.model_type in _FIRST_POSITION_AFTER_PADDING:
        positions -= config.pad_token_id + 1
    stated, pooled = directory / "understudy.json", directory / "sentence_bert_config.json"
    asked: Any = min(tokenizer.model_max_length, positions)
    if stated.is_file():
        asked = _read_json(stated).get("max_tokens")
    elif pooled.is_file():  # sentence-transformers' own limit, often less than the positions
        asked = _read_json(pooled).get("max_seq_length") or asked
    if not isinstance(asked, int) or not 2 <= asked <= positions:
        raise ExportError(f"{directory}: max_tokens is {asked!r}, expected 2..{positions}, the model's positions")
    return asked


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "name a directory that transformers saved, with config.json and model.safetensors"
        raise ExportError(f"there is no {path}", hint) from None
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot read {path}: {error}") from None
    if not isinstance(tree, dict):
        raise ExportError(f"{path} holds a {type(tree).__name__}, expected a mapping")
    return tree
