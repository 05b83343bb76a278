"""What a task means for the rows of a report: what a model must be, how it is asked, what is true of an example.

    TASKS["token-classification"].ask(asking, examples, step).answers

How answers are scored is in `pipeline.scores.quality`, by the name of the metric.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from artifact.dataset import DatasetInfo, Example, Task
from artifact.errors import DataError
from pipeline.asking.asked import Ask, Asking, Step
from pipeline.asking.columns import ask_labels, ask_quantities
from pipeline.asking.distances import ask_distances
from pipeline.asking.ranking import ask_ranks, choose_threshold, open_queries
from pipeline.asking.spans import ask_answers
from pipeline.asking.tags import ask_tags
from pipeline.results import Answer, NoneThreshold
from pipeline.rows import Row
from serve.engine import Kind
from serve.latency.plan import Asked
from serve.latency.worker import Measurable

SHOWN_END = 160
"""Characters of a conversation that are shown: its last ones."""


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """One task."""

    truth: Callable[[Example], Answer]
    ask: Ask
    fits: Callable[[Sequence[str], DatasetInfo], bool]
    """Whether a model with these columns is of this task, of the data set's labels."""
    graph: Kind | None = None
    """What the graph of such a model is, where it says something of every token."""
    shown: Callable[[Example], str] = lambda example: example.text
    """An example in a list of them."""
    benched: Callable[[Example], Asked] = lambda example: example.asked
    """What one call of a benchmark is about."""
    asks_texts: bool = True
    """Whether a model may be asked a lone text, such as one made to a length."""
    open_benched: Callable[[Callable[[], Row]], Callable[[], Measurable]] | None = None
    """What makes of an opener of rows one that answers such calls; None where rows do."""
    path: str = "/predict"
    """The service's route, one of `serve.latency.client.BODIES`."""
    choose: Callable[[Asking, Sequence[Example], Step], NoneThreshold | None] | None = None
    """What is chosen on the validation split before the test split is asked."""
    knows_outside: bool = False
    """Whether rows are also asked what is out of domain."""


def kind_of_data(info: DatasetInfo) -> TaskKind:
    """The entry of a data set's task; `DataError` for bare text, of which nothing is to be said."""
    if info.task not in TASKS:
        raise DataError(f"a data set of the task {info.task!r} has nothing to answer", "give it labels")
    return TASKS[info.task]


def _same_labels(columns: Sequence[str], info: DatasetInfo) -> bool:
    return tuple(columns) == tuple(info.labels)


def _show_pair(example: Example) -> str:
    return example.text if example.pair is None else f"{example.text} | {example.pair}"


def _show_end(example: Example) -> str:
    return example.text if len(example.text) <= SHOWN_END else f"…{example.text[-SHOWN_END:]}"


TASKS: Mapping[Task, TaskKind] = {
    "classification": TaskKind(
        truth=lambda example: example.label, ask=ask_labels, fits=_same_labels, shown=_show_pair, knows_outside=True,
    ),
    "regression": TaskKind(
        truth=lambda example: float(example.value or 0), ask=ask_quantities,
        fits=lambda columns, _: len(columns) == 1, shown=_show_pair,
    ),
    "token-classification": TaskKind(
        truth=lambda example: tuple(example.tags or ()), ask=ask_tags, fits=_same_labels,
        graph="tagger", path="/tag",
    ),
    "question-answering": TaskKind(
        truth=lambda example: tuple(answer.text for answer in example.answers or ()), ask=ask_answers,
        fits=lambda _, __: True, graph="reader", asks_texts=False, path="/answer",
    ),
    "response-selection": TaskKind(
        truth=lambda example: example.label, ask=ask_ranks, fits=lambda columns, _: len(columns) <= 1, shown=_show_end,
        benched=lambda example: (example.text, *(example.candidates or ())), asks_texts=False,
        open_benched=open_queries, path="/rerank", choose=choose_threshold,
    ),
    "out-of-domain-detection": TaskKind(
        truth=lambda example: example.label, ask=ask_distances, fits=lambda _, __: True, path="/embed",
    ),
}  # fmt: skip
"""Bare text has no entry: nothing is scored of it."""
