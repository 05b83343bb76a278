"""The texts an export learns ranges from and is judged on: of a data set, of a file, or random tokens."""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from artifact.dataset import Example, Task, read_info, read_split
from artifact.errors import ExportError
from export.config import CalibrationConfig
from export.grid import Cell, Inputs, alone, fill, pad_texts, vocabulary_of
from export.source import Source

RANDOM_TEXTS = 64


@dataclass(frozen=True)
class Text:
    """One text, or a pair, and its label where it has one."""

    text: str
    pair: str | None = None
    label: int | None = None


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts as a graph reads them, each a batch of one without padding."""

    ranged: tuple[Inputs, ...]
    """From which ranges of activations are learnt: of the training split, where there is one."""
    judged: tuple[Inputs, ...]
    """On which quality is measured: of the validation split, where there is one."""
    labels: Int[np.ndarray, " texts"] | None
    """Of the judged texts, when all of them have one."""
    origin: str
    """Where they come from, in words."""

    @property
    def are_real(self) -> bool:
        """Whether somebody wrote them."""
        return self.origin != RANDOM


RANDOM = "random tokens"


def read_texts(source: Source, data: Path | None, config: CalibrationConfig) -> Texts:
    """The texts at `data`: a sealed data set, or a file of lines or JSON lines (`text`, `text_pair`, `label`).

    Raises `ExportError` when there is no text in it, or it is none of these.
    """
    if data is None:
        some = _random_texts(source)
        return Texts(ranged=some, judged=some, labels=None, origin=RANDOM)
    if (data / "dataset.json").is_file():
        task = read_info(data).task
        train, validation = (
            [text for row in read_split(data, split) for text in _texts_of(row, task, source)]
            for split in ("train", "validation")
        )
        origin = "training split (ranges) and validation split (quality)"
    else:
        train = validation = list(_read_file(data))
        origin = "the given file"
    if not train or not validation:
        raise ExportError(f"{data} holds no text to calibrate with", "name a data set or a file with texts")
    ranged = [train[place] for place in spread_out(len(train), config.texts)]
    judged = [validation[place] for place in spread_out(len(validation), config.judged_texts)]
    labels = [text.label for text in judged if text.label is not None and text.label >= 0]
    return Texts(
        ranged=tuple(encode(source, ranged)),
        judged=tuple(encode(source, judged)),
        labels=np.array(labels) if len(labels) == len(judged) else None,
        origin=origin,
    )


def encode(source: Source, texts: Sequence[Text]) -> Iterator[Inputs]:
    """`texts` as the bundle will read them, cut at `max_tokens`: of a question and its context only the context."""
    names = vocabulary_of(source).names
    for text in texts:
        found = source.tokenizer(
            text.text, text.pair, truncation=_truncation(source, text), max_length=source.max_tokens, padding=False,
            return_token_type_ids="token_type_ids" in names, return_tensors="np",
        )  # fmt: skip
        yield {name: found[name].astype(np.int64) for name in names}


def batches_of(texts: Sequence[Inputs], pad_id: int, size: int) -> Iterator[tuple[list[int], Inputs]]:
    """Padded batches of texts of like length, with the place of each row among `texts`."""
    order = sorted(range(len(texts)), key=lambda place: (texts[place]["input_ids"].shape[1], place))
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        yield rows, pad_texts([texts[row] for row in rows], pad_id)


def spread_out(count: int, most: int) -> list[int]:
    """At most `most` places of `count`, evenly spaced: files are often sorted by label."""
    return [int(place) for place in np.linspace(0, count - 1, min(most, count)).round()]


def _texts_of(row: Example, task: Task, source: Source) -> Iterator[Text]:
    """What the model will read of `row`: an encoder each text alone, a cross-encoder each candidate in its context."""
    if source.task.name == "embedding":
        yield from (Text(text) for text in row.texts)
    elif row.candidates is not None:
        yield from (Text(row.text, candidate) for candidate in row.candidates)
    else:
        yield Text(row.text, row.pair, row.label if task == "classification" else None)


def _truncation(source: Source, text: Text) -> bool | str:
    """How the tokenizer cuts: a question is whole, as long as one token of the context has room beside it."""
    if text.pair is None or source.task.name != "question-answering":
        return True
    room = source.max_tokens - source.tokenizer.num_special_tokens_to_add(pair=True)
    question = source.tokenizer(text.text, add_special_tokens=False, truncation=False)["input_ids"]
    return "only_second" if len(question) < room else True


def _random_texts(source: Source) -> tuple[Inputs, ...]:
    random, vocabulary = np.random.default_rng(1), vocabulary_of(source)
    longest = min(64, source.max_tokens)
    batch = fill(Cell(batch=RANDOM_TEXTS, length=longest), vocabulary, random)
    return tuple(alone(batch, row) for row in range(RANDOM_TEXTS))


def _read_file(path: Path) -> Iterator[Text]:
    opener = gzip.open if path.suffix == ".gz" else open
    as_json = ".json" in "".join(path.suffixes)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _from_json(line, path, number) if as_json else Text(line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(
            f"cannot read texts from {path}: {error}", "name a UTF-8 file of lines or JSON lines"
        ) from None


def _from_json(line: str, path: Path, number: int) -> Text:
    try:
        row = json.loads(line)
        label = row.get("label")
        return Text(str(row["text"]), row.get("text_pair"), label if isinstance(label, int) else None)
    except (ValueError, KeyError, AttributeError):
        hint = 'each line is a JSON object: {"text": ...}, with "text_pair" and "label" where there are any'
        raise ExportError(f"{path}, line {number}, has no text", hint) from None
