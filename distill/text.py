"""Texts in tokens, all in memory, and their batches in an order that a seed fixes."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.dataset import Example
from artifact.errors import DataError, ModelError
from distill.augment import add_noise, exchange_for
from distill.batch import Batch, InputForm, collate_packed, collate_padded
from distill.batching import FeedPosition, Plan, Rows, planned, seeded, split
from distill.config import Noise
from distill.encoding import encode, special_tokens
from distill.examples import Known, Reads, read_examples

__all__ = ["Batch", "Encoded", "Texts", "encode", "special_tokens", "with_noise"]

READS = Reads()
"""One text with one label."""


@dataclass(frozen=True)
class Encoded:
    """Texts in tokens, special tokens included."""

    texts: Sequence[Int[Tensor, "_"]]
    labels: Sequence[Known]
    form: InputForm
    pairs: Sequence[Int[Tensor, "_"]] | None = None
    """The text that answers each; a batch of pairs is all texts, then all their answers."""
    of_split: bool = False
    """Whether these are all texts of a split, so that an index names one in every epoch."""
    types: Sequence[Int[Tensor, "_"]] | None = None
    """Of each token, where texts are read in pairs."""
    tags: Sequence[Int[Tensor, "_"]] | None = None
    """Label of each token, -1 where it has none, where words are tagged."""
    queries: Rows = field(default_factory=list)
    """Texts that are candidates of one query, by index, the right one last."""

    def lengths(self) -> list[int]:
        """Tokens of each text, or of the longer one of each pair."""
        if self.pairs is None:
            return [len(text) for text in self.texts]
        return [max(len(text), len(pair)) for text, pair in zip(self.texts, self.pairs, strict=True)]

    def parts(self, rows: Rows, plan: Plan) -> list[Batch]:
        """The process's share of a planned batch, in the parts of it that are computed one after the other.

        Every `world`-th row is this process's own, so that lengths are spread evenly; there may be none.
        """
        return [self._batch(part, plan) for part in split(rows[plan.rank :: plan.world], plan.accumulate)]

    def padded(self, order: Sequence[int]) -> Batch:
        """The texts of those indices, a row each, padded to the longest."""
        labels = [self.labels[text] for text in order]
        if self.pairs is not None:
            both = [self.texts[text] for text in order] + [self.pairs[text] for text in order]
            return collate_padded(both, labels * 2, self.form)
        types, tags = ([x[text] for text in order] if x is not None else None for x in (self.types, self.tags))
        batch = collate_padded([self.texts[text] for text in order], labels, self.form, types=types, tags=tags)
        return replace(batch, texts=tuple(order)) if self.of_split else batch

    def queried(self, queries: Rows) -> Batch:
        """The candidates of those queries, to be learnt among one another."""
        order = list(itertools.chain.from_iterable(queries))
        most, places = max(map(len, queries)), iter(range(len(order)))
        rows = [[-1] * (most - len(query)) + [next(places) for _ in query] for query in queries]
        return replace(self.padded(order), candidates=torch.tensor(rows))

    def _batch(self, rows: Rows, plan: Plan) -> Batch:
        if plan.among_candidates:
            return self.queried(rows)
        order = list(itertools.chain.from_iterable(rows))
        if not plan.packing or self.pairs is not None or self.types is not None:  # a packed row has no types
            return self.padded(order)
        packed = [[self.texts[text] for text in row] for row in rows]
        labels = [self.labels[text] for text in order]
        batch = collate_packed(packed, labels, self.form, first_position=plan.first_position)
        return replace(batch, texts=tuple(order) if self.of_split else None)


class Texts:
    """A split in tokens, cut to `max_tokens`; raises `DataError` when it is empty."""

    def __init__(
        self, tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int, split: str, reads: Reads = READS
    ) -> None:
        if not examples:
            raise DataError(f"the {split} split has no rows")
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        found = read_examples(tokenizer, examples, max_tokens, reads)
        if not found.ids:
            raise DataError(f"no row of the {split} split has an utterance that is right", "give it some")
        self._encoded = Encoded(
            found.ids, found.known, InputForm.of(tokenizer), found.pairs, of_split=found.pairs is None,
            types=found.types, tags=found.tags, queries=found.queries,
        )  # fmt: skip
        self.lengths = self._encoded.lengths()

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The texts at `indices`, padded to the longest of them."""
        return self._encoded.padded(list(indices))

    def digest(self) -> str:
        """SHA-256 of all tokens and types, in order: whatever tokenizer and `max_tokens` made them."""
        hashed = hashlib.sha256(torch.tensor(self.lengths).numpy().tobytes())
        for text in (*self._encoded.texts, *(self._encoded.types or ())):
            hashed.update(text.numpy().tobytes())
        return hashed.hexdigest()

    def steps(self, plan: Plan, position: FeedPosition) -> Iterator[tuple[list[Batch], FeedPosition]]:
        """The process's parts of each step from `position` on, without end, and the position after the step.

        All processes plan the same batches and take turns at their texts (packed: at their rows). A batch with fewer
        of them than there are processes leaves some an empty list: they compute nothing, and still take part in the
        sum of gradients.
        """
        for epoch in itertools.count(position.epoch):
            batches = self._planned(plan, epoch)
            for index in range(position.batch if epoch == position.epoch else 0, len(batches)):
                ends = index + 1 == len(batches)
                after = FeedPosition(epoch=epoch + 1) if ends else FeedPosition(epoch=epoch, batch=index + 1)
                yield self._encoded.parts(batches[index], plan), after

    def steps_per_epoch(self, plan: Plan) -> int:
        """Steps of the first epoch; with `batch_tokens`, later ones may have a few more or less."""
        return len(self._planned(plan, 0))

    def noisy(self, batch: Batch, noise: Noise, lacking: Int[Tensor, "lacking"] | None = None) -> Batch:
        """`with_noise`, by this split's tokenizer."""
        return with_noise(batch, self._tokenizer, noise, lacking)

    @property
    def queries(self) -> int:
        """Queries with an utterance that is right and some that are not."""
        return len(self._encoded.queries)

    def in_order(self, batch_size: int, *, among_candidates: bool = False) -> Iterator[Batch]:
        """All texts once, or all queries, longest first, so that a batch too large for memory fails at once."""
        if among_candidates:
            queries = sorted(self._encoded.queries, key=lambda query: -self._longest(query))
            each = max(1, batch_size // self._most)
            yield from (self._encoded.queried(queries[i : i + each]) for i in range(0, len(queries), each))
            return
        order = sorted(range(len(self)), key=lambda i: -self.lengths[i])
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start : start + batch_size])

    def _planned(self, plan: Plan, epoch: int) -> list[Rows]:
        generator = seeded(plan.seed, epoch)
        if not plan.among_candidates:
            return planned(self.lengths, plan, self._max_tokens, generator)
        queries, most = self._encoded.queries, self._most
        tokens = None if plan.batch_tokens is None else max(1, plan.batch_tokens // most)
        fewer = replace(plan, batch_size=max(1, plan.batch_size // most), batch_tokens=tokens)
        batches = planned([self._longest(query) for query in queries], fewer, self._max_tokens, generator)
        return [[queries[query] for (query,) in batch] for batch in batches]

    def _longest(self, query: Sequence[int]) -> int:
        return max(self.lengths[text] for text in query)

    @property
    def _most(self) -> int:
        return max(map(len, self._encoded.queries))


def with_noise(
    batch: Batch, tokenizer: Tokenizer, noise: Noise, lacking: Int[Tensor, "lacking"] | None = None
) -> Batch:
    """`batch` with words masked and exchanged, for one of its own or for one of those `lacking` in the student.

    `ModelError` when the tokenizer has no mask token.
    """
    mask_id = tokenizer.mask_token_id
    if mask_id is None:
        raise ModelError("phase.noise masks words, but the tokenizer has no mask token")
    ids = batch.token_ids()
    ordinary = batch.mask & ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    noisy = add_noise(ids, ordinary, mask_id=mask_id, mask_share=noise.mask_share, exchange_share=noise.exchange_share)
    if noise.spell_share and lacking is not None:
        noisy = exchange_for(noisy, ordinary, lacking, noise.spell_share)
    return batch.with_token_ids(noisy)
