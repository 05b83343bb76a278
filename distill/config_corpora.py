"""What a recipe says about unlabelled text: where its records are, what one text is, and how corpora are mixed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from artifact.config import Config


class _Records(Config):
    """Records, of which one field is the text."""

    field: str = "text"
    """Field of a record that holds the text, or a list of words, which are joined by blanks."""
    pair_field: str | None = None
    """Field of the text that answers it, for the objective `ranking`."""

    translation_field: str | None = None
    """Field of the text's translation. The two become one text, in turns the one and the other first, so that a masked
    word can be found in the other language (translation language modelling, XLM, arXiv 1901.07291)."""

    def fields(self) -> tuple[str, ...]:
        """All fields read of a record."""
        return tuple(name for name in (self.field, self.pair_field or self.translation_field) if name is not None)


class TextFiles(_Records):
    """Local unlabelled text: JSON lines, Parquet or plain text, `.gz` and `.zst` too, read as a stream."""

    kind: Literal["files"]
    directory: Path = Path()
    """Folder that the files are relative to: the one thing to override on another machine."""
    files: tuple[Path, ...] = Field(min_length=1)


class TextHub(_Records):
    """Unlabelled text of a data set on the Hugging Face Hub, read as a stream."""

    kind: Literal["hub"]
    name: str
    configuration: str | None = None
    revision: str | None = None
    """Commit, for a result that can be had again."""
    split: str = "train"


class Mixture(Config):
    """Records of several corpora of the recipe, taken so that at any time each has had its share of the characters.

    One pass is over when each corpus has been read; the shorter ones have begun again by then.
    """

    kind: Literal["mixture"]
    shares: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=2)
    """By name of one of the recipe's `corpora`; in proportion, not in per cent."""
    parts: dict[str, "CorpusConfig"] | None = None
    """The corpora themselves: filled in by the recipe."""

    @property
    def pair_field(self) -> None:
        """A mixture holds no pairs to rank."""
        return


class CodeSwitch(Config):
    """Words of the text replaced by their translations, as GigaBERT's pre-training text was (arXiv 2004.14519)."""

    lexicon: Path
    """`word<TAB>translation<TAB>weight` a line, or PanLex's JSON lines; `.gz` too. As seen from here."""
    text_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the texts touched."""
    word_share: float = Field(default=0.3, gt=0, le=1)
    """Share of a text's words replaced, as far as the lexicon knows them."""


class CorpusConfig(Config):
    """Unlabelled text that phases can learn from."""

    source: Annotated[TextFiles | TextHub | Mixture, Field(discriminator="kind")]
    one_in: int | None = Field(default=None, gt=0)
    """Read one record in so many, the first of each; left out, all."""
    unit: Literal["line", "document", "sentence"] = "line"
    """What one training text is; long ones are cut into pieces of `max_tokens`, none of their text is lost."""
    code_switch: CodeSwitch | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> "CorpusConfig":
        if self.source.pair_field is not None and (self.unit != "document" or self.code_switch is not None):
            raise ValueError("pairs are whole texts: set unit: document, and no code_switch")
        if isinstance(self.source, Mixture):
            if self.code_switch is not None or self.one_in is not None or self.unit != "line":
                raise ValueError("a mixture's corpora have their own unit, code_switch and one_in: set them there")
        elif self.source.translation_field is not None and (self.source.pair_field or self.unit == "sentence"):
            raise ValueError("a text and its translation are one: set no pair_field, and not unit: sentence")
        return self


def with_parts(corpora: Mapping[str, CorpusConfig]) -> dict[str, CorpusConfig]:
    """`corpora`, each mixture with what it is made of.

    `ValueError` for one that mixes a mixture, or what is not there.
    """
    return {name: _filled(name, corpus, corpora) for name, corpus in corpora.items()}


def _filled(name: str, corpus: CorpusConfig, corpora: Mapping[str, CorpusConfig]) -> CorpusConfig:
    if not isinstance(corpus.source, Mixture):
        return corpus
    whole = {other for other, config in corpora.items() if not isinstance(config.source, Mixture)}
    if strange := corpus.source.shares.keys() - whole:
        raise ValueError(f"corpora.{name} mixes {', '.join(sorted(strange))}, expected of {', '.join(sorted(whole))}")
    parts = {other: corpora[other] for other in corpus.source.shares}
    return corpus.model_copy(update={"source": corpus.source.model_copy(update={"parts": parts})})
