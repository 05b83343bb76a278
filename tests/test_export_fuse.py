"""Fusion: what every family must give, what the answers are afterwards, and the tripwire."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_models import WORDS, make_model
from onnx import helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from transformers import AutoModelForSequenceClassification

from artifact.errors import ExportError
from export.fuse import EXPECTED, Depth, check_counts, expected_counts, fuse
from export.graph import export_graph
from export.source import SUPPORTED, Architecture, Source, load_source

Export = Callable[..., tuple[Path, Source]]

DEBERTA_V3: dict[str, Any] = {
    "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
DEPTHS: tuple[Depth, ...] = ("whole", "light")
TOLERANCE = 5e-6
"""float32 rounding of answers around 1, summed in another order."""
BERT = Architecture(model_type="bert", layers=6, heads=12, hidden=384, activation="gelu")


@pytest.fixture
def export(tmp_path: Path) -> Export:
    def make(model_type: str, *, opset: int = 17, task: str = "classification", **shape: Any) -> tuple[Path, Source]:
        source = load_source(make_model(tmp_path / "model", task, model_type, **shape))
        export_graph(source, tmp_path / "raw.onnx", opset=opset)
        return tmp_path / "raw.onnx", source

    return make


def worst_difference(raw: Path, fused: Path) -> float:
    """Largest difference of any answer to ragged batches; the raw graph runs without any optimization."""
    plain = SessionOptions()
    plain.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    before, after = InferenceSession(str(raw), plain), InferenceSession(str(fused))
    random, worst = np.random.default_rng(0), 0.0
    for batch, length in ((1, 2), (1, 16), (3, 9), (5, 24)):
        ids = random.integers(4, WORDS, (batch, length))
        mask = (np.arange(length) < np.maximum(2, length - 3 * np.arange(batch))[:, None]).astype(np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": (ids % 2) * mask}
        inputs = {value.name: given[value.name] for value in before.get_inputs()}
        for one, other in zip(before.run(None, inputs), after.run(None, inputs), strict=True):
            kept = mask[..., None].astype(bool) if one.ndim == 3 else True  # no promise for padding
            worst = max(worst, float(np.abs((one - other) * kept).max()))
    return worst


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_every_family_fuses_as_its_row_says_and_answers_the_same(
    export: Export, tmp_path: Path, model_type: str
) -> None:
    """Oracle: the table, and the unfused graph run without optimization."""
    raw, source = export(model_type)
    for depth in DEPTHS:
        found = fuse(raw, tmp_path / "fused.onnx", source.architecture, depth=depth)
        expected = expected_counts(source.architecture, depth=depth)
        assert expected
        if model_type != "deberta":  # whose row promises less, since more depends on its positions
            for kind in ("Attention", "MultiHeadAttention", "SkipLayerNormalization", "EmbedLayerNormalization"):
                assert found.get(kind, 0) == expected.get(kind, 0)
        assert worst_difference(raw, tmp_path / "fused.onnx") < TOLERANCE


@pytest.mark.parametrize(
    ("model_type", "opset"), [("bert", 14), ("bert", 18), ("bert", 21), ("mpnet", 21), ("modernbert", 14)]
)
def test_every_opset_fuses_alike(export: Export, tmp_path: Path, model_type: str, opset: int) -> None:
    """Oracle: the table, recorded at opset 17; at 18 the norm of the embedding used to stop the optimizer."""
    raw, source = export(model_type, opset=opset)
    for depth in DEPTHS:
        fuse(raw, tmp_path / "fused.onnx", source.architecture, depth=depth)
        assert worst_difference(raw, tmp_path / "fused.onnx") < TOLERANCE


@pytest.mark.parametrize(
    ("model_type", "shape"),
    [
        ("albert", {"num_hidden_layers": 1}),
        ("deberta-v2", DEBERTA_V3),
        ("distilbert", {"n_layers": 1, "sinusoidal_pos_embds": True}),
        ("electra", {"embedding_size": 16}),
        ("mpnet", {"num_hidden_layers": 3}),
        ("modernbert", {"num_hidden_layers": 4}),
    ],
)
def test_a_family_fuses_in_its_other_shapes(
    export: Export, tmp_path: Path, model_type: str, shape: dict[str, Any]
) -> None:
    """Oracle: the table, and the unfused graph."""
    raw, source = export(model_type, **shape)
    fuse(raw, tmp_path / "fused.onnx", source.architecture)
    assert worst_difference(raw, tmp_path / "fused.onnx") < TOLERANCE


@pytest.mark.parametrize(
    ("model_type", "task"),
    [("bert", "question-answering"), ("distilbert", "token-classification"), ("modernbert", "embedding"),
     ("mpnet", "embedding")],
)  # fmt: skip
def test_every_task_fuses_alike(export: Export, tmp_path: Path, model_type: str, task: str) -> None:
    """Oracle: the table, which says nothing of heads, and the unfused graph."""
    raw, source = export(model_type, task=task)
    for depth in DEPTHS:
        fuse(raw, tmp_path / "fused.onnx", source.architecture, depth=depth)
        assert worst_difference(raw, tmp_path / "fused.onnx") < TOLERANCE


@pytest.mark.parametrize(
    ("activation", "kind", "opset"),
    [("gelu_pytorch_tanh", "FastGelu", 17), ("gelu_pytorch_tanh", "FastGelu", 20), ("relu", None, 17)],
)
def test_an_activation_is_fused_as_itself(
    export: Export, tmp_path: Path, activation: str, kind: str | None, opset: int
) -> None:
    """Oracle: PyTorch; at opset 20 the optimizer alone takes the tanh formula for the exact one, off by 2e-4."""
    raw, source = export("bert", opset=opset, hidden_act=activation)
    found = fuse(raw, tmp_path / "fused.onnx", source.architecture)
    assert {name: found[name] for name in found if "Gelu" in name} == ({kind: 2} if kind else {})
    ids = torch.randint(4, WORDS, (2, 12))
    with torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
        logits = model(input_ids=ids).logits.numpy()
    given = {
        "input_ids": ids.numpy(),
        "attention_mask": np.ones((2, 12), int),
        "token_type_ids": np.zeros((2, 12), int),
    }
    np.testing.assert_allclose(
        InferenceSession(str(tmp_path / "fused.onnx")).run(["logits"], given)[0], logits, atol=TOLERANCE
    )


def test_expected_counts_of_bert() -> None:
    """Oracle: recorded from all-MiniLM-L6-v2 (six layers) and checked by eye in its graph."""
    assert expected_counts(BERT) == {
        "Attention": 6, "SkipLayerNormalization": 12, "BiasGelu": 6, "EmbedLayerNormalization": 1,
    }  # fmt: skip
    assert expected_counts(BERT, depth="light") == {"LayerNormalization": 12, "BiasGelu": 6}


def test_every_supported_family_has_a_row() -> None:
    """Oracle: the list of families; one without a row would be fused without a tripwire."""
    assert sorted(EXPECTED) == sorted(SUPPORTED)


def test_nothing_is_expected_of_an_unknown_family() -> None:
    """Oracle: the table."""
    assert expected_counts(Architecture(model_type="new", layers=6, heads=12, hidden=384, activation="gelu")) == {}


def test_lost_fusions_are_named_with_both_counts() -> None:
    """Oracle: the message, as a user reads it."""
    found = {"Attention": 0, "SkipLayerNormalization": 12, "BiasGelu": 5, "EmbedLayerNormalization": 1}
    with pytest.raises(ExportError, match="fusion lost Attention 0 of 6, BiasGelu 5 of 6"):
        check_counts(found, expected_counts(BERT))


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One node of a graph made another operator."""

    kind: str
    change: Callable[[onnx.NodeProto], None]
    place: int = 0
    """Which node of its kind."""


def as_log_softmax(node: onnx.NodeProto) -> None:
    node.op_type = "LogSoftmax"


def as_atan(node: onnx.NodeProto) -> None:
    node.op_type = "Atan"


def over_another_axis(node: onnx.NodeProto) -> None:
    """Normalize over the tokens as well."""
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("axis", 1))
    node.op_type = "LpNormalization"
    del node.input[1:]


NO_SOFTMAX = Damage(kind="Softmax", change=as_log_softmax)
NO_ERF = Damage(kind="Erf", change=as_atan)


@pytest.mark.parametrize(
    ("model_type", "depth", "damage", "message"),
    [
        ("bert", "whole", NO_SOFTMAX, "Attention 1 of 2"),
        ("distilbert", "whole", NO_SOFTMAX, "Attention 1 of 2"),
        ("albert", "whole", NO_SOFTMAX, "Attention 1 of 2"),
        ("mpnet", "whole", NO_SOFTMAX, "MultiHeadAttention 1 of 2"),
        ("roberta", "whole", NO_ERF, "BiasGelu 1 of 2"),
        ("bert", "light", NO_ERF, "BiasGelu 1 of 2"),
        ("modernbert", "whole", Damage(kind="LayerNormalization", change=over_another_axis, place=-2), "Skip.* 3 of 4"),
        ("deberta-v2", "whole", Damage(kind="LayerNormalization", change=over_another_axis, place=-1), "Skip.* 3 of 4"),
    ],
)
def test_a_spoilt_graph_is_refused(
    export: Export, tmp_path: Path, *, model_type: str, depth: Depth, damage: Damage, message: str
) -> None:
    """Oracle: one node replaced by another operator on purpose; the error names what it hid, and no file is left."""
    raw, source = export(model_type)
    graph = onnx.load(raw)
    damage.change([node for node in graph.graph.node if node.op_type == damage.kind][damage.place])
    onnx.save(graph, raw)
    with pytest.raises(ExportError, match=f"fusion lost {message}"):
        fuse(raw, tmp_path / "fused.onnx", source.architecture, depth=depth)
    assert not (tmp_path / "fused.onnx").exists()
