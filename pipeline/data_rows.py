"""One row of a source becomes one example, task by task; a row that says nonsense is one clear error.

row = read_row(Record({"text": "turn on", "label": "light"}, 1, "the train split"), Reading(config, evaluated=False))
row.example.text, row.names  # ("turn on", ("light",))
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from artifact.dataset import Answer, Example, Task
from artifact.errors import DataError
from pipeline.data_config import DataConfig, Fields

NO_LABEL = ""
"""Name of a label that the source leaves out."""


@dataclass(frozen=True)
class Row:
    """An example, its labels still by name: one of a text, one of each word."""

    example: Example
    names: tuple[str, ...] = ()

    def within(self, group: str) -> "Row":
        """The row as a part of `group`."""
        return Row(self.example.model_copy(update={"group": group}), self.names)


@dataclass(frozen=True)
class Reading:
    """How rows of one table are to be read."""

    config: DataConfig
    evaluated: bool
    """Whether they are for validation or testing."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of the classes that a column holds by index, where the file's form tells them."""

    @property
    def fields(self) -> Fields:
        """The columns of the task."""
        return self.config.fields


@dataclass(frozen=True)
class Record:
    """A row as its source has it, and where it stands."""

    values: Mapping[str, Any]
    number: int
    """From one."""
    where: str

    def fault(self, problem: str, hint: str = "") -> DataError:
        """The error that names this row."""
        return DataError(f"row {self.number} of {self.where} {problem}", hint)

    def text(self, name: str) -> str:
        """A column that holds text, or a number that stands for it."""
        value = self.values.get(name)
        if not isinstance(value, str | int | float) or value != value:  # noqa: PLR0124 - NaN, a blank cell of a CSV
            raise self.fault(f"has no text in {name!r} but {_shorten(value)}")
        return str(value)

    def items(self, name: str, kind: type, what: str) -> list[Any]:
        """A column that holds a list of `kind`."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            raise self.fault(f"has {_shorten(value)} in {name!r}, expected a list of {what}")
        return value


def read_row(record: Record, reading: Reading) -> Row | None:
    """The example in `record`; None for one that says nothing, such as a sentence without words.

    Raises `DataError` for a value that is not what the task needs.
    """
    row, group = _READERS[reading.config.task](record, reading), reading.fields.group
    return row if row is None or group is None else row.within(record.text(group))


def read_outside(record: Record, reading: Reading) -> Row:
    """The text of `record`, from elsewhere: what its task would have said of it is not asked."""
    fields, value = reading.fields, record.values.get(reading.fields.text)
    if reading.config.task == "token-classification" and isinstance(value, list):
        return Row(_tagged(record, reading, ())[0])
    if reading.config.task == "response-selection" and isinstance(value, list):
        return Row(Example(text=_conversation(record, reading)))
    paired = fields.pair is not None and record.values.get(fields.pair) is not None
    return Row(Example(text=record.text(fields.text), pair=record.text(str(fields.pair)) if paired else None))


def wanted_fields(config: DataConfig, *, evaluated: bool) -> list[str]:
    """The columns that every row must have."""
    fields = config.fields
    answers = (fields.pair, fields.label)
    if config.task == "response-selection":
        answers = (fields.candidates, fields.label) if evaluated else (fields.pair, None)
    return [name for name in (fields.text, *answers, fields.group) if name is not None]


def join_words(words: Sequence[str], separator: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of `words`, and each one's first character in it and one past its last."""
    starts, place = [], 0
    for word in words:
        starts.append(place)
        place += len(word) + len(separator)
    return separator.join(words), tuple((start, start + len(word)) for start, word in zip(starts, words, strict=True))


def _plain(record: Record, reading: Reading) -> Row:
    return Row(_texts(record, reading.fields))


def _known(record: Record, reading: Reading) -> Row:
    """A text that a label may put outside; where nothing says so, it is of the domain."""
    return _plain(record, reading) if reading.fields.label is None else _classified(record, reading)


def _classified(record: Record, reading: Reading) -> Row:
    name = str(reading.fields.label)
    return Row(_texts(record, reading.fields), (_label(record.values.get(name), reading.classes.get(name)),))


def _quantity(record: Record, reading: Reading) -> Row:
    value = record.values.get(str(reading.fields.label))
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        hint = "a quantity is a number; if those of this split are not public, test on the validation split"
        raise record.fault(f"has {_shorten(value)} in {reading.fields.label!r}, which is no number", hint)
    return Row(_texts(record, reading.fields).model_copy(update={"value": number}))


def _tagged_row(record: Record, reading: Reading) -> Row | None:
    fields = reading.fields
    name = str(fields.label)
    tags = record.items(name, object, "tags, one a word")
    example, names = _tagged(record, reading, [_tag(tag, name, reading) for tag in tags])
    return Row(example, names) if example.words else None


def _tag(value: Any, name: str, reading: Reading) -> str:
    label = _label(value, reading.classes.get(name))
    return "O" if label.partition("-")[2] in (reading.config.outside_tags or ()) else label


def _tagged(record: Record, reading: Reading, tags: Sequence[str]) -> tuple[Example, tuple[str, ...]]:
    """No token stands for a word of white space alone, so it is left out with its tag."""
    words = record.items(reading.fields.text, str, "words")
    if tags and len(tags) != len(words):
        raise record.fault(f"has {len(words)} words and {len(tags)} tags", "every word needs one tag")
    kept = [place for place, word in enumerate(words) if word.strip()]
    separator = reading.config.word_separator
    text, spans = join_words([words[place].strip() for place in kept], " " if separator is None else separator)
    return Example(text=text, words=spans), tuple(tags[place] for place in kept) if tags else ()


def _asked(record: Record, reading: Reading) -> Row:
    fields = reading.fields
    context, found = record.text(str(fields.pair)), record.values.get(str(fields.label))
    if not isinstance(found, Mapping) or not {"text", "answer_start"} <= found.keys():
        hint = "the form is {text: [...], answer_start: [...]}, both empty where the context does not answer"
        raise record.fault(f"has {_shorten(found)} in {fields.label!r}, expected answers", hint)
    texts, starts = list(found["text"] or ()), list(found["answer_start"] or ())
    if len(texts) != len(starts):
        raise record.fault(f"has {len(texts)} answers and {len(starts)} places of them")
    impossible = record.values.get("is_impossible")
    answers = () if impossible else tuple(_answers(record, context, texts, starts))
    if impossible is False and not answers:
        raise record.fault("has no answer, though is_impossible is false", "set it to true, or leave the column out")
    return Row(Example(text=record.text(fields.text), pair=context, answers=answers))


def _answers(record: Record, context: str, texts: Sequence[Any], starts: Sequence[Any]) -> list[Answer]:
    answers = []
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not isinstance(start, int):
            raise record.fault(f"has the answer {_shorten(text)} at {_shorten(start)}, expected text at a number")
        if text and (start < 0 or not context.startswith(text, start)):
            stands = context[max(start, 0) : max(start, 0) + len(text)]
            hint = "places count characters of the context from 0, not bytes; mend the row or leave it out"
            raise record.fault(f"has the answer {_shorten(text)} at {start}, where {_shorten(stands)} stands", hint)
        if text:
            answers.append(Answer(start=start, text=text))
    return answers


def _selected(record: Record, reading: Reading) -> Row | None:
    fields, context = reading.fields, _conversation(record, reading)
    if not reading.evaluated:
        # Where no utterance is right, there is none to learn as the right one.
        right = record.values.get(str(fields.pair))
        return None if right is None else Row(Example(text=context, pair=record.text(str(fields.pair))))
    candidates = record.items(str(fields.candidates), str, "utterances")
    label = record.values.get(str(fields.label))
    if not isinstance(label, int) or not -1 <= label < len(candidates):
        hint = "the label is an index of the candidates from 0, or -1 where none is right"
        raise record.fault(f"has the label {_shorten(label)} and {len(candidates)} candidates", hint)
    return Row(Example(text=context, label=label, candidates=tuple(candidates)))


def _conversation(record: Record, reading: Reading) -> str:
    """The turns so far, oldest first, each `speaker: utterance`. Nothing is cut here.

    Whoever cuts it to a model's length must keep the *last* turns, which the next one answers: cut from the left.
    """
    name = reading.fields.text
    if isinstance(record.values.get(name), str):
        return record.text(name)
    turns = record.items(name, Mapping, "turns, {speaker, utterance}")
    if not turns or not all(isinstance(turn.get(key), str) for turn in turns for key in ("speaker", "utterance")):
        raise record.fault(f"has {_shorten(turns)} in {name!r}, expected turns of a speaker and an utterance each")
    separator = reading.config.turn_separator
    spoken = [f"{turn['speaker']}: {turn['utterance']}" for turn in turns]
    return ("\n" if separator is None else separator).join(spoken)


def _texts(record: Record, fields: Fields) -> Example:
    return Example(text=record.text(fields.text), pair=None if fields.pair is None else record.text(fields.pair))


def _label(value: Any, classes: Sequence[str] | None) -> str:
    """The label's name; `NO_LABEL` for null and NaN, and -1 as it is, since it may be a class."""
    if value is None or value != value:  # noqa: PLR0124 - NaN, a blank cell of a CSV
        return NO_LABEL
    return classes[value] if classes and isinstance(value, int) and 0 <= value < len(classes) else str(value)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


_READERS: Mapping[Task, Callable[[Record, Reading], Row | None]] = {
    "classification": _classified,
    "regression": _quantity,
    "token-classification": _tagged_row,
    "question-answering": _asked,
    "response-selection": _selected,
    "out-of-domain-detection": _known,
    "text": _plain,
}
