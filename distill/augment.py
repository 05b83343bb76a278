"""Noise in the text that teacher and student both read: the teacher's opinion of a damaged text is still its opinion.

A small data set says little about the teacher between its texts, since the teacher is sure of all of them. Masked and
exchanged words show more of it (Tang et al., arXiv 1903.12136, section 3.2, who mask words and exchange others).
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

UNTOUCHED_SHARE = 0.5
"""Share of the texts, drawn anew in every step, that stay as they are."""


def add_noise(
    input_ids: Int[Tensor, "batch seq"],
    ordinary: Bool[Tensor, "batch seq"],
    *,
    mask_id: int,
    mask_share: float,
    exchange_share: float,
) -> Int[Tensor, "batch seq"]:
    """`input_ids` with some tokens masked and some exchanged for ordinary tokens of the same batch.

    Only `ordinary` tokens, neither special nor padding, change, and only in about half of the texts; there the shares
    are chances for each token. Draws from torch's global generator, which checkpoints keep.
    """
    chance = torch.rand(input_ids.shape)
    touched = (torch.rand(input_ids.shape[0], 1) >= UNTOUCHED_SHARE) & ordinary
    pool = input_ids[ordinary]
    if pool.numel() == 0:
        return input_ids
    drawn = pool[torch.randint(pool.numel(), input_ids.shape)]
    noisy = torch.where(touched & (chance < mask_share), torch.full_like(input_ids, mask_id), input_ids)
    exchanged = touched & (chance >= mask_share) & (chance < mask_share + exchange_share)
    return torch.where(exchanged, drawn, noisy)


def exchange_for(
    input_ids: Int[Tensor, "batch seq"],
    ordinary: Bool[Tensor, "batch seq"],
    pieces: Int[Tensor, "pieces"],
    share: float,
) -> Int[Tensor, "batch seq"]:
    """`input_ids` with some ordinary tokens exchanged for one of `pieces`, in about half of the texts.

    `share` is the chance of each token there. Draws from torch's global generator, as `add_noise` does.
    """
    touched = (torch.rand(input_ids.shape[0], 1) >= UNTOUCHED_SHARE) & ordinary
    exchanged = touched & (torch.rand(input_ids.shape) < share)
    return torch.where(exchanged, pieces[torch.randint(len(pieces), input_ids.shape)], input_ids)
