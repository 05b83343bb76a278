"""What a recipe says about a vocabulary that it trains on its own text."""

from typing import Literal

from pydantic import Field

from artifact.config import Config


class TrainedVocabulary(Config):
    """Pieces of words, learnt from text (`distill/vocabulary_training.py`): the same text gives the same bytes.

    A corpus's held-out texts, those that a phase `mlm` is evaluated on, are not learnt from.
    """

    kind: Literal["wordpiece", "bpe"] = "wordpiece"
    """`wordpiece` is BERT's: words and continuations. `bpe` is RoBERTa's: of bytes, to which nothing is unknown."""
    size: int = Field(gt=0)
    """Pieces in all, special ones included; fewer when the text does not hold so many."""
    corpora: tuple[str, ...] = ()
    """Names of the recipe's corpora; left out, the training split of the data set."""
    balance: float = Field(default=1.0, ge=0, le=1)
    """Exponent of each corpus's share of the text: 1 as it is, 0 equal shares; 0.7 was multilingual BERT's."""
    min_count: int = Field(default=2, gt=0)
    """A piece is made when the text holds it at least so often."""
    character_coverage: float = Field(default=0.9999, gt=0, le=1)
    """WordPiece only: share of the text whose characters get pieces, the most frequent first; others are unknown."""
    lowercase: bool = False
    strip_accents: bool = False
    """Take off combining marks; of Arabic and Hindi these are letters' own."""
    strip_arabic_marks: bool | None = None
    """Take off Arabic vowel marks and the stroke that lengthens a word, which a text may have or lack; hamza and madda,
    parts of letters, stay. Left out, no."""
