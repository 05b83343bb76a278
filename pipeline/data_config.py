"""What a recipe says of its data: where rows lie, which field is what, and what is to be said of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from artifact.config import Config
from artifact.dataset import DETECTION, METRICS, WITHOUT_HEAD, Split, Task
from pipeline.data_contrast import Contrast


class Generator(Config):
    """Data that the project generates itself from a grammar; the same seed gives the same bytes."""

    kind: Literal["generator"]
    grammar: Path
    """YAML grammar, such as `recipes/data/intents.yaml`, or of tagged words `recipes/data/names.yaml`."""
    seed: int = Field(default=1, ge=0)


class Conversations(Config):
    """Conversations that the project generates itself, for `response-selection`."""

    kind: Literal["conversations"]
    grammar: Path
    """YAML of topics, such as `recipes/noesis/conversations.yaml`."""
    seed: int = Field(default=1, ge=0)


class Files(Config):
    """Local files: JSON lines, CSV or Parquet, compressed or not."""

    kind: Literal["files"]
    directory: Path = Path()
    """Folder that the other paths are relative to: the one thing to override on another machine."""
    train: Path
    validation: Path | None = None
    """Left out, `held_out_share` of the training rows."""
    test: Path | None = None
    """Left out, `held_out_share` of the training rows, others than the validation's."""
    out_of_domain: Path | None = None
    """Text from elsewhere, in the text field, for the out-of-domain split; one file for all groups."""
    held_out_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Of the training rows that each split without a file gets, chosen by the text: the same ones on every machine."""
    groups: dict[str, Path] | None = None
    """Sub-folders of `directory` by name, such as a language, each with the files named above."""
    train_groups: tuple[str, ...] | None = None
    """Groups that are trained on; left out, all. The test split has all groups always."""
    validation_groups: tuple[str, ...] | None = None
    """Groups that are selected on; left out, the `train_groups`, so that a transfer to the others is zero-shot."""

    @model_validator(mode="after")
    def _check_groups(self) -> "Files":
        for name, chosen in (("train_groups", self.train_groups), ("validation_groups", self.validation_groups)):
            strange = set(chosen or ()) - set(self.groups or {})
            if strange:
                raise ValueError(f"{name} names {', '.join(sorted(strange))}, which groups does not")
            if chosen == ():
                raise ValueError(f"{name} is empty")
        return self

    def folders(self, split: str) -> Mapping[str | None, Path]:
        """The folders that a split is read from, by group; without groups, `directory` alone under None."""
        if self.groups is None:
            return {None: self.directory}
        trained = self.train_groups or tuple(self.groups)
        chosen = {"train": trained, "validation": self.validation_groups or trained}.get(split, tuple(self.groups))
        return {name: self.directory / folder for name, folder in self.groups.items() if name in chosen}


class Dstc8(Config):
    """Dialogues as NOESIS II (DSTC 8, track 2, subtasks 1 and 2) gives them: one JSON array a split, or .gz of it."""

    kind: Literal["dstc8"]
    directory: Path = Path()
    """Folder that the other paths are relative to."""
    train: Path
    validation: Path
    test: Path

    def files(self) -> dict[str, Path]:
        """What is read, by split."""
        return {name: self.directory / getattr(self, name) for name in ("train", "validation", "test")}


class Hub(Config):
    """A data set of the Hugging Face Hub."""

    kind: Literal["hub"]
    name: str
    configuration: str | None = None
    revision: str | None = None
    """Commit, for a result that can be had again."""
    train: str = "train"
    validation: str = "validation"
    test: str = "test"


Source = Annotated[Generator | Conversations | Files | Contrast | Dstc8 | Hub, Field(discriminator="kind")]


class Fields(Config):
    """Names of the columns that a task reads; None where it has no such thing."""

    text: str
    pair: str | None = None
    label: str | None = None
    candidates: str | None = None
    group: str | None = None


DEFAULT_FIELDS: Mapping[Task, Fields] = {
    "classification": Fields(text="text", label="label"),
    "regression": Fields(text="text", label="label"),
    "token-classification": Fields(text="tokens", label="ner_tags"),
    "question-answering": Fields(text="question", pair="context", label="answers"),
    "response-selection": Fields(text="context", pair="response", label="label", candidates="candidates"),
    "out-of-domain-detection": Fields(text="text"),
    "text": Fields(text="text"),
}
"""Where a recipe names no field."""

_PAIRED: tuple[Task, ...] = ("classification", "regression", "question-answering", "response-selection", "text")
_LABELLED: tuple[Task, ...] = ("classification", "token-classification")


class DataConfig(Config):
    """Where texts and labels come from."""

    source: Source
    task: Task = "classification"
    """What is to be said of an example."""
    metric: str | None = None
    """What quality is: one of the task's metrics; left out, the first of them (docs/data.md)."""
    text_field: str | None = None
    """The text; by task `text`, `tokens` (a list of words), `question`, or `context` (a list of turns)."""
    pair_field: str | None = None
    """The second text of a pair; by task none, `context` of a question, or `response`, the utterance that came next."""
    label_field: str | None = None
    """By task `label`, `ner_tags` (one a word), or `answers` (`text[]` and `answer_start[]`)."""
    candidates_field: str | None = None
    """Response selection: the list that `label` is an index of, in validation and test rows; `candidates`."""
    group_field: str | None = None
    """The part that a row belongs to, such as where it was taken from; scored apart too."""
    word_separator: str | None = None
    """Token classification: what stands between words; one blank, or nothing for languages that write none."""
    turn_separator: str | None = None
    """Response selection: what stands between turns, each `speaker: utterance`; a line break."""
    labels: tuple[str, ...] | None = None
    """The label list, in order; left out, the sorted labels of the training split (of words: of all, `O` first)."""
    outside_tags: tuple[str, ...] | None = None
    """Token classification: names of spans that count as `O`, such as `MISC` where another group marks none."""
    out_of_domain_labels: tuple[str, ...] = ()
    """Rows with these labels are no class: they leave the three splits and form the out-of-domain text, which the task
    `out-of-domain-detection` tests on beside its own test rows."""
    rows: dict[Split, PositiveInt] | None = None
    """At most so many rows of a split, spread evenly over it: for a quick look."""

    @model_validator(mode="after")
    def _check_task(self) -> "DataConfig":
        faults = [*self._metric_faults(), *self._field_faults(), *self._source_faults()]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def fields(self) -> Fields:
        """The columns to read, the task's own where the recipe names none."""
        named = {
            "text": self.text_field, "pair": self.pair_field, "label": self.label_field,
            "candidates": self.candidates_field, "group": self.group_field,
        }  # fmt: skip
        return DEFAULT_FIELDS[self.task].model_copy(update={k: v for k, v in named.items() if v is not None})

    def _metric_faults(self) -> Iterator[str]:
        known = METRICS[self.task]
        if self.metric is not None and self.metric not in known:
            yield f"metric is {self.metric!r}, expected {' or '.join(known) or 'none'} for the task {self.task}"

    def _field_faults(self) -> Iterator[str]:
        allowed: dict[str, tuple[bool, bool]] = {
            "pair_field": (self.pair_field is not None, self.task in _PAIRED),
            "label_field": (self.label_field is not None, self.task != "text"),
            "candidates_field": (self.candidates_field is not None, self.task == "response-selection"),
            "word_separator": (self.word_separator is not None, self.task == "token-classification"),
            "turn_separator": (self.turn_separator is not None, self.task == "response-selection"),
            "outside_tags": (bool(self.outside_tags), self.task == "token-classification"),
            "labels": (self.labels is not None, self.task in _LABELLED),
            "out_of_domain_labels": (bool(self.out_of_domain_labels), self.task in ("classification", DETECTION)),
        }
        for name, (is_set, is_known) in allowed.items():
            if is_set and not is_known:
                yield f"{name} says nothing to the task {self.task}: leave it out"
        if self.task == DETECTION and (self.label_field is None) != (not self.out_of_domain_labels):
            yield "label_field and out_of_domain_labels say together which rows are from outside: set both, or neither"
        twice = sorted({label for label in self.labels or () if (self.labels or ()).count(label) > 1})
        if twice:
            yield f"labels names {', '.join(twice)} twice"

    def _source_faults(self) -> Iterator[str]:
        source = self.source
        if isinstance(source, Generator) and self.task not in (*_LABELLED, *WITHOUT_HEAD):
            yield f"a grammar generates text with classes or words with tags, not data for the task {self.task}"
        if isinstance(source, Contrast) and self.task != "classification":
            yield f"source kind contrast has two labels, which the task {self.task} does not read"
        if isinstance(source, Dstc8 | Conversations) and self.task != "response-selection":
            yield f"source kind {source.kind} is of the task response-selection, not {self.task}"
        if isinstance(source, Files) and self.task == "response-selection" and not (source.validation and source.test):
            yield "response-selection needs source.validation and source.test, whose rows have candidates"
