"""From PyTorch to the fused ONNX graph, for every family we name."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_models import MAX_TOKENS, make_classifier
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from artifact.errors import ExportError
from export.config import Parity
from export.fuse import fuse
from export.graph import export_graph, input_names
from export.parity import prove
from export.pooling import Pooling
from export.source import SUPPORTED, load_source

GRID = Parity(batch_sizes=(1, 3), lengths=(2, 9))


def rewrite_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_every_supported_family_answers_as_in_pytorch(tmp_path: Path, model_type: str) -> None:
    """Oracle: the transformers model itself; a family without it would not be in `SUPPORTED`."""
    source = load_source(make_classifier(tmp_path / "model", model_type))
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    fused = fuse(tmp_path / "raw.onnx", tmp_path / "fused.onnx", source.architecture)
    assert fused["SkipLayerNormalization"] >= 4
    grid, facts = prove(source, {"float32": tmp_path / "fused.onnx"}, GRID)
    assert grid["lengths"] == [2, 9, MAX_TOKENS]
    assert facts["float32"]["max_abs_error"] < 1e-4


def test_the_encoder_stands_once_in_the_graph(tmp_path: Path) -> None:
    """Oracle: arithmetic, one word embedding lookup and one fused Attention a layer."""
    source = load_source(make_classifier(tmp_path / "model"))
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    graph = onnx.load(tmp_path / "raw.onnx").graph
    assert sum(node.op_type == "Softmax" for node in graph.node) == 2
    assert [output.name for output in graph.output] == ["logits", "sentence_embedding"]
    assert [value.name for value in graph.input] == list(input_names(source))


def test_embedding_is_the_masked_mean_at_unit_length(tmp_path: Path) -> None:
    """Oracle: the mean over each text's own tokens, written longhand over `AutoModel`'s last hidden state."""
    model = AutoModel.from_pretrained(make_classifier(tmp_path / "model")).eval()
    ids, mask = torch.randint(4, 100, (3, 7)), torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    for row, kept in enumerate((7, 3, 2)):
        mean = hidden[row, :kept].numpy().mean(axis=0)
        found = Pooling()(hidden, mask)[row].numpy()
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-6)


def test_embedding_of_nothing_is_zero() -> None:
    """Oracle: the definition; a NaN here would spread through a batch."""
    assert Pooling()(torch.ones(1, 4, 8), torch.zeros(1, 4, dtype=torch.int64)).abs().max() == 0


def test_an_unknown_architecture_names_those_supported(tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    rewrite_config(make_classifier(tmp_path), model_type="gpt2")
    with pytest.raises(ExportError, match=r"is a 'gpt2' model\n  export supports albert, bert, .*xlm-roberta"):
        load_source(tmp_path)


def test_a_head_we_do_not_export_is_refused(tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    rewrite_config(make_classifier(tmp_path), architectures=["BertForMaskedLM"])
    with pytest.raises(ExportError, match=r"holds BertForMaskedLM, a head we do not(.|\n)*ForSequenceClassification"):
        load_source(tmp_path)


def test_missing_weights_of_the_head_are_an_error(tmp_path: Path) -> None:
    """Oracle: the message; transformers itself would fill them with noise and warn."""
    weights = load_file(make_classifier(tmp_path) / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"lacks weights of its model: classifier\.weight"):
        load_source(tmp_path)


def test_broken_weights_are_one_clear_error(tmp_path: Path) -> None:
    """Oracle: the exception tree; a safetensors stack trace would be a bug of ours."""
    (make_classifier(tmp_path) / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ExportError, match="cannot load"):
        load_source(tmp_path)


@pytest.mark.parametrize("stated", [41, 1, "24", None])
def test_max_tokens_must_fit_the_positions(tmp_path: Path, stated: object) -> None:
    """Oracle: the model has 40 positions."""
    (make_classifier(tmp_path) / "understudy.json").write_text(json.dumps({"max_tokens": stated}))
    with pytest.raises(ExportError, match=r"max_tokens is .*, expected 2\.\.40"):
        load_source(tmp_path)


@pytest.mark.parametrize(("model_type", "positions"), [("bert", 40), ("roberta", 38), ("mpnet", 38)])
def test_max_tokens_defaults_to_the_positions_a_text_can_have(tmp_path: Path, model_type: str, positions: int) -> None:
    """Oracle: RoBERTa's and MPNet's first token has position `pad_id + 1` = 2, so two of 40 are never used."""
    (make_classifier(tmp_path, model_type) / "understudy.json").unlink()
    assert load_source(tmp_path).max_tokens == positions
