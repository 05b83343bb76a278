"""In-domain text against text from elsewhere: a set of two labels that nobody had to give.

Binary classification with auxiliary data (BCAD) of Xu et al., "Unsupervised Out-of-Domain Detection via Pre-trained
Transformers" (ACL 2021): an encoder that has told the two apart knows better what is in the domain. Here no auxiliary
text is in two splits (in their code training and validation are drawn from one pool), and closing marks are stripped
from both sides, since text that always ends with a stop would be told by that.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from artifact.config import Config
from artifact.errors import DataError
from distill.config import CorpusConfig, TextFiles

INSIDE, AUXILIARY = "in-domain", "auxiliary"

Row = tuple[str, str]


class Contrast(Config):
    """Local in-domain text (JSON lines), its labels unread, beside as much auxiliary text, as two labels."""

    kind: Literal["contrast"]
    directory: Path = Path()
    """Folder that the other paths are relative to: the one thing to override on another machine."""
    train: Path
    validation: Path
    test: Path
    auxiliary: tuple[Path, ...] = Field(min_length=1)
    """Text of other kinds: JSON lines, Parquet or plain text, cut into sentences."""
    auxiliary_field: str = "text"
    texts: int | None = Field(default=None, gt=0)
    """Of each side in the training split, drawn without repetition; left out, all the in-domain text there is."""
    validation_texts: int | None = Field(default=None, gt=0)
    """The same for the validation split."""
    stripped: str = ".?! "
    """Closing characters that are cut off both sides in training and validation."""
    seed: int = Field(default=1, ge=0)

    def files(self) -> dict[str, Path]:
        """What is read, by name."""
        own = {"train": self.train, "validation": self.validation, "test": self.test}
        named = own | {f"auxiliary:{path.as_posix()}": path for path in self.auxiliary}
        return {name: self.directory / path for name, path in named.items()}


def read_contrast(
    source: Contrast, text_field: str, label_field: str, outside: Sequence[str]
) -> Mapping[str, list[Row]]:
    """The rows of each split: `in-domain` and `auxiliary`, and with their own label those whose label is `outside`.

    Without labels `outside`, `label_field` is not read. Raises `DataError` when there is less auxiliary text than asked
    for, or a line has no such field.
    """
    splits = {name: list(_own(source, name, text_field, label_field, outside)) for name in ("train", "validation")}
    draw = random.Random(source.seed)  # noqa: S311 - drawing texts, no secrets
    inside = {name: _different(rows, source.stripped) for name, rows in splits.items()}
    for name, most in (("train", source.texts), ("validation", source.validation_texts)):
        if most is not None:
            inside[name] = draw.sample(inside[name], min(most, len(inside[name])))
    known = {text for texts in inside.values() for text in texts}
    others = _auxiliary(source, sum(map(len, inside.values())), draw, known)
    rows: dict[str, list[Row]] = {"test": list(_own(source, "test", text_field, label_field, outside))}
    for name, texts in inside.items():
        negatives, others = others[: len(texts)], others[len(texts) :]
        rows[name] = [*((text, INSIDE) for text in texts), *((text, AUXILIARY) for text in negatives)]
    return rows


def _own(source: Contrast, split: str, text_field: str, label_field: str, outside: Sequence[str]) -> Iterator[Row]:
    """Each row of a file of in-domain text, its label forgotten unless it says that the row is none."""
    from distill.rows import parse_object, read_lines

    path = source.files()[split]
    for number, line in read_lines(path):
        record = parse_object(line, f"{path}, line {number}")
        for field in (text_field, *([label_field] if outside else [])):
            if field not in record:
                found = ", ".join(record)
                raise DataError(f"{path}, line {number}, has no field {field!r}, only {found}", "set data.text_field")
        label = str(record[label_field]) if outside else ""
        yield str(record[text_field]), label if label in outside else INSIDE


def _different(rows: Sequence[Row], stripped: str) -> list[str]:
    """In-domain texts without closing marks, each once."""
    texts = (text.rstrip(stripped) for text, label in rows if label == INSIDE)
    return [text for text in dict.fromkeys(texts) if text]


def _auxiliary(source: Contrast, count: int, draw: random.Random, known: set[str]) -> list[str]:
    """`count` different sentences, each as likely as any other (reservoir sampling), in random order."""
    drawn: list[str] = []
    for seen, text in enumerate(_sentences(source, known)):
        if seen < count:
            drawn.append(text)
        elif (place := draw.randrange(seen + 1)) < count:
            drawn[place] = text
    if len(drawn) < count:
        hint = "name more files under auxiliary, or fewer texts"
        raise DataError(f"the auxiliary files hold {len(drawn)} different sentences, {count} are needed", hint)
    draw.shuffle(drawn)
    return drawn


def _sentences(source: Contrast, known: set[str]) -> Iterator[str]:
    from distill.corpus import cut, read_records

    files = TextFiles(kind="files", directory=source.directory, files=source.auxiliary, field=source.auxiliary_field)
    met = {hash(text) for text in known}
    for record in read_records(CorpusConfig(source=files)):
        for sentence in cut(record.text, "sentence"):
            text = sentence.rstrip(source.stripped)
            if text and hash(text) not in met:
                met.add(hash(text))
                yield text
