"""Every task of every family: what a graph answers, under which names, and how token states become one vector."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from export_models import MAX_TOKENS, make_model, make_tokenizer
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling

from artifact.errors import ExportError
from export.answers import ask_onnx
from export.bundle import describe
from export.config import Parity
from export.graph import export_graph
from export.parity import prove
from export.pooling import Pooling, pooling_config, read_pooling
from export.session import open_session
from export.source import SUPPORTED, load_source
from export.tasks import TASKS, problem_of, task_of

GRID = Parity(batch_sizes=(1, 3), lengths=(1, 2, 9))


@pytest.mark.parametrize("task", ["token-classification", "question-answering", "embedding"])
@pytest.mark.parametrize("model_type", SUPPORTED)
def test_every_task_of_every_family_answers_as_in_pytorch(tmp_path: Path, model_type: str, task: str) -> None:
    """Oracle: the transformers model itself, at every token that is not padding."""
    source = load_source(make_model(tmp_path / "model", task, model_type))
    assert source.task.name == task
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    _, facts = prove(source, {"float32": tmp_path / "raw.onnx"}, GRID)
    assert facts["float32"]["max_abs_error"] < 1e-4
    answer = ask_onnx(open_session(tmp_path / "raw.onnx"))(_two_texts(source))
    assert list(answer) == list(TASKS[task].outputs)
    sizes = {"batch": 2, "sequence": 5, "labels": 3, "hidden": 32}
    for name, axes in TASKS[task].outputs.items():
        assert answer[name].shape == tuple(sizes[axis] for axis in axes)


def _two_texts(source):
    ids = np.array([[2, 9, 8, 7, 3], [2, 9, 3, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": np.zeros_like(ids)}
    from export.graph import input_names

    return {name: inputs[name] for name in input_names(source)}


@pytest.mark.parametrize(
    ("labels", "problem_type", "task", "problem"),
    [
        (3, None, "classification", "single-label"),
        (3, "multi_label_classification", "classification", "multi-label"),
        (1, "regression", "classification", "regression"),
        (1, None, "ranking", None),
    ],
)
def test_columns_are_read_as_the_config_says(
    tmp_path: Path, labels: int, problem_type: str | None, task: str, problem: str | None
) -> None:
    """Oracle: the table; transformers writes `regression` once it trained one, a cross-encoder has one bare column."""
    directory = make_model(tmp_path / "model", "classification", labels=labels, problem_type=problem_type)
    source = load_source(directory)
    assert (source.task.name, source.problem) == (task, problem)
    about = describe(source, name="tiny", precisions=("float32",))
    assert (about["task"], about.get("problem")) == (task, problem)


def test_a_bare_encoder_needs_no_pooler(tmp_path: Path) -> None:
    """Oracle: the graph loads and its embedding is the mean of the states beside it, longhand."""
    source = load_source(make_model(tmp_path / "model", "embedding", "mpnet"))
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    feeds = _two_texts(source)
    answer = ask_onnx(open_session(tmp_path / "raw.onnx"))(feeds)
    for row, kept in enumerate(feeds["attention_mask"].sum(axis=1)):
        mean = answer["last_hidden_state"][row, :kept].mean(axis=0)
        np.testing.assert_allclose(answer["sentence_embedding"][row], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_pooling_is_that_of_sentence_transformers(mode: str) -> None:
    """Oracle: sentence-transformers' own module on the same states and mask."""
    hidden, mask = torch.randn(3, 6, 8), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    theirs = TheirPooling(8, pooling_mode=mode)({"token_embeddings": hidden, "attention_mask": mask})
    torch.testing.assert_close(Pooling(mode, normalize=False)(hidden, mask), theirs["sentence_embedding"])


@pytest.mark.parametrize("normalize", [True, False])
def test_a_saved_sentence_transformer_is_read_as_it_was_built(tmp_path: Path, normalize: bool) -> None:
    """Oracle: sentence-transformers, which wrote the directory and answers beside our graph."""
    make_model(tmp_path / "bare", "embedding")
    make_tokenizer().save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "understudy.json").unlink()
    encoder = Transformer(str(tmp_path / "bare"), max_seq_length=MAX_TOKENS)
    parts = [encoder, TheirPooling(32, pooling_mode="max"), *([Normalize()] if normalize else [])]
    theirs = SentenceTransformer(modules=parts, device="cpu")
    theirs.save(str(tmp_path / "saved"))
    source = load_source(tmp_path / "saved")
    assert source.pooling == Pooling("max", normalize=normalize)
    assert source.max_tokens == MAX_TOKENS
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    tokens = theirs.tokenize(["w1 w2 w3", "w7"])
    feeds = {name: tokens[name].numpy() for name in ("input_ids", "attention_mask", "token_type_ids")}
    found = ask_onnx(open_session(tmp_path / "raw.onnx"))(feeds)["sentence_embedding"]
    np.testing.assert_allclose(found, theirs.encode(["w1 w2 w3", "w7"]), atol=1e-5)


def test_pooling_survives_a_round_trip(tmp_path: Path) -> None:
    """Oracle: an identity, written and read again."""
    (tmp_path / "1_Pooling").mkdir()
    for mode in ("mean", "cls", "max"):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling_config(Pooling(mode), 32)))
        _write_modules(tmp_path, "Transformer", "Pooling", "Normalize")
        assert read_pooling(tmp_path) == Pooling(mode)


def test_a_module_the_graph_would_leave_out_is_refused(tmp_path: Path) -> None:
    """Oracle: the message; a Dense layer silently dropped would be another model."""
    _write_modules(tmp_path, "Transformer", "Pooling", "Dense")
    with pytest.raises(ExportError, match=r"asks for Dense, which we do not export\n  the graph can hold Transformer"):
        read_pooling(tmp_path)


def test_a_pooling_of_two_modes_is_refused(tmp_path: Path) -> None:
    """Oracle: the message; sentence-transformers would join both vectors."""
    _write_modules(tmp_path, "Transformer", "Pooling")
    (tmp_path / "1_Pooling").mkdir()
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(both))
    with pytest.raises(ExportError, match="asks for cls, mean"):
        read_pooling(tmp_path)


def test_an_unknown_head_names_those_we_export() -> None:
    """Oracle: the message, as a user reads it."""
    with pytest.raises(ExportError, match=r"m holds BertForMaskedLM, a head we do not export\n  expected \.\.\.ForSeq"):
        task_of("BertForMaskedLM", labels=2, problem_type=None, where="m")
    assert problem_of(labels=1, problem_type=None) == "regression"


def _write_modules(directory: Path, *kinds: str) -> None:
    modules = [{"idx": i, "path": f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
               for i, kind in enumerate(kinds)]  # fmt: skip
    (directory / "modules.json").write_text(json.dumps(modules))
