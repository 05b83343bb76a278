"""Bytes by part of graphs and weights, told by the names of tensors and of the nodes that read them."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from artifact.errors import ArtifactError
from pipeline.size_parts import PARTS, read_graph_parts, read_parts, read_weights_parts


def make_graph(path, *, external=False):
    """An embedding, a layer whose weight the exporter gave a number, one that is scaled back from int8, and a head."""
    arrays = {
        "bert.embeddings.word_embeddings.weight": np.zeros((100, 8), np.float32),
        "onnx::MatMul_7": np.zeros((8, 8), np.float32),
        "onnx::MatMul_9_quantized": np.zeros((8, 8), np.int8),
        "onnx::MatMul_9_scale": np.ones((), np.float32),
        "bert.encoder.layer.0.output.dense.bias": np.zeros(8, np.float32),
        "classifier.weight": np.zeros((8, 3), np.float32),
        "lookup": np.zeros(5, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["bert.embeddings.word_embeddings.weight", "ids"], ["a"], "/embeddings/Gather"),
        helper.make_node("MatMul", ["a", "onnx::MatMul_7"], ["b"], "/bert/encoder/layer.0/query/MatMul"),
        helper.make_node("Add", ["b", "bert.encoder.layer.0.output.dense.bias"], ["c"], "Add_1"),
        helper.make_node("DequantizeLinear", ["onnx::MatMul_9_quantized", "onnx::MatMul_9_scale"], ["w"], "onnx_Dq"),
        helper.make_node("MatMul", ["c", "w"], ["d"], "/bert/encoder/layer.1/output/dense/MatMul"),
        helper.make_node("MatMul", ["d", "classifier.weight"], ["logits"], "/MatMul_3"),
        helper.make_node("Identity", ["lookup"], ["e"], "Identity_5"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}_data", size_threshold=0)
    else:
        onnx.save(model, path)
    return {name: array.nbytes for name, array in arrays.items()}


def expected_bytes(held):
    layers = ("onnx::MatMul_7", "onnx::MatMul_9_quantized", "onnx::MatMul_9_scale")
    return {
        "embedding": held["bert.embeddings.word_embeddings.weight"],
        "transformer": sum(held[name] for name in layers) + held["bert.encoder.layer.0.output.dense.bias"],
        "head": held["classifier.weight"],
    }


@pytest.mark.parametrize("external", [False, True])
def test_each_tensor_counts_for_the_part_its_name_or_reader_tells(tmp_path, external):
    """Oracle: the arrays the graph was made of; each takes at most 200 bytes more, for its name and shape (and, beside
    the graph, where it lies). The sum is what is stored, to the byte."""
    path = tmp_path / "model.onnx"
    held = make_graph(path, external=external)
    parts = read_graph_parts(path)
    assert tuple(parts) == PARTS
    for part, size in expected_bytes(held).items():
        assert size <= parts[part] <= size + 4 * 200
    stored = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert sum(parts.values()) == stored
    assert parts["other"] >= held["lookup"]


def write_weights(path, shapes):
    """A safetensors file by its specification: eight bytes of length, a JSON header, then the bytes of all tensors."""
    header, start = {"__metadata__": {"format": "pt"}}, 0
    for name, count in shapes.items():
        header[name] = {"dtype": "F32", "shape": [count], "data_offsets": [start, start + 4 * count]}
        start += 4 * count
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(start))


def test_weights_in_pytorch_are_read_from_their_header(tmp_path):
    """Oracle: the specification of safetensors; what is neither embedding nor layer is head, as in `parameters`."""
    path = tmp_path / "model.safetensors"
    write_weights(path, {"bert.embeddings.word.weight": 50, "bert.encoder.layer.0.weight": 20, "score.weight": 7})
    parts = read_weights_parts(path)
    assert (parts["embedding"], parts["transformer"], parts["head"]) == (200, 80, 28)
    assert sum(parts.values()) == path.stat().st_size


def test_rows_that_are_no_file_have_no_parts(tmp_path):
    """Oracle: a cascade is two models and a floor is none; a PyTorch row is the weights of its model."""
    (tmp_path / "bundle" / "onnx").mkdir(parents=True)
    make_graph(tmp_path / "bundle" / "onnx" / "model.onnx")
    (tmp_path / "model").mkdir()
    write_weights(tmp_path / "model" / "model.safetensors", {"encoder.layer.0.weight": 4})
    facts = {"bundle:teacher": {"precisions": {"float32": {"file": "onnx/model.onnx"}}}}
    directories = {"bundle:teacher": tmp_path / "bundle", "model:teacher": tmp_path / "model"}
    rows = ("teacher/float32", "teacher/int8", "teacher/pytorch", "teacher/pytorch-eager", "cascade", "bag-of-words")
    assert list(read_parts(rows, directories, facts)) == ["teacher/float32", "teacher/pytorch", "teacher/pytorch-eager"]


@pytest.mark.parametrize(("name", "read"), [("model.onnx", read_graph_parts), ("w.safetensors", read_weights_parts)])
def test_a_file_of_another_kind_is_one_clear_error(tmp_path, name, read):
    """Oracle: the message a user reads."""
    (tmp_path / name).write_bytes(b"\xff" * 64)
    with pytest.raises(ArtifactError, match=r"is not (an ONNX graph|a safetensors file)"):
        read(tmp_path / name)
