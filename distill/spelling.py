"""How a student with fewer pieces reads what its teacher reads: token by token, or as it will be served, spelt out.

Objectives that compare tokens need positions that match, so there a piece that the student lacks is unknown to it.
Objectives of whole texts do not: there it is spelt in pieces that the student has, as its own tokenizer does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
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
    lacking: Int[Tensor, "lacking"]
    """Those pieces in the order of their ids, to draw from."""
    respelt: Mapping[int, list[int]]
    """Of each piece that it has: those it would be spelt in without it; none for special ones and single characters."""
    form: InputForm
    ends: int
    """Special tokens after a text."""

    def to(self, device: torch.device) -> "Spelling":
        """The same on `device`."""
        return replace(self, lookup=self.lookup.to(device))

    def side_by_side(self, batch: Batch) -> dict[str, Tensor]:
        """Inputs of as many tokens, what the student lacks being unknown."""
        return batch.inputs | {"input_ids": self.lookup[batch.inputs["input_ids"]]}

    def spelt_out(self, batch: Batch, max_tokens: int, respell_share: float = 0.0) -> dict[str, Tensor]:
        """Inputs of padded texts in which nothing is unknown that can be spelt; cut at `max_tokens`.

        What a piece is spelt in does not join with its neighbours, which the student's own tokenizer might do inside
        a word. A `respell_share` of the other tokens is spelt too, as if the student lacked them (after BPE-dropout,
        Provilkov et al., arXiv 1910.13267); it draws from torch's global generator.
        """
        ids = batch.inputs["input_ids"]
        drawn = torch.rand(ids.shape) if respell_share else torch.ones(ids.shape)
        rows = zip(ids.tolist(), self.lookup[ids].tolist(), drawn.tolist(), batch.mask.sum(1).tolist(), strict=True)
        texts = []
        for theirs, own, chances, length in rows:
            text = list[int]()
            for index, found, chance in zip(theirs[:length], own, chances, strict=False):
                again = self.respelt.get(index) if chance < respell_share else None
                text += self.spelt.get(index) or again or [found]
            if len(text) > max_tokens:
                text = text[: max_tokens - self.ends] + text[len(text) - self.ends :]
            texts.append(torch.tensor(text))
        return collate_padded(texts, batch.labels.tolist(), self.form).to(ids.device).inputs


def spelling_of(theirs: Tokenizer, own: Tokenizer, rows: int) -> Spelling:
    """How the student that reads with `own` reads the ids of `theirs`, of which the teacher has `rows`."""
    has, unknown, special = own.get_vocab(), unknown_of(own), set(theirs.all_special_ids)
    spell, prefix = _speller(own), _prefix_of(own)
    lookup, spelt, respelt = torch.full((rows,), unknown), {}, {}
    for piece, index in theirs.get_vocab().items():
        if piece in has:
            lookup[index] = has[piece]
            if index not in special and (parts := _without(piece, prefix, has, spell)):
                respelt[index] = parts
        elif parts := spell(piece):
            spelt[index] = parts
    return Spelling(
        lookup=lookup, spelt=spelt, respelt=respelt, lacking=torch.tensor(sorted(spelt), dtype=torch.long),
        form=InputForm.of(own), ends=len(special_tokens(own)[1]),
    )  # fmt: skip


def unknown_of(tokenizer: Tokenizer) -> int:
    """A byte-level tokenizer has no unknown piece: what it lost reads as padding would, which is always kept."""
    unknown = tokenizer.unk_token_id
    return int(tokenizer.pad_token_id if unknown is None else unknown)


def _speller(own: Tokenizer) -> Callable[[str], list[int]]:
    """Ids of the pieces that stand for a missing one, in its place in a word."""
    model = own.backend_tokenizer.model
    prefix = _prefix_of(own)
    # BPE puts this after whatever it is given: a piece from inside a word is spelt as if the word ended there.
    suffix = getattr(model, "end_of_word_suffix", None) or ""
    has = own.get_vocab()

    def spell(piece: str) -> list[int]:
        if prefix and piece.startswith(prefix) and len(piece) > len(prefix):
            return _longest_first(piece.removeprefix(prefix), prefix, has)
        return [token.id for token in model.tokenize(piece.removesuffix(suffix))]

    return spell


def _prefix_of(tokenizer: Tokenizer) -> str:
    """What WordPiece puts before a piece inside a word; nothing for other kinds."""
    return getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None) or ""


def _without(piece: str, prefix: str, has: Mapping[str, int], spell: Callable[[str], list[int]]) -> list[int]:
    """`piece` in smaller ones, the longest first that it begins with; nothing when there are none."""
    mark = prefix if prefix and piece.startswith(prefix) else ""
    body = piece.removeprefix(mark)
    for end in range(len(body) - 1, 0, -1):
        if mark + body[:end] in has:
            rest = spell(prefix + body[end:])
            return [has[mark + body[:end]], *rest] if rest else []
    return []


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
