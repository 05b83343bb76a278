"""Which tokenizer reads the text, and which ids the student has for its pieces.

Teacher and student read the same tokens. What a student with fewer pieces makes of them is in `distill/spelling.py`.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import ModelError
from distill.config import CorpusConfig
from distill.config_starts import Vocabulary
from distill.corpus import read_records
from distill.spelling import Spelling, spelling_of
from distill.vocabulary import count_pieces, coverage, prune_embeddings, prune_vocabulary

VOCABULARY_TEXTS = 200_000
"""Texts of each corpus that are counted before a vocabulary is pruned."""


@dataclass(frozen=True)
class Reading:
    """How a run reads."""

    tokenizer: Tokenizer
    """Of the text, and of the teacher."""
    own: Tokenizer
    """The student's, which it is saved with."""
    spelling: Spelling | None = None
    """What the student makes of the tokenizer's ids; none where they are its own."""
    facts: dict[str, Any] = field(default_factory=dict)


def read_alike(start: Tokenizer, teacher: Tokenizer | None) -> Reading:
    """Text is read by the teacher; a start whose pieces are some of the teacher's spells the others.

    Raises `ModelError` where the start has pieces that the teacher has not.
    """
    if teacher is None or start.get_vocab() == teacher.get_vocab():
        return Reading(start, start)
    own, theirs = start.get_vocab(), teacher.get_vocab()
    strange = sorted(own.keys() - theirs.keys())
    if strange:
        raise ModelError(
            f"teacher and student share no vocabulary: {len(strange)} of the student's {len(own)} pieces, such as "
            f"{strange[0]!r}, are not the teacher's",
            "both read the same tokens: start the student from its teacher",
        )
    return Reading(teacher, start, spelling_of(teacher, start, max(theirs.values()) + 1))


def pruned(
    reading: Reading, student: PreTrainedModel, config: Vocabulary, *, train: Sequence[str],
    corpora: Mapping[str, CorpusConfig], held_out: Sequence[str],
) -> Reading:  # fmt: skip
    """`reading` with only the pieces that the training text and the corpora use; cuts the student's embeddings.

    Raises `ModelError` for a start that has been pruned before.
    """
    if reading.spelling is not None:
        raise ModelError("the start's vocabulary is pruned already", "leave `vocabulary` out")
    tokenizer, rows = reading.tokenizer, student.config.vocab_size
    counts: Counter[int] = count_pieces(tokenizer, train)
    for corpus in corpora.values():
        counts.update(count_pieces(tokenizer, _texts_of(corpus)))
    fewer = prune_vocabulary(tokenizer, counts, config)
    prune_embeddings(student, fewer.kept)
    covered = coverage(tokenizer, fewer.kept, held_out)
    facts = {
        "pieces": len(fewer.kept), "pieces_before": rows,
        "held_out_tokens_covered": round(covered.tokens, 5), "held_out_texts_covered": round(covered.texts, 5),
    }  # fmt: skip
    return Reading(tokenizer, fewer.tokenizer, spelling_of(tokenizer, fewer.tokenizer, rows), facts)


def _texts_of(corpus: CorpusConfig) -> Iterator[str]:
    units = (text for record in read_records(corpus) for text in record.units())
    return itertools.islice(units, VOCABULARY_TEXTS)
