"""Fills the teacher cache: shard by shard, each there whole or not at all, so that a killed run goes on.

Its folder is named by a digest of all that the values depend on: what has a name there can be read, and nothing that
was made of another teacher or of other texts can.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from artifact.digest import hash_json
from artifact.errors import TrainingError
from artifact.progress import Advance, progress, say
from distill.batch import Batch
from distill.cache import Block, Layout, TeacherCache, by_slot, checksum, shard_path
from distill.capture import Seen, Wanted, observe
from distill.text import Texts

VERSION = 1
SHARD_BYTES = 2**30
FILL_TOKENS = 8_192
"""Tokens, padding included, that the teacher reads at once."""
DISK_SHARE_LEFT = 0.05
"""Of the whole disk, for everything else that writes there."""

Look = Callable[[Batch], Seen]


def open_cache(
    teacher: PreTrainedModel, texts: Texts, wanted: Wanted, directory: Path, accelerator: Accelerator
) -> TeacherCache:
    """The cache in `directory`, filled as far as it is not; caches of anything else there are removed.

    The main process computes and writes. The others wait for it shard by shard: all of it could take longer than a
    process group waits. Raises `TrainingError` when the disk has no room, before it is filled and meanwhile.
    """

    def look(batch: Batch) -> Seen:
        with torch.inference_mode(), accelerator.autocast():
            return observe(teacher, batch.to(accelerator.device).inputs, wanted)

    layout = Layout.of(_blocks(look, texts), texts.lengths, SHARD_BYTES)
    filler = _Filler(directory / _key(teacher, texts, layout.blocks), layout, texts, look)
    if accelerator.is_main_process:
        _remove_others(filler.directory)
        filler.make_room()
    accelerator.wait_for_everyone()
    with filler.shown() if accelerator.is_main_process else nullcontext() as advance:
        for shard in range(len(layout.shards)):
            if advance is not None and not layout.is_whole(filler.directory, shard):
                filler.fill(shard, advance)
            accelerator.wait_for_everyone()
    return TeacherCache(filler.directory, layout, teacher.config.num_attention_heads)


@dataclass(frozen=True)
class _Filler:
    directory: Path
    layout: Layout
    texts: Texts
    look: Look

    def shown(self) -> AbstractContextManager[Advance]:
        """Progress in tokens, as texts differ in length; what an earlier run wrote is done."""
        done = sum(self.texts.lengths[text] for shard in self._whole() for text in self.layout.shards[shard])
        return progress("teacher cache, tokens", sum(self.texts.lengths), done=done)

    def make_room(self) -> None:
        """Say how large the cache is; `TrainingError` when what is missing of it does not fit the disk."""
        self.directory.mkdir(parents=True, exist_ok=True)
        size = sum(self.layout.sizes_bytes)
        there = sum(self.layout.sizes_bytes[shard] for shard in self._whole())
        say(f"teacher cache: {_human(size)} for {len(self.texts):,} texts" + _of_which(there))
        disk = shutil.disk_usage(self.directory)
        room = max(0, disk.free - int(DISK_SHARE_LEFT * disk.total))
        if size - there > room:
            raise TrainingError(
                f"the teacher cache needs {_human(size - there)}, but {self.directory.parent} has room for "
                f"{_human(room)} ({_human(disk.free)} free, of which {DISK_SHARE_LEFT:.0%} of the disk is left alone)",
                f"leave cache_teacher to phases whose share fits ({self._shares()}), or turn it off",
            )

    def fill(self, shard: int, advance: Advance) -> None:
        """Write one shard: whole, or not at all (`TrainingError` when the disk is full)."""
        path = shard_path(self.directory, shard)
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                for some in _batches(self.layout.shards[shard], self.texts.lengths):
                    file.writelines(self._records(some))
                    advance(sum(self.texts.lengths[text] for text in some), "")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise TrainingError(
                f"cannot write the teacher cache {path}: {error}",
                "make room and run the same command again, or turn cache_teacher off",
            ) from None
        finally:
            temporary.unlink(missing_ok=True)

    def _records(self, texts: Sequence[int]) -> Iterator[bytes]:
        found = {slot: values.cpu() for slot, values in by_slot(self.look(self.texts.batch(texts))).items()}
        for row, text in enumerate(texts):
            for block in self.layout.blocks:
                values = found[block.slot][row]
                values = values[: self.texts.lengths[text]] if block.per_token else values
                raw = values.contiguous().view(torch.uint8).numpy().tobytes()
                yield raw
                yield checksum(raw)

    def _whole(self) -> list[int]:
        return [shard for shard in range(len(self.layout.shards)) if self.layout.is_whole(self.directory, shard)]

    def _shares(self) -> str:
        kinds: dict[str, int] = {}
        for block in self.layout.blocks:
            kind = {"hidden": "hidden states", "logits": "logits"}.get(block.slot[0], "queries, keys and values")
            kinds[kind] = kinds.get(kind, 0) + sum(block.size_bytes(tokens) for tokens in self.texts.lengths)
        return "; ".join(f"{kind}: {_human(size)}" for kind, size in kinds.items())


def _blocks(look: Look, texts: Texts) -> tuple[Block, ...]:
    """What the teacher shows of the shortest text tells all widths and precisions, whatever its architecture."""
    shortest = min(range(len(texts)), key=texts.lengths.__getitem__)
    found = by_slot(look(texts.batch([shortest])))
    return tuple(Block(slot, x.shape[-1], x.dtype, per_token=x.ndim == 3) for slot, x in found.items())


def _batches(texts: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    """`texts`, longest first, in runs of at most `FILL_TOKENS` with padding."""
    start = 0
    while start < len(texts):
        end = start + max(1, FILL_TOKENS // lengths[texts[start]])
        yield texts[start:end]
        start = end


def _key(teacher: PreTrainedModel, texts: Texts, blocks: Sequence[Block]) -> str:
    """Digest of all that the values and their places depend on.

    The weights are those in memory, not those of a file: a head that does not fit the labels was made anew. A tokenizer
    and `max_tokens` count by the tokens that they make.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(teacher.state_dict().items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    config = json.loads(teacher.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)  # the same teacher in another folder
    kept = [[*block.slot, block.width, str(block.dtype)] for block in blocks]
    return hash_json({
        "version": VERSION, "weights": weights.hexdigest(), "config": config, "texts": texts.digest(), "kept": kept,
        "shard_bytes": SHARD_BYTES,
    })  # fmt: skip


def _remove_others(directory: Path) -> None:
    others = [path for path in directory.parent.glob("*") if path.name != directory.name]
    if others:
        say("teacher cache: the one found is of another teacher, other texts or other objectives; it is made anew")
    for path in others:
        shutil.rmtree(path)


def _of_which(there_bytes: int) -> str:
    return f", of which {_human(there_bytes)} are there" if there_bytes else ""


def _human(size_bytes: int) -> str:
    scale, unit = (1e9, "GB") if size_bytes >= 1e9 else (1e6, "MB") if size_bytes >= 1e6 else (1e3, "kB")
    return f"{size_bytes / scale:.1f} {unit}"
