"""How a student with fewer pieces reads what its teacher reads: token by token, or as it will be served, spelt out.

Objectives that compare tokens need positions that match, so there a piece that the student lacks is unknown to it.
Objectives of whole texts do not: there it is spelt in pieces that the student has, as its own tokenizer does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast as Tokenizer

from distill.batch import Batch, InputForm, collate_padded
from distill.text import special_tokens


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """The student's ids for those of its teacher."""

    lookup: Int[Tensor, "pieces"]
    """One for each piece: its own, or that of the unknown token."""
    spelt: Mapping[int, list[int]]
    """Of each piece that the student lacks: those it is spelt in."""
    lacks: Bool[Tensor, "pieces"]
    """Which pieces it has to spell."""
    form: InputForm
    ends: int
    """Special tokens after a text."""

    def to(self, device: torch.device) -> "Spelling":
        """The same on `device`."""
        return replace(self, lookup=self.lookup.to(device), lacks=self.lacks.to(device))

    def side_by_side(self, batch: Batch) -> dict[str, Tensor]:
        """Inputs of as many tokens, what the student lacks being unknown."""
        return batch.inputs | {"input_ids": self.lookup[batch.inputs["input_ids"]]}

    def spelt_out(self, batch: Batch, max_tokens: int) -> dict[str, Tensor]:
        """Inputs of padded texts in which nothing is unknown that can be spelt; cut at `max_tokens`.

        What a piece is spelt in does not join with its neighbours, which the student's own tokenizer might do inside
        a word.
        """
        ids = batch.inputs["input_ids"]
        if not (self.lacks[ids] & batch.mask).any():
            return self.side_by_side(batch)
        found = self.lookup.tolist()
        texts = []
        for row, length in zip(ids.tolist(), batch.mask.sum(1).tolist(), strict=True):
            text = [part for index in row[:length] for part in self.spelt.get(index, (found[index],))]
            if len(text) > max_tokens:
                text = text[: max_tokens - self.ends] + text[len(text) - self.ends :]
            texts.append(torch.tensor(text))
        return collate_padded(texts, batch.labels.tolist(), self.form).to(ids.device).inputs


def spelling_of(theirs: Tokenizer, own: Tokenizer, rows: int) -> Spelling:
    """How the student that reads with `own` reads the ids of `theirs`, of which the teacher has `rows`."""
    has, unknown = own.get_vocab(), unknown_of(own)
    spell = _speller(own)
    lookup, spelt = torch.full((rows,), unknown), {}
    for piece, index in theirs.get_vocab().items():
        if piece in has:
            lookup[index] = has[piece]
        elif parts := spell(piece):
            spelt[index] = parts
    lacks = torch.zeros(rows, dtype=torch.bool)
    lacks[list(spelt)] = True
    return Spelling(lookup=lookup, spelt=spelt, lacks=lacks, form=InputForm.of(own), ends=len(special_tokens(own)[1]))


def unknown_of(tokenizer: Tokenizer) -> int:
    """A byte-level tokenizer has no unknown piece: what it lost reads as padding would, which is always kept."""
    unknown = tokenizer.unk_token_id
    return int(tokenizer.pad_token_id if unknown is None else unknown)


def _speller(own: Tokenizer) -> Callable[[str], list[int]]:
    """Ids of the pieces that stand for a missing one, in its place in a word."""
    model = own.backend_tokenizer.model
    prefix = getattr(model, "continuing_subword_prefix", None)
    # BPE puts this after whatever it is given: a piece from inside a word is spelt as if the word ended there.
    suffix = getattr(model, "end_of_word_suffix", None) or ""
    has = own.get_vocab()

    def spell(piece: str) -> list[int]:
        if prefix and piece.startswith(prefix) and len(piece) > len(prefix):
            return _longest_first(piece.removeprefix(prefix), prefix, has)
        return [token.id for token in model.tokenize(piece.removesuffix(suffix))]

    return spell


def _longest_first(text: str, prefix: str, has: Mapping[str, int]) -> list[int]:
    """WordPiece inside a word, where its own code does not begin; nothing when a character is in no piece."""
    ids, start = list[int](), 0
    while start < len(text):
        ends = (end for end in range(len(text), start, -1) if prefix + text[start:end] in has)
        end = next(ends, start)
        if end == start:
            return []
        ids.append(has[prefix + text[start:end]])
        start = end
    return ids
