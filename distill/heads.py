"""What a model has above its encoder, by the task of its data: a table, so that nothing else asks which task it is.

A model without a head is built with a classifier that nothing reads, since the same modules then hold every kind of
run; it is saved without.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from artifact.dataset import OUTSIDE, Task
from artifact.errors import ModelError
from distill.architectures import architecture_of

Answers = Literal["rivals", "quantity", "chance"]
"""What a head's columns are: of which one is right, a quantity to come near, or the log-odds of being right."""

_UNNAMED = ("LABEL_0", "LABEL_1")
"""What transformers calls the columns of whoever names none."""

_SUFFIXES: Mapping[Task, str] = {
    "classification": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "response-selection": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "out-of-domain-detection": "ForSequenceClassification",
    "text": "ForSequenceClassification",
}
_LOADERS: Mapping[str, Any] = {
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
    "ForQuestionAnswering": AutoModelForQuestionAnswering,
}
_ANSWERS: Mapping[Task, Answers] = {"regression": "quantity", "response-selection": "chance"}
_PROBLEMS: Mapping[Task, str] = {"classification": "single_label_classification", "regression": "regression"}
"""`problem_type` of the model's config; one column without is a ranking, as sentence-transformers has it."""


@dataclass(frozen=True)
class Head:
    """The head of a task."""

    labels: tuple[str, ...] = _UNNAMED
    """In the order of the columns."""
    task: Task = "classification"
    """`text` for none."""

    @classmethod
    def of(cls, task: Task, labels: tuple[str, ...]) -> "Head":
        """The head for a data set; the beginnings and ends of answers have columns, but no labels."""
        return cls(labels or _UNNAMED, task)

    @property
    def answers(self) -> Answers:
        """What its columns are."""
        return _ANSWERS.get(self.task, "rivals")

    @property
    def is_per_token(self) -> bool:
        """Whether it says something of each token."""
        return self.task in ("token-classification", "question-answering")

    @property
    def outside(self) -> int | None:
        """The column of words that are part of no name; None where there is none, as of parts of speech."""
        tags = self.task == "token-classification" and OUTSIDE in self.labels
        return self.labels.index(OUTSIDE) if tags else None

    @property
    def suffix(self) -> str:
        """How the architecture is called that has it."""
        return _SUFFIXES[self.task]

    def write(self, config: Any) -> None:
        """Have a transformers config describe it."""
        config.num_labels = len(self.labels)
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {label: index for index, label in enumerate(self.labels)}
        config.problem_type = _PROBLEMS.get(self.task)
        config.dtype = torch.float32

    def on(self, config: Any) -> PreTrainedModel:
        """A model of that config with random weights."""
        model: PreTrainedModel = _LOADERS[self.suffix].from_config(config)
        return model

    def suits(self, config: Any) -> bool:
        """Whether loading a model of that config with this head brings no weights that were learnt for other labels."""
        found = [config.id2label.get(index, "") for index in range(len(self.labels))]
        named = any(name != f"LABEL_{index}" for index, name in enumerate(found))
        return config.num_labels != len(self.labels) or not named or found == list(self.labels)


NO_HEAD = Head(task="text")


def load_model(directory: Path, head: Head, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model in `directory` with this head; one that was made for something else is made anew.

    Raises `ModelError` for an architecture without such a head, and for one whose projections we do not know.
    """
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        keeps = head.suits(config) and not _is_other_kind(config, head)
        head.write(config)
        model = _LOADERS[head.suffix].from_pretrained(
            directory,
            config=config,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        what = "an encoder" if head == NO_HEAD else f"a model for {head.task}"
        raise ModelError(f"cannot load {directory} as {what}: {' '.join(str(error).split())[:300]}") from None
    architecture_of(model)
    loaded: PreTrainedModel = model
    return loaded if keeps else _with_new_head(loaded)


def _is_other_kind(config: Any, head: Head) -> bool:
    """Whether it was saved with a head of another kind, whose weights may bear the same names."""
    (architecture,) = (config.architectures or [""])[:1]
    return "For" in architecture and not architecture.endswith((head.suffix, "ForMaskedLM"))


def _with_new_head(model: PreTrainedModel) -> PreTrainedModel:
    fresh: PreTrainedModel = type(model)(model.config)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh
