"""What a teacher shows of a training split, on disk: where it lies, and how a batch reads it.

A shard is a plain file of texts in order of length. A text has one block for each thing wanted (Q, K or V of a layer, a
hidden state, the logits): the values of its real tokens, in the precision that the teacher gave them in, then their
CRC-32. Where a block lies follows from the lengths, so there is no index that could be wrong. `distill/cache_fill.py`
gives a shard its name only when all of it is written.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artifact.errors import TrainingError
from distill.batch import Batch
from distill.capture import Projections, Seen, Slot, Wanted

CRC_BYTES = 4
LOGITS: Slot = ("logits", 0)

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


@dataclass(frozen=True)
class Block:
    """One of the things kept of every text."""

    slot: Slot
    width: int
    """Values a token, or a text where it has but one row of them."""
    dtype: torch.dtype
    per_token: bool

    def size_bytes(self, tokens: int) -> int:
        """Of the block of a text of so many tokens, its checksum included."""
        rows = tokens if self.per_token else 1
        return rows * self.width * self.dtype.itemsize + CRC_BYTES


@dataclass(frozen=True)
class Layout:
    """Which texts a shard has, in order, and where in it each begins."""

    blocks: tuple[Block, ...]
    lengths: Sequence[int]
    shards: tuple[tuple[int, ...], ...]
    sizes_bytes: tuple[int, ...]
    """Of each shard."""
    places: Mapping[int, tuple[int, int]]
    """Shard and first byte of each text."""

    @classmethod
    def of(cls, blocks: Sequence[Block], lengths: Sequence[int], shard_bytes: int) -> "Layout":
        """Shards of at most `shard_bytes`, unless one text alone is more.

        The longest texts come first, so that one too long for memory fails at once.
        """
        shards: list[list[int]] = []
        sizes: list[int] = []
        places = {}
        for text in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            size = sum(block.size_bytes(lengths[text]) for block in blocks)
            if not shards or sizes[-1] + size > shard_bytes:
                shards.append([])
                sizes.append(0)
            places[text] = len(shards) - 1, sizes[-1]
            shards[-1].append(text)
            sizes[-1] += size
        return cls(tuple(blocks), lengths, tuple(map(tuple, shards)), tuple(sizes), places)

    def span(self, text: int, slot: Slot) -> tuple[int, int, int]:
        """Shard, first byte, and the byte after the last of a block's values, where its checksum begins."""
        shard, start = self.places[text]
        for block in self.blocks:
            size = block.size_bytes(self.lengths[text])
            if block.slot == slot:
                return shard, start, start + size - CRC_BYTES
            start += size
        raise RuntimeError(f"{slot} is not in the teacher cache")

    def is_whole(self, directory: Path, shard: int) -> bool:
        """Whether a shard has been written."""
        path = shard_path(directory, shard)
        return path.is_file() and path.stat().st_size == self.sizes_bytes[shard]


class TeacherCache:
    """A filled cache, memory-mapped; raises `TrainingError` where a shard is missing or not of its size."""

    def __init__(self, directory: Path, layout: Layout, heads: int) -> None:
        shards = range(len(layout.shards))
        missing = [shard for shard in shards if not layout.is_whole(directory, shard)]
        if missing:
            raise TrainingError(
                f"{len(missing)} of {len(shards)} shards of the teacher cache are not in {directory}",
                "processes on several hosts need one --out that all of them see",
            )
        self._directory, self._layout, self._heads = directory, layout, heads
        self._shards = [np.memmap(shard_path(directory, shard), np.uint8, mode="r") for shard in shards]

    def seen(self, batch: Batch, wanted: Wanted) -> Seen:
        """What the teacher showed of these texts, on their device; zero at padding.

        Raises `TrainingError` for values that are not what was written.
        """
        slots = _slots(wanted)
        blocks = [block for block in self._layout.blocks if block.slot in slots]
        if batch.texts is None or len(blocks) < len(slots):
            raise RuntimeError("the batch is not of the split that was cached, or more is wanted than was")
        found = {block.slot: self._read(block, batch.texts, batch.mask.shape[1]) for block in blocks}
        return _as_seen({slot: values.to(batch.mask.device) for slot, values in found.items()}, self._heads)

    def _read(self, block: Block, texts: Sequence[int], seq: int) -> Tensor:
        shape = (len(texts), seq, block.width) if block.per_token else (len(texts), block.width)
        padded = torch.zeros(shape, dtype=block.dtype)
        for row, text in zip(padded.view(torch.uint8).numpy(), texts, strict=True):
            values = self._values(text, block.slot)
            row.reshape(-1)[: len(values)] = values
        return padded

    def _values(self, text: int, slot: Slot) -> Bytes:
        shard, start, end = self._layout.span(text, slot)
        written = self._shards[shard]
        if checksum(written[start:end].data) != written[end : end + CRC_BYTES].tobytes():
            raise TrainingError(
                f"{shard_path(self._directory, shard)} has changed since it was written",
                "is the disk failing? remove that file and run the same command again: it is computed anew",
            )
        return written[start:end]


def shard_path(directory: Path, shard: int) -> Path:
    """The file of a shard."""
    return directory / f"{shard:05}.bin"


def checksum(values: bytes | memoryview) -> bytes:
    """CRC-32: it need find a failing disk, not a forger, and is read with every batch."""
    return zlib.crc32(values).to_bytes(CRC_BYTES, "little")


def by_slot(seen: Seen) -> dict[Slot, Tensor]:
    """All that a model showed, by name; the inverse of what `seen` of the cache puts together."""
    found: dict[Slot, Tensor] = {}
    for layer, rows in seen.projections.items():
        found |= {("Q", layer): rows.Q, ("K", layer): rows.K, ("V", layer): rows.V}
    found |= {("hidden", layer): state for layer, state in seen.hidden.items()}
    return found if seen.logits is None else found | {LOGITS: seen.logits}


def _as_seen(found: Mapping[Slot, Tensor], heads: int) -> Seen:
    layers = [layer for name, layer in found if name == "Q"]
    rows = {n: Projections(found["Q", n], found["K", n], found["V", n], heads) for n in layers}
    return Seen(rows, {n: state for (name, n), state in found.items() if name == "hidden"}, found.get(LOGITS))


def _slots(wanted: Wanted) -> set[Slot]:
    slots = {(name, layer) for layer in wanted.layers for name in "QKV"} | {("hidden", n) for n in wanted.hidden}
    return slots | ({LOGITS} if wanted.logits else set())
