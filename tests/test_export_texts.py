"""The texts that an export is judged on, the marks they give, and the proof that travels with a bundle."""

import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_models import MAX_TOKENS, make_classifier, make_model
from onnx import numpy_helper
from sklearn.metrics import accuracy_score
from tiny_models import make_examples, seal_dataset

from artifact.errors import ArtifactError, ExportError, ParityError
from export.answers import ask_torch
from export.config import CalibrationConfig
from export.graph import export_graph
from export.proof import measure_proof, prove_again, write_proof
from export.quality import Scores, answer_all, error, kept, score
from export.source import Source, load_source
from export.tasks import TASKS
from export.texts import RANDOM, Text, Texts, batches_of, encode, read_texts, spread_out

FEW = CalibrationConfig(texts=10, judged_texts=7)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return load_source(make_classifier(tmp_path_factory.mktemp("model")))


def test_a_data_set_gives_training_texts_for_ranges_and_validation_texts_for_quality(
    source: Source, tmp_path: Path
) -> None:
    """Oracle: the data set's own rows, spread evenly by hand."""
    data = seal_dataset(tmp_path / "data")
    texts = read_texts(source, data, FEW)
    assert (len(texts.ranged), len(texts.judged)) == (10, 7)
    rows = make_examples(24, 2)
    places = [round(23 * i / 6) for i in range(7)]
    assert texts.labels is not None
    assert texts.labels.tolist() == [rows[place].label for place in places]
    assert texts.are_real


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl", "texts.jsonl.gz"])
def test_a_file_of_lines_or_json_lines_gives_texts(source: Source, tmp_path: Path, name: str) -> None:
    """Oracle: the file, written here; a pair has token types of both kinds, and labels count when all have one."""
    rows = [{"text": "w1 w2", "text_pair": "w3", "label": 1}, {"text": "w4", "label": 0}]
    lines = ["w1 w2", "w4"] if name.endswith(".txt") else [json.dumps(row) for row in rows]
    content = ("\n".join(lines) + "\n\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    texts = read_texts(source, tmp_path / name, FEW)
    assert len(texts.judged) == 2
    if name.endswith(".txt"):
        assert texts.labels is None
    else:
        assert texts.labels is not None
        assert texts.labels.tolist() == [1, 0]
        assert texts.judged[0]["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"holds no text to calibrate with\n  name a data set or a file"),
        (b"\n \n", "holds no text"),
        (b'{"txt": 1}\n', r"line 1, has no text\n  each line is a JSON object"),
        (b'{"text": "w1"}\n[]\n', "line 2, has no text"),
        (b"\xff\xfe\n", "cannot read texts from"),
    ],
)
def test_a_bad_file_is_one_clear_error(source: Source, tmp_path: Path, content: bytes, message: str) -> None:
    """Oracle: the message, as a user reads it."""
    (tmp_path / "texts.jsonl").write_bytes(content)
    with pytest.raises(ExportError, match=message):
        read_texts(source, tmp_path / "texts.jsonl", FEW)


def test_without_text_random_tokens_are_asked_and_said_to_be(source: Source) -> None:
    """Oracle: an identity; the same every time, within the model's length, and not called real."""
    first, second = (read_texts(source, None, FEW) for _ in range(2))
    assert first.origin == RANDOM
    assert not first.are_real
    assert max(text["input_ids"].shape[1] for text in first.judged) <= MAX_TOKENS
    for a, b in zip(first.judged, second.judged, strict=True):
        np.testing.assert_array_equal(a["input_ids"], b["input_ids"])


def test_long_texts_are_cut_as_serving_cuts_them(source: Source) -> None:
    """Oracle: the model's limit, and the frame's last token still at the end."""
    (cut,) = encode(source, [Text("w1 " * 100)])
    assert cut["input_ids"].shape == (1, MAX_TOKENS)
    assert cut["input_ids"][0, -1] == 3


def test_batches_hold_each_text_once(source: Source) -> None:
    """Oracle: the texts themselves, put back in their places."""
    texts = list(encode(source, [Text("w1 " * n) for n in (5, 1, 9, 2, 2)]))
    found = {}
    for rows, batch in batches_of(texts, 0, 2):
        assert batch["input_ids"].shape[0] == len(rows)
        for place, row in enumerate(rows):
            found[row] = batch["input_ids"][place][batch["attention_mask"][place].astype(bool)]
    assert sorted(found) == [0, 1, 2, 3, 4]
    for row, ids in found.items():
        np.testing.assert_array_equal(ids, texts[row]["input_ids"][0])


@pytest.mark.parametrize(("count", "most", "places"), [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (1, 4, [0])])
def test_places_are_spread_evenly(count: int, most: int, places: list[int]) -> None:
    """Oracle: counted by hand."""
    assert spread_out(count, most) == places


def _texts(labels: list[int] | None) -> Texts:
    return Texts(ranged=(), judged=(), labels=None if labels is None else np.array(labels), origin="a test")


def _logits(*rows: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"logits": np.array([row])} for row in rows]


def test_accuracy_is_scikit_learns() -> None:
    """Oracle: scikit-learn."""
    answers = _logits([3, 1, 0], [0, 1, 2], [5, 6, 0])
    found = score(TASKS["classification"], "single-label", answers, answers, _texts([0, 1, 1]))
    assert found.measure == "accuracy"
    assert found.value == pytest.approx(accuracy_score([0, 1, 1], [0, 2, 1]))


def test_each_task_has_its_likeness() -> None:
    """Oracle: marks counted by hand."""
    none, a, b = _texts(None), [3.0, 1.0], [1.0, 3.0]
    single = score(TASKS["classification"], "single-label", _logits(a, a), _logits(a, b), none)
    assert (single.measure, single.marks.tolist()) == ("agreement", [1, 0])
    several = score(TASKS["classification"], "multi-label", _logits([1, -1]), _logits([1, 1]), _texts([0]))
    assert several.marks.tolist() == [0.5]
    tags = [{"logits": np.array([[a, b, a]])}], [{"logits": np.array([[a, b, b]])}]
    assert score(TASKS["token-classification"], None, *tags, none).marks.tolist() == [pytest.approx(2 / 3)]
    span = {"start_logits": np.array([a]), "end_logits": np.array([b])}
    moved = span | {"end_logits": np.array([a])}
    assert score(TASKS["question-answering"], None, [span, moved], [span, span], none).marks.tolist() == [1, 0]
    vectors = [{"sentence_embedding": np.array([[1.0, 0.0]])}], [{"sentence_embedding": np.array([[1.0, 1.0]])}]
    assert score(TASKS["embedding"], None, *vectors, none).marks.tolist() == [pytest.approx(0.5**0.5)]
    ranks = score(TASKS["ranking"], None, _logits([0.5], [4.0]), _logits([0.0], [4.0]), none)
    assert (ranks.measure, ranks.marks.tolist()) == ("closeness", [0.75, 1])  # the reference's deviation is 2


def test_what_is_kept_is_a_paired_ratio() -> None:
    """Oracle: identities; a graph keeps all of itself for sure, and half of the texts lost is half kept."""
    marks = np.array([1.0] * 80 + [0.0] * 20)
    assert kept(Scores("accuracy", marks), Scores("accuracy", marks))["interval"] == [1, 1]
    half = kept(Scores("accuracy", marks * (np.arange(100) % 2)), Scores("accuracy", marks))
    assert half["kept"] == 0.5
    assert half["interval"][0] < 0.5 < half["interval"][1]
    assert half["texts"] == 100


def test_the_error_is_relative() -> None:
    """Oracle: arithmetic by hand, a difference of 5 beside a length of 5."""
    assert error(_logits([3, 9]), _logits([3, 4])) == pytest.approx(1.0)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_proof_can_be_asked_again(tmp_path: Path, task: str) -> None:
    """Oracle: the source itself, at export and after; then a tampered weight, which the stored answers show."""
    source = load_source(make_model(tmp_path / "model", task))
    (tmp_path / "onnx").mkdir()
    graph = tmp_path / "onnx" / "model.onnx"
    export_graph(source, graph, opset=17)
    texts = read_texts(source, None, FEW).judged
    answers = answer_all(ask_torch(source), texts, source.pad_id, 1)
    write_proof(tmp_path / "proof.npz", texts, answers, source.pad_id, np.zeros(len(texts), np.int64))
    found = measure_proof(tmp_path / "proof.npz", graph)
    assert found["texts"] == len(texts) == 64
    assert found["max_abs_error"] < 1e-5
    assert found["min_cosine"] > 0.9999
    assert found.get("agreement") == (None if task in ("embedding", "ranking") else 1)  # those make no choice
    first = [answer[next(iter(answer))].reshape(-1).argmax() for answer in answers]
    assert found["accuracy"] == np.mean([place == 0 for place in first])
    counts = {"whole": {"Attention": 2}}
    about = {"file": "onnx/model.onnx", "proof": found, "fused": counts, "variant": {"chosen": "raw"}}
    facts = {"precisions": {"float32": about}}
    (line,) = prove_again(tmp_path, facts, 1e-4)
    assert line.startswith("float32: 64 stored texts, max error ")
    with pytest.raises(ParityError, match="fewer nodes than recorded: Attention 0 of 2"):
        prove_again(tmp_path, {"precisions": {"float32": about | {"variant": {"chosen": "whole"}}}}, 1e-4)
    model = onnx.load(graph)
    bias = next(t for t in model.graph.initializer if t.name.endswith("output.LayerNorm.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
    onnx.save(model, graph)
    with pytest.raises(ParityError, match=r"float32 differs from its source's stored answers by .*, more than 0\.0001"):
        prove_again(tmp_path, facts, 1e-4)


def test_a_precision_that_agrees_less_than_it_did_is_refused(source: Source, tmp_path: Path) -> None:
    """Oracle: the record, raised beyond what the graph can reach."""
    graph = tmp_path / "model.onnx"
    export_graph(source, graph, opset=17)
    texts = read_texts(source, None, FEW).judged
    answers = answer_all(ask_torch(source), texts, source.pad_id, 1)
    other = [{name: -values for name, values in answer.items()} for answer in answers]
    write_proof(tmp_path / "proof.npz", texts, other, source.pad_id)
    about = {"file": "model.onnx", "proof": {"agreement": 1.0, "max_abs_error": 0.0}, "quantization": {}}
    with pytest.raises(ParityError, match=r"agreement of int8 is \d\.\d+ on the stored texts, 1\.000 when"):
        prove_again(tmp_path, {"precisions": {"int8": about}}, 1e-4)


def test_a_bundle_without_proof_says_so(tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    with pytest.raises(ArtifactError, match=r"holds no proof\.npz\n  export it again"):
        prove_again(tmp_path, {}, 1e-4)
