"""The benchmarks themselves: one round on tiny models."""

import json
import sys

import pytest
import torch
from tiny_models import make_bert, make_tokenizer, save_teacher

from benchmarks.distill import overhead, page, ragged, step, turns
from benchmarks.distill.models import bench, random_batch
from distill.student import keep_layers
from distill.text import Encoded, InputForm, encode

CASES = (step.Case(2, 8, 2, 1), step.Case(3, 6, 2, 0, ragged=True))


def tiny_bench(case: step.Case):
    teacher = make_bert()
    return bench(teacher, keep_layers(teacher, (1,)), heads=8, dropout=case.dropout)


def test_contestants_of_a_step_agree(tmp_path):
    """Oracle: the dense form's loss; and what the file says is what was asked for, raw."""
    turns.write("step", {"cases": step.measure(tiny_bench, CASES)}, results=tmp_path)
    found = json.loads((tmp_path / "step.json").read_text())
    assert found["machine"]["usable_cores"] > 0
    for case, asked in zip(found["cases"], CASES, strict=True):
        expected = {"bound": 2, "fused": 2, "step": 2} | ({"dense": 1} if asked.dense_rounds else {})
        assert {name: len(seconds) for name, seconds in case["seconds"].items()} == expected
        assert all(second > 0 for seconds in case["seconds"].values() for second in seconds)
        assert case["losses"] == pytest.approx(dict.fromkeys(set(expected) - {"bound"}, case["losses"]["fused"]))
    assert [case["tokens"] for case in found["cases"]] == [16, 2 + 4 + 6]
    assert "| 2 x 8 |" in page.render(tmp_path)


def test_a_bench_does_not_learn():
    """Oracle: identity; the weights after all contestants' turns are the bits of before."""
    made = tiny_bench(CASES[0])
    before = {name: tensor.clone() for name, tensor in made.run.student.state_dict().items()}
    batch = random_batch(20, 2, 8)
    for name in ("bound", "fused", "dense", "step"):
        getattr(made, name)(batch)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.run.student.state_dict().items())


def test_a_ratio_is_of_the_same_round():
    """Oracle: a machine that gets ten times slower; the ratio of every round is 2."""
    slower = [1.0, 10.0, 100.0]
    found = turns.ratio([2 * seconds for seconds in slower], slower)
    assert (found.low, found.value, found.high) == (2, 2, 2)


def test_every_way_to_batch_reads_the_same_texts():
    """Oracle: counting tokens over one pass."""
    tokenizer = make_tokenizer()
    texts = [piece for pieces in encode(tokenizer, ["light " * n for n in range(1, 101)], 128) for piece in pieces]
    encoded = Encoded(texts, [-1] * 100, InputForm.of(tokenizer))
    for name in ragged.STEPS:
        batches, read = ragged.batches_of(name, encoded), 0
        while read < sum(encoded.lengths()):
            batch = next(batches)
            read += int(batch.mask.sum())
            assert name != "padded to 128" or batch.mask.shape[1] == 128
        assert read == sum(encoded.lengths()), name


def test_overhead_is_timed_in_the_real_loop(tmp_path):
    """Oracle: counting; each step is timed once, and its parts take no longer than the whole."""
    teacher = save_teacher(tmp_path / "teacher", layers=6, hidden=48, heads=4)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"turn the light {'on ' * n}."}) + "\n" for n in range(20)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overhead, "MAX_TOKENS", 32)
        found = overhead.measure(corpus, 6, str(teacher))
    taken = found["seconds"]
    assert len(taken["step"]) == 6
    assert sum(sum(taken[part]) for part in ("step", "wait", "log", "checkpoint", "evaluate")) < found["whole_seconds"]
    turns.write("overhead", found, results=tmp_path)
    assert "together" in page.render(tmp_path)


def test_without_a_gpu_nothing_is_measured(monkeypatch, capsys, tmp_path):
    """Oracle: the message; and there is no file."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["step", "--device", "cuda"])
    monkeypatch.setattr(turns, "RESULTS", tmp_path)
    monkeypatch.setattr(turns, "ENVIRONMENT", {})
    step.main()
    assert "no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
