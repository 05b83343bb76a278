"""Rows of many lengths as the arrays that a graph takes: which share one, and how the short ones are filled up."""

from collections.abc import Sequence

import numpy as np

from serve.batching.cut import cut
from serve.bundle import BundleInfo
from serve.engine import Integers, Piece


def cut_batches(lengths: Integers, batch_tokens: int) -> list[Integers]:
    """Row numbers in batches of like lengths, longest first, each at most `batch_tokens` when padded (or one row).

    Longest first, because the allocator then reuses for the small batches what it took for the large one.
    """
    order = np.argsort(lengths, kind="stable")
    runs = cut(lengths[order].tolist(), batch_tokens)
    return [order[run.start : run.stop][::-1] for run in reversed(runs)]


def pad(encodings: Sequence[Piece], info: BundleInfo) -> dict[str, Integers]:
    """The graph's inputs, `[batch, seq]` each, as wide as the longest text."""
    width = max(1, *(len(encoding) for encoding in encodings))
    shape = (len(encodings), width)
    ids = np.full(shape, info.padding.id, dtype=np.int64)
    types = np.full(shape, info.padding.token_type_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, encoding in enumerate(encodings):
        length = len(encoding)
        slots = max(1, length)  # a text without tokens keeps one, or its mean over no token would be NaN
        start = 0 if info.padding.side == "right" else width - slots
        ids[row, start : start + length] = encoding.ids
        types[row, start : start + length] = encoding.type_ids
        mask[row, start : start + slots] = 1
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: feed[name] for name in info.inputs}
