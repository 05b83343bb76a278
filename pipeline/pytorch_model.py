"""A model directory in PyTorch, whatever its head: opened by the class its `config.json` names, answered by output."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact.errors import ModelError
from export.tasks import TaskName, problem_of, task_of
from serve.bundle import BY_TOKEN
from serve.engine import PER_TOKEN, Problem

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from export.pooling import Pooling

LOADERS: Mapping[TaskName, str] = {
    "classification": "AutoModelForSequenceClassification",
    "ranking": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "embedding": "AutoModel",
}
"""Names of transformers' classes, so that nothing is imported before a model is opened."""

OUTPUTS: Mapping[TaskName, Mapping[str, str]] = {
    "classification": {"logits": "logits"},
    "ranking": {"logits": "logits"},
    "token-classification": {"logits": "token_logits"},
    "question-answering": {"start_logits": "start_logits", "end_logits": "end_logits"},
    "embedding": {},
}
"""Transformers' name of each output, and the engine's; beside them, each model gives an embedding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A model and what its columns are."""

    model: "PreTrainedModel"
    task: TaskName
    labels: tuple[str, ...]
    problem: Problem | None
    pooling: "Pooling"


def open_model(directory: Path, **options: Any) -> Opened:
    """The model at that path, in evaluation mode; `options` go to transformers.

    Raises `ModelError` when it does not load, `ExportError` for a head or pooling that no bundle has.
    """
    import transformers

    from export.pooling import read_pooling

    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        architecture = (config.get("architectures") or [""])[0]
        names = config.get("id2label") or {}
        task = task_of(
            architecture, labels=len(names) or 2, problem_type=config.get("problem_type"), where=str(directory)
        )
        model = getattr(transformers, LOADERS[task.name]).from_pretrained(directory, **options).eval()
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{directory} does not load in PyTorch: {str(error).splitlines()[0]}") from None
    labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels)) if task.labelled else ()
    own = problem_of(labels=len(labels), problem_type=config.get("problem_type"))
    return Opened(
        model=model,
        task=task.name,
        labels=labels,
        problem=own if task.name == "classification" else BY_TOKEN.get(task.name),
        pooling=read_pooling(directory),
    )


def forward(
    model: "PreTrainedModel", task: TaskName, pooling: "Pooling", inputs: Mapping[str, "torch.Tensor"]
) -> dict[str, list[Any]]:
    """What one batch gives, by output, an array a row; of what is said of tokens, padding is left out.

    `inputs` are padded on the right, as the tokenizers of these models do.
    """
    import torch

    with torch.inference_mode():
        answer = model(**inputs, output_hidden_states=True)
        mask = inputs["attention_mask"]
        vectors = pooling(answer.hidden_states[-1], mask)
    sizes = mask.sum(dim=1).tolist()
    found = {ours: answer[theirs].numpy() for theirs, ours in OUTPUTS[task].items()}
    cut = {
        name: [row[:size] for row, size in zip(array, sizes, strict=True)] if name in PER_TOKEN else list(array)
        for name, array in found.items()
    }
    return cut | {"sentence_embedding": list(vectors.numpy())}
