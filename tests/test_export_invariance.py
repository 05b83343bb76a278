"""Whether answers depend on company: exact arithmetic on functions made for it, then real graphs."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from export_models import make_classifier

from artifact.errors import ExportError
from export.answers import ask_onnx
from export.fuse import fuse
from export.graph import export_graph
from export.grid import Inputs, pad_texts
from export.invariance import measure_invariance, upper_bound
from export.quantize import quantize_dynamic_int8
from export.session import open_session
from export.source import load_source

PAD = 9


def text(*ids: int) -> Inputs:
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}


def ragged(count: int, *, words: int = 600, longest: int = 20) -> list[Inputs]:
    random = np.random.default_rng(0)
    return [text(*random.integers(4, words, size=random.integers(2, longest + 1))) for _ in range(count)]


def sums(inputs: Inputs) -> np.ndarray:
    """One number a text, from its own tokens alone; whole, so that no order of adding shows."""
    return (inputs["input_ids"] * inputs["attention_mask"]).sum(axis=1).astype(np.float32)


def ask_each(inputs: Inputs) -> dict[str, np.ndarray]:
    own = sums(inputs)
    vector = np.stack([own, 1 - own], axis=1)
    return {"logits": vector, "sentence_embedding": vector}


def ask_together(inputs: Inputs) -> dict[str, np.ndarray]:
    """The label is 1 where the longest text of the batch is longer than 5 tokens."""
    length = np.full(len(inputs["input_ids"]), inputs["input_ids"].shape[1], np.float32)
    return {"logits": np.stack([0 * length, length - 5.5], axis=1)}


def test_rows_that_know_only_themselves_do_not_move() -> None:
    """Oracle: an identity; nothing but the text enters, so not one bit may differ, whatever the padding."""
    facts = measure_invariance(ask_each, ragged(50), pad_id=PAD, batch_size=8, compositions=3)
    for name in ("logits", "sentence_embedding"):
        assert facts["outputs"][name]["answers"] == 150
        assert facts["outputs"][name]["max_abs_deviation"] == 0
    assert facts["outputs"]["sentence_embedding"]["min_cosine"] == pytest.approx(1)
    assert (facts["labels"]["compared"], facts["labels"]["flips"], facts["labels"]["texts_flipped"]) == (150, 0, 0)
    assert facts["labels"]["texts_flipped_per_10000_upper_95"] == pytest.approx(1e4 * (1 - 0.05 ** (1 / 50)))


def test_flips_and_deviations_counted_by_hand() -> None:
    """Oracle: by hand; lengths 2, 4, 6, 8 share one batch of 8 tokens, so they move by 6, 4, 2, 0 and two flip."""
    texts = [text(*range(length)) for length in (2, 4, 6, 8)]
    facts = measure_invariance(ask_together, texts, pad_id=PAD, compositions=3)
    assert facts["outputs"]["logits"] == {
        "answers": 12, "max_abs_deviation": 6, "p99_abs_deviation": None, "p999_abs_deviation": None,
    }  # fmt: skip
    labels = facts["labels"]
    assert (labels["compared"], labels["flips"], labels["flips_per_10000"]) == (12, 6, 5000)
    assert (labels["texts"], labels["texts_flipped"]) == (4, 2)


def test_only_real_tokens_are_compared() -> None:
    """Oracle: by hand; padding answers another label, and one token of three does so in company."""

    def ask(inputs: Inputs) -> dict[str, np.ndarray]:
        ids, real = inputs["input_ids"], inputs["attention_mask"] == 1
        crowded = (ids == 7) & (ids.shape[0] > 1)
        score = np.where(real, np.where(crowded, -1.0, ids), -100.0)
        return {"logits": np.stack([score, 0 * score], axis=-1)}

    labels = measure_invariance(ask, [text(5, 7, 6), text(4)], pad_id=PAD, compositions=1)["labels"]
    assert (labels["compared"], labels["flips"], labels["texts_flipped"]) == (4, 1, 1)


def test_a_span_is_a_start_and_an_end() -> None:
    """Oracle: by hand; the end of one text of two moves to its other token in company, padding scores highest."""

    def ask(inputs: Inputs) -> dict[str, np.ndarray]:
        scores = np.where(inputs["attention_mask"] == 1, inputs["input_ids"], 100).astype(np.float32)
        turned = np.where(inputs["input_ids"] == 5, 50, scores) if len(scores) > 1 else scores
        return {"start_logits": scores, "end_logits": turned}

    labels = measure_invariance(ask, [text(5, 6), text(4, 8, 7)], pad_id=PAD, compositions=1)["labels"]
    assert (labels["compared"], labels["flips"]) == (4, 1)


def test_each_column_of_several_labels_is_a_decision() -> None:
    """Oracle: by hand; both columns of `ask_together` are yes or no, and only the second ever changes."""
    texts = [text(1, 2), text(*range(8))]
    labels = measure_invariance(ask_together, texts, pad_id=PAD, problem="multi-label", compositions=1)["labels"]
    assert (labels["compared"], labels["flips"]) == (4, 1)


def test_what_decides_nothing_has_no_labels() -> None:
    """Oracle: the definition; one column has no rival, and a vector is no choice."""

    def embed(inputs: Inputs) -> dict[str, np.ndarray]:
        return {"sentence_embedding": ask_each(inputs)["logits"]}

    def rank(inputs: Inputs) -> dict[str, np.ndarray]:
        return {"logits": sums(inputs)[:, None]}

    for ask in (embed, rank):
        assert measure_invariance(ask, ragged(4), pad_id=PAD)["labels"] is None


def test_a_percentile_needs_ten_answers_beyond_it() -> None:
    """Oracle: the rule, n >= 10 / (1 - p): 10,000 answers for p99.9 and 1,000 for p99."""
    texts = [text(*range(2 + place % 7)) for place in range(1250)]
    enough = measure_invariance(ask_together, texts, pad_id=PAD, compositions=8)["outputs"]["logits"]
    short = measure_invariance(ask_together, texts[:-1], pad_id=PAD, compositions=8)["outputs"]["logits"]
    assert enough["p999_abs_deviation"] == enough["p99_abs_deviation"] == 6
    assert (short["p999_abs_deviation"], short["p99_abs_deviation"]) == (None, 6)


def test_company_is_drawn_anew_and_never_lacking() -> None:
    """Oracle: arithmetic; 5 texts make no three batches of 2, for one would be alone; a seed repeats itself."""
    batches: list[list[list[int]]] = []

    def listen(inputs: Inputs) -> dict[str, np.ndarray]:
        batches[-1].append(inputs["input_ids"][:, 0].tolist())
        return ask_each(inputs)

    for seed in (0, 0, 1):
        batches.append([])
        measure_invariance(listen, [text(place) for place in range(5)], pad_id=PAD, batch_size=2, seed=seed)
    first, again, other = (run[5:] for run in batches)
    assert first == again != other
    assert [len(batch) for batch in first] == [3, 2] * 8
    assert sorted(first[0] + first[1]) == list(range(5))
    assert first[0:2] != first[2:4]


def test_padding_stands_on_the_right() -> None:
    """Oracle: written out."""
    padded = pad_texts([text(1, 2), text(3, 4, 5)], PAD)
    assert padded["input_ids"].tolist() == [[1, 2, PAD], [3, 4, 5]]
    assert padded["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 300), (1, 2), (3, 300), (299, 300), (17, 5000), (4, 4)])
def test_upper_bound_is_clopper_and_pearsons(events: int, trials: int) -> None:
    """Oracle: scipy's exact one-sided interval."""
    expected = scipy.stats.binomtest(events, trials, alternative="less").proportion_ci(0.95, method="exact").high
    assert math.isclose(upper_bound(events, trials), expected, rel_tol=1e-9)


@pytest.mark.parametrize(("texts", "batch_size"), [(1, 32), (5, 1)])
def test_company_takes_two(texts: int, batch_size: int) -> None:
    """Oracle: the message, as a user reads it."""
    with pytest.raises(ExportError, match="share nothing\n  give calibration at least 2 texts"):
        measure_invariance(ask_each, ragged(texts), pad_id=PAD, batch_size=batch_size)


def test_dynamic_int8_depends_on_company_and_float32_does_not(tmp_path: Path) -> None:
    """Oracle: how each is made; only int8 takes its scales from the batch."""
    source = load_source(make_classifier(tmp_path / "model"))
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    fuse(tmp_path / "raw.onnx", tmp_path / "float32.onnx", source.architecture)
    quantize_dynamic_int8(tmp_path / "float32.onnx", tmp_path / "int8.onnx", "avx2")
    texts = [dict(words, token_type_ids=np.zeros_like(words["input_ids"])) for words in ragged(60)]
    moved = {
        precision: measure_invariance(
            ask_onnx(open_session(tmp_path / f"{precision}.onnx")), texts, pad_id=source.pad_id, compositions=2
        )["outputs"]["logits"]["max_abs_deviation"]
        for precision in ("float32", "int8")
    }
    assert moved["float32"] < 1e-5
    assert moved["int8"] > 1e-3
