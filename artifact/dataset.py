"""The data set artefact: `dataset.json` and one JSON-lines file a split, as every stage reads it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from artifact.config import Config
from artifact.errors import DataError
from artifact.manifest import write_json

Item = TypeVar("Item")

Split = Literal["train", "validation", "test", "out_of_domain"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "out_of_domain")

Task = Literal[
    "classification", "regression", "token-classification", "question-answering", "response-selection",
    "out-of-domain-detection", "text",
]  # fmt: skip
"""What is to be said of an example: one label or one quantity of a text or pair, a tag of each word, the part of a
context that answers a question, which of some candidates comes next, whether it is unlike the texts that were learnt
from, or nothing at all."""

DETECTION: Task = "out-of-domain-detection"
"""Training and validation splits hold texts of the domain alone, the test split also texts from outside: label 1."""

INSIDE = 0
"""Label of a test text of the domain."""

WITHOUT_HEAD: tuple[Task, ...] = (DETECTION, "text")
"""Tasks that no label teaches: their models are encoders."""

METRICS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "f1", "macro_f1", "matthews_correlation"),
    "regression": ("spearman", "pearson"),
    "token-classification": ("span_f1", "tag_accuracy"),
    "question-answering": ("word_f1", "exact_match"),
    "response-selection": ("mean_mrr_recall_10", "mrr", "recall_1", "recall_2", "recall_5", "recall_10"),
    "out-of-domain-detection": ("auroc",),
    "text": (),
}
"""By task, the metrics that quality can be; the first that suits the labels where nobody says."""

ONE_COLUMN: Mapping[Task, str] = {"regression": "quantity", "response-selection": "relevance"}
"""Tasks whose models give one number, and the name of that column: a quantity, or the log-odds of being right."""


OUTSIDE = "O"
"""Of words, the label that stands first: the word is part of no name (IOB2)."""


class DatasetInfo(Config):
    """`dataset.json`: the task and its label list, whose order is that of the model's outputs."""

    task: Task = "classification"
    labels: tuple[str, ...]
    """Of texts or of words; the one column of a quantity or a ranking; none for spans of answers and bare text."""
    examples: dict[str, int]
    """Rows of each split."""
    metric: str | None = None
    """Of quality, one of `metrics_of`; left out, the first of them."""
    groups: tuple[str, ...] = ()
    """Names of parts that are also scored apart, such as languages."""

    @property
    def quality(self) -> str:
        """Name of the metric that quality is; `DataError` for bare text, which has none."""
        if self.metric is not None:
            return self.metric
        if not METRICS[self.task]:
            raise DataError(f"a data set of the task {self.task!r} has nothing to score", "give it labels")
        return metrics_of(self.task, self.labels)[0]


class Answer(Config):
    """One of the answers that people gave: its first character in the context, and its text."""

    start: int
    text: str


class Example(Config):
    """One row. What its task does not need is left out."""

    text: str
    """The text; of a pair the first: a question, or the conversation so far."""
    pair: str | None = None
    """The second text of a pair: another sentence, the context that is asked, or the utterance that came next."""
    label: int = -1
    """Index of the label, or of the right candidate; -1 where it has none of the list (out of domain, or NONE)."""
    value: float | None = None
    """Regression: the quantity."""
    words: tuple[tuple[int, int], ...] | None = None
    """Token classification: first character of each word in the text, and one past its last."""
    tags: tuple[int, ...] | None = None
    """Index of each word's label."""
    answers: tuple[Answer, ...] | None = None
    """Question answering: in the pair's characters; empty where the context does not answer."""
    candidates: tuple[str, ...] | None = None
    """Response selection: utterances that may come next. A training row has none: its `pair` is the right one."""
    group: str | None = None
    """The part that it belongs to, such as its language."""

    @property
    def asked(self) -> "str | tuple[str, str]":
        """What a model reads: the text, or the pair."""
        return self.text if self.pair is None else (self.text, self.pair)

    @property
    def texts(self) -> tuple[str, ...]:
        """All that was written in it, for whoever counts words: the text, its pair and its candidates."""
        return (self.text, *(() if self.pair is None else (self.pair,)), *(self.candidates or ()))


def metrics_of(task: Task, labels: Sequence[str]) -> tuple[str, ...]:
    """Those of the task that such labels can have: spans are read off IOB2 tags, which parts of speech are not."""
    lacking = set[str]()
    if not all(label[:2] in (OUTSIDE, "B-", "I-") for label in labels):
        lacking.add("span_f1")
    if len(labels) != 2:
        lacking |= {"f1", "matthews_correlation"}
    return tuple(metric for metric in METRICS[task] if metric not in lacking)


def pick_evenly(items: Sequence[Item], most: int) -> Sequence[Item]:
    """At most `most` of `items`, evenly spaced: a split may be sorted by label, time or channel."""
    if len(items) <= most:
        return items
    return [items[place * len(items) // most] for place in range(most)]


def read_info(directory: Path) -> DatasetInfo:
    """The `dataset.json` of a data set artefact."""
    try:
        return DatasetInfo.model_validate_json((directory / "dataset.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{directory} holds no data set: {str(error).splitlines()[0]}") from None


def read_split(directory: Path, split: Split) -> list[Example]:
    """The rows of one split, in the order of the file."""
    with (directory / f"{split}.jsonl").open(encoding="utf-8") as file:
        return [Example.model_validate_json(line) for line in file]


def write_dataset(
    directory: Path,
    labels: Sequence[str],
    splits: Mapping[Split, Sequence[Example]],
    *,
    task: Task = "classification",
    metric: str | None = None,
) -> DatasetInfo:
    """Write all splits and `dataset.json`; every split has its file, also when it is empty."""
    for split in SPLITS:
        _write_rows(directory / f"{split}.jsonl", splits.get(split, ()))
    groups = dict.fromkeys(row.group for rows in splits.values() for row in rows if row.group is not None)
    examples = {split: len(splits.get(split, ())) for split in SPLITS}
    info = DatasetInfo(task=task, labels=tuple(labels), examples=examples, metric=metric, groups=tuple(groups))
    # What a data set does not have is not written, so that one of an earlier version keeps its digest.
    left_out = None if info.groups else {"groups"}
    write_json(directory / "dataset.json", info.model_dump(mode="json", exclude_none=True, exclude=left_out))
    return info


def _write_rows(path: Path, rows: Iterable[Example]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row.model_dump(exclude_none=True), ensure_ascii=False) + "\n")
