"""The teacher cache: what is read is what the teacher shows, and a run that reads it learns the same."""

import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from children import CHILDREN
from safetensors.torch import load_file
from tiny_models import make_bert, make_examples, make_tokenizer, save_teacher, seal_dataset

from artifact.errors import TrainingError
from artifact.stage import run_stage
from distill import cache_fill
from distill.batching import FeedPosition, Plan
from distill.cache import CRC_BYTES, Block, Layout, TeacherCache, by_slot
from distill.cache_fill import open_cache
from distill.capture import Wanted, observe
from distill.config import CorpusConfig, ModelConfig
from distill.run import distill_stage
from distill.stream import Stream
from distill.text import Texts

ALL = Wanted(layers=(1, 2), hidden=(0, 2), logits=True)


class DiskUsage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


@pytest.fixture
def teacher():
    return make_bert()


@pytest.fixture
def texts():
    """Sixty texts of 3 to 11 tokens."""
    return Texts(make_tokenizer(), make_examples(60, 4), 16, "train")


@pytest.fixture
def looked(monkeypatch):
    """Texts that the teacher was shown, and a way to stop after some of its passes; 0 is never."""
    real, seen = cache_fill.observe, {"texts": 0, "stop_after": 0}

    def counting(model, inputs, wanted):
        seen["texts"] += len(inputs["input_ids"])
        seen["stop_after"] -= 1
        if seen["stop_after"] == 0:
            raise KeyboardInterrupt
        return real(model, inputs, wanted)

    monkeypatch.setattr(cache_fill, "observe", counting)
    return seen


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(cache_fill, "SHARD_BYTES", 50_000)
    monkeypatch.setattr(cache_fill, "FILL_TOKENS", 40)


def fill(teacher, texts, directory, wanted=ALL):
    return open_cache(teacher, texts, wanted, directory, Accelerator())


def shards_of(directory):
    return sorted(directory.glob("*/*.bin"))


def assert_reads(cache, teacher, texts, batches, *, atol, wanted=ALL):
    """`cache` shows of `batches` what `teacher` shows of them, and nothing at padding."""
    for indices in batches:
        batch = texts.batch(indices)
        with torch.no_grad():
            expected = by_slot(observe(teacher, batch.inputs, wanted))
        found = by_slot(cache.seen(batch, wanted))
        assert found.keys() == expected.keys()
        for slot, values in found.items():
            real = batch.mask if values.ndim == 3 else slice(None)
            torch.testing.assert_close(values[real], expected[slot][real], atol=atol, rtol=0)
            assert values.shape == expected[slot].shape
            assert values.ndim == 2 or not values[~batch.mask].any()


def test_a_text_alone_is_read_as_it_was_shown(tmp_path, teacher, texts, monkeypatch):
    """Oracle: `observe` on each text alone, when the cache was filled text by text: the same bits."""
    monkeypatch.setattr(cache_fill, "FILL_TOKENS", 1)
    cache = fill(teacher, texts, tmp_path)
    assert_reads(cache, teacher, texts, [[i] for i in range(60)], atol=0.0)


def test_ragged_batches_are_read_as_they_were_shown(tmp_path, teacher, texts, small_shards):
    """Oracle: `observe` on batches of other texts together than the cache was filled with; padding moves last bits."""
    cache = fill(teacher, texts, tmp_path)
    assert len(shards_of(tmp_path)) > 3
    assert all(path.stat().st_size <= 50_000 for path in shards_of(tmp_path))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1)).tolist()
    batches = [[0], order[:7], order[7:40], order[40:], [5, 5, 3]]
    assert len({texts.lengths[i] for i in order[:7]}) > 2
    assert_reads(cache, teacher, texts, batches, atol=1e-5)


def test_only_what_a_phase_wants_is_read(tmp_path, teacher, texts):
    """Oracle: the teacher's own output for a part of what was kept; asking for what was not is a bug of ours."""
    cache = fill(teacher, texts, tmp_path)
    for wanted in (Wanted(logits=True), Wanted(layers=(2,)), Wanted(hidden=(0, 2))):
        assert_reads(cache, teacher, texts, [[1, 9, 4]], atol=1e-5, wanted=wanted)
    with pytest.raises(RuntimeError, match="more is wanted"):
        cache.seen(texts.batch([0]), Wanted(hidden=(1,)))


def test_half_precision_is_kept_as_it_is(tmp_path, teacher, texts, monkeypatch):
    """Oracle: `observe` on each text alone under bf16 autocast, types and bits."""
    monkeypatch.setattr(cache_fill, "FILL_TOKENS", 1)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        accelerator = Accelerator(mixed_precision="bf16", cpu=True)
        cache = open_cache(teacher, texts, ALL, tmp_path, accelerator)
        for index in range(0, 60, 7):
            batch = texts.batch([index])
            with torch.no_grad(), accelerator.autocast():
                expected = by_slot(observe(teacher, batch.inputs, ALL))
            found = by_slot(cache.seen(batch, ALL))
            assert all(torch.equal(found[slot], x) and found[slot].dtype == x.dtype for slot, x in expected.items())
        assert found["Q", 1].dtype == torch.bfloat16
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_a_filled_cache_is_not_filled_again(tmp_path, teacher, texts, looked, capfd):
    """Oracle: the texts that the teacher was shown: all and the one that tells the widths, then only that one."""
    fill(teacher, texts, tmp_path)
    assert looked["texts"] == 61
    said = capfd.readouterr().err
    size = sum(path.stat().st_size for path in shards_of(tmp_path))
    assert f"teacher cache: {size / 1e3:.1f} kB for 60 texts" in said
    cache = fill(teacher, texts, tmp_path)
    assert looked["texts"] == 62
    assert_reads(cache, teacher, texts, [range(60)], atol=1e-5)


@pytest.mark.parametrize("passes", [2, 3, 5, 9])
def test_an_interrupted_filling_goes_on_where_it_stopped(tmp_path, teacher, texts, looked, passes, small_shards):  # noqa: PLR0917
    """Oracle: the bytes of an undisturbed cache; shards that were whole are left as they are, half of one is not."""
    fill(teacher, texts, tmp_path / "calm")
    looked.update(texts=0, stop_after=passes)
    with pytest.raises(KeyboardInterrupt):
        fill(teacher, texts, tmp_path / "stopped")
    before = {path.name: path.stat().st_mtime_ns for path in shards_of(tmp_path / "stopped")}
    assert not list(tmp_path.glob("stopped/*/*.tmp"))
    key = next((tmp_path / "stopped").iterdir())
    (key / f"{len(before):05}.tmp").write_bytes(b"what a killed run leaves")
    looked.update(texts=0, stop_after=0)
    fill(teacher, texts, tmp_path / "stopped")
    calm, stopped = (shards_of(tmp_path / name) for name in ("calm", "stopped"))
    assert [p.name for p in calm] == [p.name for p in stopped]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(calm, stopped, strict=True))
    assert all((key / name).stat().st_mtime_ns == changed for name, changed in before.items())
    assert looked["texts"] <= 61 - 4 * len(before)
    assert not list(tmp_path.glob("stopped/*/*.tmp"))


def test_another_teacher_text_or_objective_makes_another_cache(tmp_path, teacher, texts, capfd):
    """Oracle: the teacher itself, after each change; the cache before it is gone."""
    kept = {next(tmp_path.glob("*"), None)}
    other_texts = Texts(make_tokenizer(), [*make_examples(59, 4), *make_examples(1, 99)], 16, "train")
    shorter = Texts(make_tokenizer(), make_examples(60, 4), 8, "train")
    changed = make_bert()
    with torch.no_grad():
        changed.bert.embeddings.LayerNorm.bias[3] += 1e-3
    for model, some, wanted in [
        (teacher, texts, ALL), (changed, texts, ALL), (changed, other_texts, ALL), (changed, shorter, ALL),
        (changed, shorter, Wanted(hidden=(1,))),
    ]:  # fmt: skip
        cache = fill(model, some, tmp_path, wanted)
        assert_reads(cache, model, some, [range(60)], atol=1e-5, wanted=wanted)
        (key,) = tmp_path.iterdir()
        assert key not in kept
        kept.add(key)
    assert capfd.readouterr().err.count("is made anew") == 4


def test_the_teacher_in_another_folder_is_the_same(tmp_path, texts):
    """Oracle: the key, which is the folder's name."""
    for name in ("a", "b"):
        make_bert().save_pretrained(tmp_path / name)
        fill(type(make_bert()).from_pretrained(tmp_path / name), texts, tmp_path / f"cache-{name}")
    assert len({next((tmp_path / f"cache-{name}").iterdir()).name for name in ("a", "b")}) == 1


@pytest.mark.parametrize("place", [0, 100, -CRC_BYTES, -1])
def test_a_flipped_bit_is_found_when_it_is_read(tmp_path, teacher, texts, place):
    """Oracle: one bit of the first block's values or of the last block's checksum; the message names the file."""
    cache = fill(teacher, texts, tmp_path)
    (shard,) = shards_of(tmp_path)
    data = bytearray(shard.read_bytes())
    data[place] ^= 4
    shard.write_bytes(data)
    with pytest.raises(TrainingError, match=rf"{shard} has changed since it was written\n.*remove that file"):
        cache.seen(texts.batch(range(60)), ALL)
    shard.unlink()
    assert_reads(fill(teacher, texts, tmp_path), teacher, texts, [range(60)], atol=1e-5)


def test_a_shard_cut_short_is_written_anew(tmp_path, teacher, texts, small_shards, looked):
    """Oracle: the teacher; only that shard's texts are shown to it again."""
    fill(teacher, texts, tmp_path)
    os.truncate(shards_of(tmp_path)[1], 49_000)
    looked["texts"] = 0
    assert_reads(fill(teacher, texts, tmp_path), teacher, texts, [range(60)], atol=1e-5)
    assert 1 < looked["texts"] < 20


def test_a_process_that_does_not_see_the_shards_says_so(tmp_path):
    """Oracle: the message; another host's disk stands for it."""
    layout = Layout.of([Block(("logits", 0), 3, torch.float32, per_token=False)], [4, 5], 1000)
    with pytest.raises(TrainingError, match=r"1 of 1 shards of the teacher cache are not in(.|\n)*several hosts"):
        TeacherCache(tmp_path, layout, 4)


def test_too_small_a_disk_is_said_before_anything_is_written(tmp_path, teacher, texts, monkeypatch, looked):
    """Oracle: the message has what is needed and what there is; then room for it, to the byte."""
    blocks = cache_fill._blocks(lambda batch: observe(teacher, batch.inputs, ALL), texts)
    need = sum(Layout.of(blocks, texts.lengths, 2**30).sizes_bytes)
    usage = DiskUsage(total=10_000_000, used=0, free=500_000 + need - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    told = rf"the teacher cache needs {need / 1e3:.1f} kB, but {tmp_path} has room for .* \(.* free, .*5%"
    with pytest.raises(
        TrainingError, match=told + r"(.|\n)*queries, keys and values: .* kB; hidden states: .*; logits"
    ):
        fill(teacher, texts, tmp_path)
    assert not shards_of(tmp_path)
    assert looked["texts"] == 1
    usage = usage._replace(free=500_000 + need)
    assert_reads(fill(teacher, texts, tmp_path), teacher, texts, [range(60)], atol=1e-5)
    usage = usage._replace(free=0)
    fill(teacher, texts, tmp_path)  # nothing is missing


def test_a_disk_that_fills_up_leaves_whole_shards_only(tmp_path, teacher, texts):
    """Oracle: a limit on file sizes stands for the full disk; without it the same command succeeds."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot write the teacher cache .*00000.bin: (.|\n)*make room"):
            fill(teacher, texts, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in tmp_path.glob("*/*") if path.is_file()]
    assert_reads(fill(teacher, texts, tmp_path), teacher, texts, [range(60)], atol=1e-5)


def test_batches_of_a_split_know_their_texts(tmp_path, texts):
    """Oracle: the tokens of each named text; a stream and damaged texts have no names."""
    for rank in (0, 1):
        plan = Plan(batch_size=7, accumulate=2, rank=rank, world=2)
        steps = texts.steps(plan, FeedPosition())
        for part in [part for _ in range(9) for part in next(steps)[0]]:
            moved = part.to(torch.device("cpu"))
            assert moved.texts is not None
            again = texts.batch(moved.texts)
            assert torch.equal(again.inputs["input_ids"], part.inputs["input_ids"])
            assert moved.with_token_ids(part.token_ids()).texts is None
    (tmp_path / "lines.txt").write_text("turn on the light\nplay some jazz\n")
    source = {"kind": "files", "directory": tmp_path, "files": ["lines.txt"]}
    stream = Stream(make_tokenizer(), CorpusConfig(source=source), 16)
    parts, _ = next(stream.steps(Plan(batch_size=2), FeedPosition()))
    assert [part.texts for part in parts] == [None]


def student(*, cached: bool, batch_size: int) -> ModelConfig:
    common = {
        "epochs": 2, "learning_rate": 1e-3, "batch_size": batch_size, "dropout": 0.0, "cache_teacher": cached or None,
    }  # fmt: skip
    hidden = {"kind": "hidden"}
    return ModelConfig(
        start={"kind": "layers", "layers": [1]}, teacher="teacher", max_tokens=16, checkpoint_every_steps=7,
        phases=[
            common | {"name": "relations", "objectives": [{"kind": "relations", "relation_heads": 8}, hidden]},
            common | {"name": "opinions", "objectives": [{"kind": "logits"}, {"kind": "labels"}], "accumulate": 2},
        ],
    )  # fmt: skip


def train(root: Path, name: str, *, cached: bool, batch_size: int) -> dict:
    models = {"teacher": root / "teacher"}
    config = student(cached=cached, batch_size=batch_size)
    stage, work = distill_stage("student", config, data=root / "data", out=root / name, models=models)
    run_stage(stage, work)
    assert not (root / name / "checkpoints").exists()
    return load_file(root / name / "model.safetensors")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data set and a teacher, sealed."""
    root = tmp_path_factory.mktemp("cached")
    seal_dataset(root / "data", train=60)
    save_teacher(root / "pretrained")
    config = ModelConfig(start={"kind": "checkpoint", "source": str(root / "pretrained")})
    stage, work = distill_stage("teacher", config, data=root / "data", out=root / "teacher", models={})
    run_stage(stage, work)
    return root


@pytest.mark.long
def test_training_from_the_cache_ends_with_the_same_bits(root, monkeypatch):
    """Oracle: training without it, where the teacher reads the same tensors in both: each text alone."""
    live = train(root, "live-1", cached=False, batch_size=1)
    monkeypatch.setattr(cache_fill, "FILL_TOKENS", 1)
    cached = train(root, "cached-1", cached=True, batch_size=1)
    assert live.keys() == cached.keys()
    assert all(torch.equal(live[name], cached[name]) for name in live)


def test_training_from_the_cache_in_batches_ends_with_the_same_weights(root, looked):
    """Oracle: training without it, to 1e-5: other texts around a text move the last bits of the teacher's products.

    Most weights agree to 1e-7. But where a gradient is nothing but such bits, as that of a key's bias, which adds the
    same to all scores of a softmax, or of a saturated pooler's weight, Adam makes as long a step of it as of any. Texts
    that were mixed up are 1e-3 apart.
    """
    live = train(root, "live-8", cached=False, batch_size=8)
    assert looked["texts"] == 0
    cached = train(root, "cached-8", cached=True, batch_size=8)
    assert looked["texts"] == 61
    apart = torch.cat([(live[name] - cached[name]).abs().flatten() for name in live])
    assert apart.max() < 1e-5
    assert apart.median() < 1e-7


def train_in_child(root: Path) -> None:
    torch.set_num_threads(1)
    real = cache_fill.observe

    def slowly(*arguments):
        time.sleep(0.01)
        return real(*arguments)

    cache_fill.observe, cache_fill.SHARD_BYTES, cache_fill.FILL_TOKENS = slowly, 20_000, 20
    train(root, "killed", cached=True, batch_size=8)


@pytest.mark.slow
def test_a_killed_filling_goes_on(root):
    """Oracle: the weights of an undisturbed run; `kill -9` each time two more shards are there."""
    calm = train(root, "calm", cached=True, batch_size=8)
    kills = 0
    for number in range(1, 50):
        process = CHILDREN.Process(target=train_in_child, args=(root,))
        process.start()
        while process.is_alive() and len(list(root.glob("killed/checkpoints/teacher-cache/*/*.bin"))) < 4 * number:
            time.sleep(0.002)
        if not process.is_alive() or (root / "killed" / "model.safetensors").exists():
            break
        os.kill(process.pid, signal.SIGKILL)
        kills += 1
        process.join(60)
    process.join(120)
    assert kills >= 2
    killed = load_file(root / "killed" / "model.safetensors")
    assert max((calm[name] - killed[name]).abs().max().item() for name in calm) < 1e-5
