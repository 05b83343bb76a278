"""Which words a step hides: pure functions of the seed, the step and the text itself.

No state is drawn from, so a text is masked in the same way whichever part of the step, row or process reads it, and a
run that goes on after a kill masks what it would have.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import ModelError
from distill.batch import Batch
from distill.config_objectives import MaskedLanguage

MASKED_SHARE = 0.8
"""Of the targets, read as the mask token (BERT, section 3.1)."""
EXCHANGED_SHARE = 0.1
"""Of the targets, read as any piece; the rest is read as it is."""

_LUCK, _CHOICE, _FATE, _PIECE = range(4)  # what a number is drawn for
_WORD_MARKS = ("\u2581", "\u0120")  # SentencePiece's and the byte-level tokenizers' sign of a space before


@dataclass(frozen=True)
class Masker:
    """What a tokenizer says about hiding words."""

    mask_id: int
    special: Bool[Tensor, "pieces"]
    """Pieces that are never hidden."""
    ordinary: Int[Tensor, "ordinary"]
    """The others, to draw from."""
    begins: Bool[Tensor, "pieces"] | None
    """Pieces that begin a word; none where the tokenizer does not say so."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Masker":
        """`ModelError` when the tokenizer has no mask token."""
        if tokenizer.mask_token_id is None:
            raise ModelError("the objective mlm masks words, but the tokenizer has no mask token")
        names = tokenizer.get_vocab()
        special = torch.zeros(max(names.values()) + 1, dtype=torch.bool)
        special[torch.tensor(tokenizer.all_special_ids)] = True
        ids = torch.tensor(sorted(names.values()))
        return cls(int(tokenizer.mask_token_id), special, ids[~special[ids]], _begins(tokenizer, len(special)))

    def hide(self, batch: Batch, objective: MaskedLanguage, seed: int, step: int) -> Batch:
        """`batch` with words hidden, and the `targets` to find in their places; on the CPU.

        Raises `ModelError` for whole words of a tokenizer that does not mark where they begin.
        """
        whole = batch.token_ids()
        ids = torch.where(batch.mask, whole, 0)
        ordinary = batch.mask & ~self.special[ids]
        starts = self._word_starts(ids, ordinary) if objective.whole_words else ordinary
        draw = _Draw.of(ids, batch.mask, seed, step)
        chosen = ordinary & choose(starts, draw.at(_CHOICE), draw.at(_LUCK)[:, :1], objective.mask_share)
        fate = draw.at(_FATE)
        pieces = self.ordinary[(draw.at(_PIECE) * len(self.ordinary)).long()]
        read = torch.where(chosen & (fate < MASKED_SHARE), torch.full_like(ids, self.mask_id), whole)
        read = torch.where(chosen & (fate >= 1 - EXCHANGED_SHARE), pieces, read)
        return batch.with_token_ids(read).with_targets(torch.where(chosen, ids, -1))

    def _word_starts(self, ids: Int[Tensor, "batch seq"], ordinary: Bool[Tensor, "batch seq"]) -> Tensor:
        """A word also begins after a special token, as in a text that was cut inside a word."""
        if self.begins is None:
            raise ModelError("whole_words: the tokenizer does not mark where words begin", "leave whole_words out")
        before = torch.nn.functional.pad(ordinary, (1, 0))[:, :-1]
        return ordinary & (self.begins[ids] | ~before)


def choose(
    starts: Bool[Tensor, "batch seq"],
    draws: Float[Tensor, "batch seq"],
    luck: Float[Tensor, "batch 1"],
    share: float,
) -> Bool[Tensor, "batch seq"]:
    """Places of the words chosen: of a text's *m* words `share * m`, up or down by `luck`, so that on average it is it.

    A word is its start and all places up to the next start. Those of the lowest `draws` (at their starts) are chosen.
    """
    count = (share * starts.sum(1, keepdim=True) + luck).floor().long()
    ranked = draws.masked_fill(~starts, torch.inf).sort(dim=1).values
    bound = ranked.gather(1, (count - 1).clamp(min=0))
    place = torch.where(starts, torch.arange(starts.shape[1]), 0).cummax(dim=1).values  # of the word's start
    return (draws.gather(1, place) <= bound) & (count > 0) & (starts.cumsum(1) > 0)


@dataclass(frozen=True)
class _Draw:
    """Numbers for each place of each text, from a hash of the seed, the step, the text's tokens and the place.

    Batches are padded to different widths; neither that nor a neighbour moves a number.
    """

    state: Int[Tensor, "batch seq"]

    @classmethod
    def of(cls, ids: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"], seed: int, step: int) -> "_Draw":
        place = _mixed(torch.arange(ids.shape[1]))
        text = _mixed(_mixed(ids) ^ place).masked_fill(~mask, 0).sum(1, keepdim=True)
        step_of_seed = _mixed(_mixed(torch.tensor(seed)) + step)
        return cls(_mixed(_mixed(text ^ step_of_seed) + place))

    def at(self, purpose: int) -> Float[Tensor, "batch seq"]:
        """Uniform in [0, 1)."""
        return _shifted(_mixed(self.state ^ _mixed(torch.tensor(purpose))), 11).double() * 2.0**-53


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as a signed number, as are the two below


def _mixed(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): each bit of the result depends on all of `x`."""
    x = x + _GOLDEN
    x = (x ^ _shifted(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shifted(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shifted(x, 31)


def _shifted(x: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    """To the right, as if unsigned."""
    return torch.bitwise_and(x >> bits, 2 ** (64 - bits) - 1)


def _begins(tokenizer: Tokenizer, pieces: int) -> Bool[Tensor, "pieces"] | None:
    prefix = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
    vocabulary = tokenizer.get_vocab()
    begins = torch.zeros(pieces, dtype=torch.bool)
    for piece, index in vocabulary.items():
        begins[index] = not piece.startswith(prefix) if prefix else piece.startswith(_WORD_MARKS)
    return begins if prefix or begins.any() else None
