"""Tiny fused graphs and batches to quantize them with."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from export_models import make_classifier
from onnx import TensorProto, helper, numpy_helper

from export.fuse import fuse
from export.graph import export_graph
from export.grid import Cell, Inputs, fill, vocabulary_of
from export.session import open_session
from export.source import Source, load_source


def make_fused(directory: Path, model_type: str = "bert", **shape: object) -> tuple[Source, Path]:
    source = load_source(make_classifier(directory / "model", model_type, **shape))
    export_graph(source, directory / "raw.onnx", opset=17)
    fuse(directory / "raw.onnx", directory / "fused.onnx", source.architecture)
    return source, directory / "fused.onnx"


def make_batches(source: Source, *, count: int = 6, texts: int = 5, seed: int = 0) -> list[Inputs]:
    """Ragged batches, each of another length."""
    random, vocabulary = np.random.default_rng(seed), vocabulary_of(source)
    return [fill(Cell(batch=texts, length=6 + index), vocabulary, random) for index in range(count)]


def ask(path: Path, inputs: Inputs) -> dict[str, np.ndarray]:
    session = open_session(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def float32_matrices(path: Path) -> list[str]:
    """Names of constant float32 matrices of more than one column and 64 values."""
    return [
        tensor.name
        for tensor in onnx.load(path).graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[1] > 1
        and np.prod(tensor.dims) > 64
    ]


def make_product(path: Path, weights: np.ndarray) -> Path:
    """`answer = values @ weights` with an attention mask that only says which rows are texts."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["values", "weights"], ["answer"], name="product")],
        "product",
        [
            helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", "seq", weights.shape[0]]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "seq"]),
        ],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", "seq", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
