"""A corpus too large to hold, a window of it at a time: read, tokenised, batched, while the window before it trains.

All that a window depends on is the recipe and where it begins, so a run can go on from any step of it.
"""

import copy
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import DataError
from distill.batch import Batch, InputForm
from distill.batching import FeedPosition, Plan, planned, seeded
from distill.code_switch import code_switch, read_lexicon
from distill.config import CorpusConfig, Mixture, Noise
from distill.corpus import Record, corpus_files, read_records
from distill.held_out import is_held_out
from distill.text import Encoded, encode, with_noise

WINDOW_TEXTS = 20_000
"""Texts tokenised and batched together: many times a batch, or little of it is filled."""
CHARACTERS_PER_TOKEN = 4

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Window:
    encoded: Encoded
    begins: FeedPosition
    after: FeedPosition


class Stream:
    """A corpus in tokens, long texts cut into pieces of `max_tokens`; raises `DataError` for files that are not there.

    Each process reads its own share of the records and makes its own batches of them, of its share of the plan's size.
    With `holds_out` it passes over the records that `distill/held_out.py` keeps for evaluation.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: CorpusConfig,
        max_tokens: int,
        window_texts: int = WINDOW_TEXTS,
        *,
        holds_out: bool = False,
    ) -> None:
        corpus_files(config)
        self._tokenizer = tokenizer
        self._form = InputForm.of(tokenizer)
        self._config = config
        self._max_tokens = max_tokens
        self._window_texts = window_texts
        self._holds_out = holds_out
        parts = (config.source.parts or {}).values() if isinstance(config.source, Mixture) else [config]
        lexicons = {part.code_switch.lexicon for part in parts if part.code_switch is not None}
        self._lexicons = {path: read_lexicon(path) for path in lexicons}

    def steps(self, plan: Plan, position: FeedPosition) -> Iterator[tuple[list[Batch], FeedPosition]]:
        """The process's parts of each step from `position` on, without end, and the position after the step.

        Positions differ between processes, whose texts differ. Raises `DataError` for a corpus without text.
        """
        share = plan.share()
        for window in _read_ahead(self._windows(plan, position)):
            generator = seeded(plan.seed, window.begins.epoch, window.begins.window)
            batches = planned(window.encoded.lengths(), share, self._max_tokens, generator)
            for index in range(window.begins.batch, len(batches)):
                ends = index + 1 == len(batches)
                after = window.after if ends else window.begins.model_copy(update={"batch": index + 1})
                yield window.encoded.parts(batches[index], share), after

    def noisy(self, batch: Batch, noise: Noise, lacking: Int[Tensor, "lacking"] | None = None) -> Batch:
        """`with_noise`, by the corpus's tokenizer."""
        return with_noise(batch, self._tokenizer, noise, lacking)

    def _windows(self, plan: Plan, position: FeedPosition) -> Iterator[_Window]:
        tokenizer = copy.deepcopy(self._tokenizer)  # a Rust tokenizer in use by another thread refuses to be set
        while True:
            empty = position.records == 0
            for window in self._pass(tokenizer, plan, position):
                empty = empty and not window.encoded.texts
                yield window
            if empty:
                share = f" in the share of process {plan.rank} of {plan.world}" if plan.world > 1 else ""
                raise DataError(f"the corpus has no text{share}", "look at source.files, source.field and unit")
            position = FeedPosition(epoch=position.epoch + 1)

    def _pass(self, tokenizer: Tokenizer, plan: Plan, begins: FeedPosition) -> Iterator[_Window]:
        records = read_records(self._config, rank=plan.rank, world=plan.world, skip=begins.records)
        while first := next(records, None):
            count, encoded = self._take(tokenizer, itertools.chain([first], records), plan.seed, begins.epoch)
            after = FeedPosition(epoch=begins.epoch, window=begins.window + 1, records=begins.records + count)
            yield _Window(encoded, begins, after)
            begins = after

    def _take(self, tokenizer: Tokenizer, records: Iterator[Record], seed: int, epoch: int) -> tuple[int, Encoded]:
        """How many records make a window, and their texts in tokens; of pairs, only the first piece of each text."""
        if self._config.source.pair_field is not None:
            taken = list(itertools.islice(records, self._window_texts // 2))
            sides = [[record.text for record in taken], [record.pair or "" for record in taken]]
            lefts, rights = ([some[0] for some in encode(tokenizer, side, self._max_tokens)] for side in sides)
            return len(taken), Encoded(lefts, [-1] * len(lefts), self._form, rights)
        count, texts = self._texts(records, seed, epoch)
        pieces = [piece for some in encode(tokenizer, texts, self._max_tokens) for piece in some]
        return count, Encoded(pieces, [-1] * len(pieces), self._form)

    def _texts(self, records: Iterator[Record], seed: int, epoch: int) -> tuple[int, list[str]]:
        """Whole records, until they make pieces enough, and their texts."""
        count, pieces, texts = 0, 0, list[str]()
        for record in records:
            count += 1
            # A record that is held out counts among those read, so that a resume finds its place.
            held_out = self._holds_out and is_held_out(record.text)
            units = [] if held_out else record.units()
            texts += self._switched(units, record, seed, epoch)
            pieces += sum(1 + len(text) // (self._max_tokens * CHARACTERS_PER_TOKEN) for text in units)
            if pieces >= self._window_texts:
                break
        return count, texts

    def _switched(self, texts: list[str], record: Record, seed: int, epoch: int) -> list[str]:
        switch = record.corpus.code_switch
        if switch is None:
            return texts
        lexicon = self._lexicons[switch.lexicon]
        generator = seeded(seed, epoch, record.number)
        return [code_switch(text, lexicon, generator, switch.text_share, switch.word_share) for text in texts]


def _read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """`items`, the next one made in a thread while this one is in use."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
