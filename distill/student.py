"""Builds the model that a run starts from, and counts parameters as the papers do."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import ModelError
from distill.architectures import architecture_of, embeddings_of, layers_of
from distill.config import ModelConfig
from distill.config_starts import Checkpoint, Layers, Random


def load_classifier(directory: Path, labels: Sequence[str], *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model in `directory` with a classification head for `labels`; a head of another size is made anew.

    Raises `ModelError` for an architecture without a classifier, and for one whose projections we do not know.
    """
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        _set_labels(config, labels)
        model = AutoModelForSequenceClassification.from_pretrained(
            directory,
            config=config,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"cannot load {directory} as a classifier: {' '.join(str(error).split())[:300]}") from None
    architecture_of(model)
    classifier: PreTrainedModel = model
    return classifier


def load_tokenizer(directory: Path, *, trust_remote_code: bool = False) -> Tokenizer:
    """The fast tokenizer in `directory`; `ModelError` when it has none, since spans and serving need one."""
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]  # untyped upstream
            directory, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load the tokenizer in {directory}: {str(error).strip().splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{directory} has no fast tokenizer", "add a tokenizer.json to it")
    return tokenizer


def build_start(config: ModelConfig, source: Path, labels: Sequence[str]) -> PreTrainedModel:
    """The untrained model: `source` itself, some of its layers, or random weights of a given shape.

    `source` is the checkpoint's directory, or the teacher's where the start is made from the teacher.
    Raises `ModelError` when layers do not exist or heads do not divide the width, with the numbers.
    """
    match config.start:
        case Checkpoint(trust_remote_code=trust):
            return load_classifier(source, labels, trust_remote_code=trust)
        case Layers(layers=layers):
            return keep_layers(load_classifier(source, labels), layers)
        case Random() as shape:
            return _random(load_classifier(source, labels), shape)


def keep_layers(teacher: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A copy of `teacher` with only the layers at the 0-based indices `kept`, in that order."""
    count = len(layers_of(teacher))
    wrong = [index for index in kept if not 0 <= index < count]
    if wrong:
        raise ModelError(f"start.layers names {wrong}, expected indices of the teacher's layers, 0 to {count - 1}")
    row = architecture_of(teacher)
    config = copy.deepcopy(teacher.config)
    setattr(config, row.layer_count, len(kept))
    student: PreTrainedModel = type(teacher)(config)
    prefix = f"{teacher.base_model_prefix}.{row.layers}."
    state = {k: v for k, v in teacher.state_dict().items() if not k.startswith(prefix)}
    for new, old in enumerate(kept):
        state |= {f"{prefix}{new}.{k}": v for k, v in layers_of(teacher)[old].state_dict().items()}
    student.load_state_dict(state)
    return student


def count_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Parameters of the embeddings, of the Transformer layers, and of the rest (pooler and head), and in all."""
    embedding = sum(p.numel() for p in embeddings_of(model).parameters())
    transformer = sum(p.numel() for p in layers_of(model).parameters())
    total = sum(p.numel() for p in model.parameters())
    return {
        "embedding": embedding,
        "transformer": transformer,
        "head": total - embedding - transformer,
        "total": total,
    }


def save_model(model: PreTrainedModel, tokenizer: Tokenizer, directory: Path, *, name: str, max_tokens: int) -> None:
    """Write the Hugging Face layout: config, safetensors, tokenizer, and our `understudy.json`."""
    model.config._name_or_path = ""  # noqa: SLF001 - no path of this machine in an artefact
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = max_tokens
    tokenizer.init_kwargs.pop("name_or_path", None)
    tokenizer.save_pretrained(directory)
    about = {"schema_version": 1, "name": name, "task": "classification", "max_tokens": max_tokens}
    (directory / "understudy.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _random(teacher: PreTrainedModel, shape: Random) -> PreTrainedModel:
    config = copy.deepcopy(teacher.config)
    config.update({
        architecture_of(teacher).layer_count: shape.layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate_size or 4 * shape.hidden_size,
    })  # fmt: skip
    student: PreTrainedModel = type(teacher)(config)
    return student


def _set_labels(config: Any, labels: Sequence[str]) -> None:
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    config.dtype = torch.float32
