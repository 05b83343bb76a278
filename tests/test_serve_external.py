"""Files that a graph reads: only those its bundle was sealed with, wherever the graph's author hides them."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from serve_bundles import describe, make_bundle, make_graph, make_tokenizer

from artifact.errors import ArtifactError
from artifact.manifest import Request, seal
from serve.bundle import open_bundle
from serve.external import FIELDS, _BadFrameError, check_external_data, find_locations
from serve.runtime import Runtime

FIXED = settings(deadline=None, derandomize=True, max_examples=200)


def outside(name: str, location: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="4")
    return tensor


def nested(location: str, depth: int) -> onnx.ModelProto:
    """A tensor of a constant inside so many subgraphs."""
    graph = helper.make_graph([helper.make_node("Constant", [], ["x"], value=outside("x", location))], "deep", [], [])
    for _ in range(depth):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=graph)], "outer", [], [])
    return helper.make_model(graph)


def hidden_everywhere() -> onnx.ModelProto:
    """One location in each place of a model that can hold a tensor."""
    sparse = helper.make_sparse_tensor(outside("a", "values"), outside("b", "indices"), [1])
    attributes = [
        helper.make_attribute("t", outside("c", "tensor")),
        helper.make_attribute("ts", [outside("d", "tensors")]),
        helper.make_attribute("s", helper.make_sparse_tensor(outside("e", "sparse"), outside("f", "sparse_at"), [1])),
        helper.make_attribute("gs", [nested("graphs", 0).graph]),
        helper.make_attribute("g", nested("graph", 3).graph),
    ]
    node = helper.make_node("Any", [], ["x"])
    node.attribute.extend(attributes)
    graph = helper.make_graph([node], "all", [], [], [outside("i", "initializer")])
    graph.sparse_initializer.append(sparse)
    model = helper.make_model(graph)
    function = model.functions.add(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["y"], value=outside("y", "function")))
    function.attribute_proto.append(helper.make_attribute("default", outside("z", "function_default")))
    training = model.training_info.add()
    training.initialization.CopyFrom(nested("initialization", 0).graph)
    training.algorithm.CopyFrom(nested("algorithm", 0).graph)
    return model


def test_no_place_of_a_model_is_overlooked(tmp_path):
    """Oracle: `onnx` wrote one name into each place that its schema has for a tensor."""
    (tmp_path / "model.onnx").write_bytes(hidden_everywhere().SerializeToString())
    assert find_locations(tmp_path / "model.onnx") == {
        "values", "indices", "tensor", "tensors", "sparse", "sparse_at", "graphs", "graph", "initializer",
        "function", "function_default", "initialization", "algorithm",
    }  # fmt: skip


def test_every_path_of_the_schema_to_a_tensor_is_walked():
    """Oracle: `onnx`'s own descriptors: the fields that lead to a `TensorProto`, message by message."""
    names = {
        "ModelProto": "model", "TrainingInfoProto": "training", "FunctionProto": "function", "GraphProto": "graph",
        "NodeProto": "node", "AttributeProto": "attribute", "SparseTensorProto": "sparse", "TensorProto": "tensor",
    }  # fmt: skip
    for kind, ours in names.items():
        fields = getattr(onnx, kind, getattr(onnx.onnx_ml_pb2, kind)).DESCRIPTOR.fields
        leading = {
            field.number: names[field.message_type.name]
            for field in fields
            if field.message_type and field.message_type.name in names
        }
        if kind == "TensorProto":
            leading = {field.number: "entry" for field in fields if field.name == "external_data"}
        assert FIELDS[ours] == leading, kind


def test_nesting_has_no_bound(tmp_path):
    """Oracle: the location written, below more subgraphs than Python would call functions."""
    content = nested("far", 1).graph.SerializeToString()
    for _ in range(3000):
        content = field(1, field(5, field(6, content)))
    (tmp_path / "model.onnx").write_bytes(field(7, content))
    assert find_locations(tmp_path / "model.onnx") == {"far"}


def field(number: int, content: bytes) -> bytes:
    size, digits = len(content), bytearray()
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *digits, size]) + content


@pytest.mark.parametrize(
    "location",
    [
        "/etc/hostname",
        "../secret",
        "../../x",
        "a/../../secret",
        "..\\secret",
        "unsealed",
        "*/_ORT_MEM_ADDR_/*",
        "",
        ".",
    ],
)
def test_what_is_not_sealed_is_refused(tmp_path, location):
    """Oracle: the rule: a location is the name of a file in the manifest, or the bundle does not open."""
    directory = with_external(tmp_path / "bundle", location)
    (tmp_path / "secret").write_bytes(bytes(4))
    (directory / "onnx/unsealed").write_bytes(bytes(4))
    with pytest.raises(ArtifactError, match="which is not sealed in the bundle"):
        open_bundle(directory)


def test_a_link_out_of_the_bundle_is_refused(tmp_path):
    """Oracle: the rule, of the weights and of the graph, even where their content is as sealed."""
    for name in ("onnx/weights", "onnx/model.onnx"):
        directory = with_external(tmp_path / name.replace("/", "-"), "weights")
        open_bundle(directory)
        moved = tmp_path / f"moved-{Path(name).name}"
        (directory / name).rename(moved)
        (directory / name).symlink_to(moved)
        with pytest.raises(ArtifactError, match="a link that leads out of the bundle"):
            open_bundle(directory)


def test_sealed_external_data_is_read(tmp_path):
    """Oracle: the same graph with its weights inside, from ONNX Runtime."""
    directory = with_external(tmp_path / "bundle", "weights")
    plain = make_bundle(tmp_path / "plain")
    answers = [Runtime.open(each, threads=1).run(["wake me"]).logits for each in (directory, plain)]
    np.testing.assert_array_equal(*answers)


def test_other_formats_are_refused(tmp_path):
    """Oracle: ONNX Runtime reads `.ort`, a format with other ways to name files; we do not read it at all."""
    (tmp_path / "model.ort").write_bytes(make_graph(10, 0, ("a", "b")))
    with pytest.raises(ArtifactError, match=r"is not called \.onnx"):
        check_external_data(tmp_path, "model.ort", {"model.ort"})


@pytest.mark.parametrize("content", [b"\x3a\xff", b"\x3b", b"\xff" * 11, b"\xba\x80\x80\x80\x10\x00", b"<html>"])
def test_what_is_no_protobuf_is_refused(tmp_path, content):
    """Oracle: cut short, a group, an endless number, a field number beyond 32 bits, another format."""
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="is not an ONNX graph"):
        check_external_data(tmp_path, "model.onnx", {"model.onnx"})


@FIXED
@given(st.data())
def test_a_damaged_graph_names_what_onnx_would_read(tmp_path_factory, data):
    """Oracle: `onnx`'s parser of the same damaged bytes: where it still reads it, we find all it finds, or refuse."""
    content = bytearray(nested("weights", 2).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(bytes(content))
    try:
        model = onnx.load_model_from_string(bytes(content))
    except Exception:  # noqa: BLE001 - protobuf's own error, which is none of ours to name
        return
    found = {
        entry.value for tensor in tensors_of(model.graph) for entry in tensor.external_data if entry.key == "location"
    }
    try:
        ours = find_locations(path)
    except (_BadFrameError, UnicodeDecodeError):
        return
    assert found <= ours


def tensors_of(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors, *tensors_of(attribute.g)]
            for inner in attribute.graphs:
                found += tensors_of(inner)
    return found


def with_external(directory: Path, location: str) -> Path:
    """The tiny bundle in one precision, its table of words in a file that the graph calls `location`."""
    (directory / "onnx").mkdir(parents=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    described = describe("student")
    described["precisions"] = {"float32": "onnx/model.onnx"}
    (directory / "understudy.json").write_text(json.dumps(described), encoding="utf-8")
    model = onnx.load_model_from_string(make_graph(tokenizer.get_vocab_size(), 0, described["labels"]))
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    weights = numpy_helper.to_array(table).tobytes()
    (directory / "onnx/weights").write_bytes(weights)
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value=location)
    table.external_data.add(key="length", value=str(len(weights)))
    (directory / "onnx/model.onnx").write_bytes(model.SerializeToString())
    seal(
        directory, kind="bundle", request=Request(stage="export", version=1, config={}, inputs={}), lineage={}, facts={}
    )
    return directory
