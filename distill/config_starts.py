"""What a recipe says about where a model starts, and which vocabulary it keeps."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from artifact.config import Config


class Checkpoint(Config):
    """Start from a whole model: a pretrained teacher, or a model of this recipe to train on."""

    kind: Literal["checkpoint"]
    source: str
    """`package:NAME/path`, a local directory, a Hub id, or `model:NAME` for a model of the same recipe."""
    trust_remote_code: bool = False
    """Run the Python files that come with the checkpoint. Only for authors you trust."""


class Layers(Config):
    """Start from some layers of the teacher, with its embeddings and head (DistilBERT's way, by index)."""

    kind: Literal["layers"]
    layers: tuple[int, ...] = Field(min_length=1)
    """0-based indices of the teacher's layers, in the student's order."""


class _Shape(Config):
    """A width and what depends on it."""

    hidden_size: int = Field(gt=0)
    heads: int = Field(gt=0)
    intermediate_size: int | None = Field(default=None, gt=0)
    """Left out: 4 x hidden_size, as in the papers."""

    @model_validator(mode="after")
    def _check_heads(self) -> "_Shape":
        if self.hidden_size % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the hidden size {self.hidden_size}")
        return self


class Random(_Shape):
    """Start from random weights of the given shape (MiniLM's way)."""

    kind: Literal["random"]
    layers: int = Field(gt=0)
    embeddings: Literal["svd", "pca"] | None = None
    """Token embeddings from the teacher's by truncated SVD (XtremeDistil) or PCA (its code); left out, random."""


class Slice(_Shape):
    """Start from some layers of a wider teacher, keeping the heads and units with the largest weights."""

    kind: Literal["slice"]
    layers: tuple[int, ...] = Field(min_length=1)
    """0-based indices of the teacher's layers, in the student's order."""


class Scratch(_Shape):
    """Start from random weights with a vocabulary that the recipe trains, without any teacher."""

    kind: Literal["scratch"]
    architecture: Literal["bert", "roberta", "distilbert"] = "bert"
    layers: int = Field(gt=0)
    vocabulary: str
    """Name of one of the recipe's `vocabularies`."""
    positions: int = Field(default=512, gt=2)
    """Longest text that the model has places for, in tokens."""


class Transplant(Config):
    """Start from a whole model under another vocabulary: its layers, and an embedding made for each new piece.

    See `distill/transplant.py`. The word head, which no vocabulary but its own fits, starts anew.
    """

    kind: Literal["transplant"]
    source: str
    """The model, as a checkpoint's `source`."""
    vocabulary: str
    """Name of one of the recipe's `vocabularies`."""
    parallel: tuple[str, ...] = ()
    """Names of corpora with a `translation_field`: what new pieces translate to is learnt from them."""
    lexicon: Path | None = None
    """Translations of words, as `code_switch` reads them; they count as the shortest of parallel texts."""


Start = Annotated[Checkpoint | Layers | Random | Slice | Scratch | Transplant, Field(discriminator="kind")]


class Vocabulary(Config):
    """Keep only the pieces that the training text uses, and a safety set that can still spell everything."""

    min_count: int = Field(default=1, gt=0)
    """A piece is kept when the training text holds it at least this often."""
    max_pieces: int | None = Field(default=None, gt=0)
    """Keep at most this many pieces in all, the most frequent first; the safety set is always kept."""
