"""Tokenised text and length-grouped batches in an order that a seed fixes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.dataset import Example
from artifact.errors import DataError, ModelError
from distill.augment import add_noise

BATCHES_PER_GROUP = 50
"""Batches that are sorted by length together: enough that little is padded, few enough that order stays random."""


@dataclass(frozen=True)
class Batch:
    """Padded texts."""

    inputs: dict[str, Tensor]
    """What the models take: `input_ids`, `attention_mask` and, for some, `token_type_ids`."""
    mask: Bool[Tensor, "batch seq"]
    labels: Int[Tensor, "batch"]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(inputs, self.mask.to(device), self.labels.to(device))


class Texts:
    """A split in tokens, cut to `max_tokens`; raises `DataError` when it is empty."""

    def __init__(self, tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int, split: str) -> None:
        if not examples:
            raise DataError(f"the {split} split has no rows")
        self._tokenizer = tokenizer
        self._encoded = tokenizer([e.text for e in examples], truncation=True, max_length=max_tokens)
        self._labels = [e.label for e in examples]
        self.lengths = [len(ids) for ids in self._encoded["input_ids"]]
        self._epoch: tuple[tuple[int, int, int], list[list[int]]] = ((0, 0, -1), [])

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The texts at `indices`, padded to the longest of them."""
        names = [name for name in self._tokenizer.model_input_names if name in self._encoded]
        rows = {name: [self._encoded[name][i] for i in indices] for name in names}
        inputs = dict(self._tokenizer.pad(rows, return_tensors="pt", verbose=False))
        labels = torch.tensor([self._labels[i] for i in indices])
        return Batch(inputs=inputs, mask=inputs["attention_mask"].bool(), labels=labels)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """`shuffled_batches` of one epoch, kept until another is asked for."""
        if self._epoch[0] != (batch_size, seed, epoch):
            batches = shuffled_batches(self.lengths, batch_size, seed=seed, epoch=epoch)
            self._epoch = ((batch_size, seed, epoch), batches)
        return self._epoch[1]

    def noisy(self, batch: Batch, mask_share: float, exchange_share: float) -> Batch:
        """`batch` with words masked and exchanged; `ModelError` when the tokenizer has no mask token."""
        mask_id = self._tokenizer.mask_token_id
        if mask_id is None:
            raise ModelError("phase.noise masks words, but the tokenizer has no mask token")
        ids = batch.inputs["input_ids"]
        ordinary = batch.mask & ~torch.isin(ids, torch.tensor(self._tokenizer.all_special_ids))
        noisy = add_noise(ids, ordinary, mask_id=mask_id, mask_share=mask_share, exchange_share=exchange_share)
        return Batch(batch.inputs | {"input_ids": noisy}, batch.mask, batch.labels)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All texts once, longest first, so that a batch too large for memory fails at once."""
        order = sorted(range(len(self)), key=lambda i: -self.lengths[i])
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start : start + batch_size])


def shuffled_batches(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Indices of one epoch's batches: random, but texts of like length together; the same for the same seed and epoch.

    The last batch may be short: no text is dropped.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    group = batch_size * BATCHES_PER_GROUP
    batches: list[list[int]] = []
    for start in range(0, len(order), group):
        near = sorted(order[start : start + group], key=lambda i: lengths[i])
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
