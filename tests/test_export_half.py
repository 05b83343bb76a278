"""Float16: near, finite under masks, and pooled in float32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_graphs import ask, make_batches, make_fused, make_product
from onnx import TensorProto, numpy_helper

from artifact.errors import ExportError
from export.half import LARGEST, nodes_after_weights, to_float16
from export.source import Source
from export.surgery import attributes, load_named


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path]:
    return make_fused(tmp_path_factory.mktemp("fused"))


@pytest.mark.parametrize(
    "model_type", ["albert", "bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta"]
)
def test_half_is_near_and_finite_under_masks(tmp_path: Path, model_type: str) -> None:
    """Oracle: the float32 graph; ragged batches, and one text that is padding altogether."""
    source, fused = make_fused(tmp_path, model_type)
    to_float16(fused, tmp_path / "half.onnx")
    for inputs in make_batches(source, count=2):
        found, expected = ask(tmp_path / "half.onnx", inputs), ask(fused, inputs)
        for name, values in expected.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], values, atol=2e-2)
        empty = dict(inputs) | {"attention_mask": inputs["attention_mask"] * (np.arange(5) > 0)[:, None]}
        assert all(np.isfinite(values).all() for values in ask(tmp_path / "half.onnx", empty).values())


def test_no_constant_is_infinite(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the file; masks of -3.4e38 have become -10,000, and weights take half the bytes."""
    to_float16(made[1], tmp_path / "half.onnx")
    model = onnx.load(tmp_path / "half.onnx")
    halves = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert max(np.abs(numpy_helper.to_array(tensor)).max() for tensor in halves) <= LARGEST
    masks = {attributes(node)["mask_filter_value"] for node in model.graph.node if node.op_type == "Attention"}
    assert masks == {-LARGEST}
    assert (tmp_path / "half.onnx").stat().st_size < 0.65 * made[1].stat().st_size
    assert {value.type.tensor_type.elem_type for value in model.graph.input} == {TensorProto.INT64}


def test_a_mask_in_the_graph_is_cut(tmp_path: Path) -> None:
    """Oracle: the smallest float32 as a constant; as float16 it would be minus infinity."""
    path = make_product(tmp_path / "product.onnx", np.eye(8, dtype=np.float32))
    model = onnx.load(path)
    smallest = np.array([np.finfo(np.float32).min] + [0] * 7, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(smallest, "mask"))
    model.graph.node.insert(0, onnx.helper.make_node("Add", ["values", "mask"], ["masked"], name="add"))
    model.graph.node[1].input[0] = "masked"
    onnx.save(model, path)
    to_float16(path, tmp_path / "half.onnx")
    inputs = {"values": np.ones((1, 2, 8), np.float32), "attention_mask": np.ones((1, 2), np.int64)}
    found = ask(tmp_path / "half.onnx", inputs)["answer"]
    np.testing.assert_allclose(found[0, 0, 0], -LARGEST, rtol=1e-3)
    np.testing.assert_allclose(found[0, 0, 1:], 1)


def test_embeddings_are_pooled_in_float32(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: an identity; their length is one to float32's precision, not to the 0.0005 of float16."""
    facts = to_float16(made[1], tmp_path / "half.onnx")
    embedding = ask(tmp_path / "half.onnx", make_batches(made[0])[-1])["sentence_embedding"]
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    assert not np.array_equal(embedding, embedding.astype(np.float16).astype(np.float32))
    assert "/ReduceSum" in facts["float32_nodes"]


def test_what_follows_the_last_weights(made: tuple[Source, Path]) -> None:
    """Oracle: the graph; nothing that reads a matrix, and nothing one depends on."""
    model = load_named(made[1])
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
    tail = set(nodes_after_weights(model))
    assert tail
    given = {name for node in model.graph.node if node.name in tail for name in node.output}
    for node in model.graph.node:
        if node.name in tail:
            assert not matrices & set(node.input)
        else:
            assert not given & set(node.input)


def test_a_graph_without_floats_is_refused(tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    path = make_product(tmp_path / "product.onnx", np.eye(4, dtype=np.float32))
    model = onnx.load(path)
    del model.graph.initializer[:]
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("Identity", ["values"], ["answer"]))
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"no tensor of product\.onnx became float16\n  leave float16 out"):
        to_float16(path, tmp_path / "half.onnx")
