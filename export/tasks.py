"""What a model answers, task by task: a table, so that few other modules need to ask which task it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from artifact.errors import ExportError

TaskName: TypeAlias = Literal["classification", "ranking", "token-classification", "question-answering", "embedding"]
Problem: TypeAlias = Literal["single-label", "multi-label", "regression"]
"""What the columns of a classifier's logits are: rivals, independent yes or no, or a measured quantity."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of answer."""

    name: TaskName
    suffix: str
    """How the architecture in `config.json` ends; empty for an encoder without a head."""
    opener: str
    """The class of optimum that opens the bundle."""
    pipeline_tag: str
    """The Hub's name of the task."""
    outputs: Mapping[str, tuple[str, ...]]
    """Axes of each output, in the graph's order; named as the field's libraries name them."""
    labelled: bool = True
    """Whether the logits have one named column a label."""


VECTOR = "sentence_embedding"
"""The output that every task has, and by which graphs of few bits are compared."""
_EMBEDDING = {VECTOR: ("batch", "hidden")}

TASKS: dict[TaskName, Task] = {
    task.name: task
    for task in (
        Task(
            name="classification", suffix="ForSequenceClassification",
            opener="ORTModelForSequenceClassification", pipeline_tag="text-classification",
            outputs={"logits": ("batch", "labels"), **_EMBEDDING},
        ),
        Task(
            name="ranking", suffix="ForSequenceClassification",
            opener="ORTModelForSequenceClassification", pipeline_tag="text-ranking",
            outputs={"logits": ("batch", "labels"), **_EMBEDDING},
        ),
        Task(
            name="token-classification", suffix="ForTokenClassification",
            opener="ORTModelForTokenClassification", pipeline_tag="token-classification",
            outputs={"logits": ("batch", "sequence", "labels"), **_EMBEDDING},
        ),
        Task(
            name="question-answering", suffix="ForQuestionAnswering",
            opener="ORTModelForQuestionAnswering", pipeline_tag="question-answering",
            outputs={"start_logits": ("batch", "sequence"), "end_logits": ("batch", "sequence"), **_EMBEDDING},
            labelled=False,
        ),
        Task(
            name="embedding", suffix="Model", opener="ORTModelForFeatureExtraction",
            pipeline_tag="sentence-similarity",
            outputs={"last_hidden_state": ("batch", "sequence", "hidden"), **_EMBEDDING},
            labelled=False,
        ),
    )
}  # fmt: skip
"""`ranking` is a classifier of pairs with one column: a cross-encoder."""


def has_place_per_token(name: str, dimensions: int) -> bool:
    """Whether the output `name` of so many dimensions says something of every token, and so of padding too."""
    return dimensions == 3 or name in ("start_logits", "end_logits")


def task_of(architecture: str, *, labels: int, problem_type: str | None, where: str) -> Task:
    """The task of a model whose `config.json` names `architecture`.

    A sequence classifier of one column is a ranking, as in sentence-transformers, unless its config says that it is a
    regression, as transformers writes once it was trained as one. Raises `ExportError` for any other head.
    """
    if architecture.endswith("ForSequenceClassification") and labels == 1 and problem_type != "regression":
        return TASKS["ranking"]
    for task in TASKS.values():
        if architecture.endswith(task.suffix):
            return task
    heads = ", ".join(dict.fromkeys(f"...{task.suffix}" for task in TASKS.values()))
    raise ExportError(
        f"{where} holds {architecture or 'no architecture'}, a head we do not export", f"expected {heads}"
    )


def problem_of(*, labels: int, problem_type: str | None) -> Problem:
    """What a classifier's columns mean; without a word in the config, rivals, or a quantity where there is one."""
    if problem_type == "multi_label_classification":
        return "multi-label"
    if problem_type == "regression" or labels == 1:
        return "regression"
    return "single-label"
