"""Dynamic int8: weights are quantized here, activations while the graph runs."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from artifact.errors import ExportError
from export.config import InstructionSet
from export.instruction_set import SATURATES
from export.quiet import quiet
from export.session import open_session
from export.spread import spread_gemm
from export.surgery import check_names, constants, load_named

_INTEGER_NODES = ("MatMulInteger", "QAttention", "QEmbedLayerNormalization", "DequantizeLinear")
"""Kinds of nodes that read int8 weights; `DequantizeLinear` follows an embedding table that was not fused."""

_WEIGHTS_AT = {"MatMul": 1, "Gemm": 1, "Attention": 1, "Gather": 0, "EmbedLayerNormalization": 2}
"""Which input of each kind of node that can be quantized holds its weights."""


def quantizable_nodes(fused: Path) -> tuple[str, ...]:
    """Names of the nodes of the fused graph that read a constant float32 matrix, in the order of the graph.

    Nodes without a name get one here that the same file gives again (`export.surgery.load_named`), so that these are
    the names that `keep_float` takes, for every precision.
    """
    model = load_named(fused)
    tensors = constants(model)
    found = ((node, _WEIGHTS_AT[node.op_type]) for node in model.graph.node if node.op_type in _WEIGHTS_AT)
    return tuple(node.name for node, at in found if _is_matrix(tensors.get(node.input[at])))


def quantize_dynamic_int8(
    fused: Path, quantized: Path, target: InstructionSet, *, keep_float: Collection[str] = ()
) -> dict[str, Any]:
    """Write the int8 form of the fused graph, made for `target`; the settings used and the nodes that became integer.

    Weights are signed, one scale a channel, of 7 bits where `target` would saturate with 8. Embedding tables
    are quantized too: they are most of a small model. Nodes named in `keep_float` stay float32. Raises `ExportError`
    when nothing was quantized.
    """
    settings = {"per_channel": True, "reduce_range": SATURATES[target]}
    graph = load_named(fused)
    check_names(graph, keep_float)
    spread_gemm(graph)  # ONNX Runtime would, under names of its own
    add_pre_process_metadata(graph)  # the preparation it asks for is our fusion; saying so keeps it from complaining
    with quiet():
        quantize_dynamic(
            graph,
            quantized,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(keep_float),
            # Shape inference stops at fused nodes, and what it does not know it would refuse to quantize.
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
            **settings,
        )
    nodes = count_integer_nodes(quantized)
    if not nodes:
        raise ExportError(f"no node of {fused.name} was quantized", "leave int8 out of export.precisions")
    open_session(quantized)
    return {
        **settings,
        "weight_type": "int8",
        "activation_type": "uint8",
        "mode": "dynamic",
        "nodes": nodes,
        "kept_float": sorted(keep_float),
    }


def count_integer_nodes(path: Path) -> dict[str, int]:
    """How many nodes of each kind read int8 weights in the graph at `path`."""
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    return {kind: kinds[kind] for kind in _INTEGER_NODES if kinds[kind]}


def _is_matrix(tensor: TensorProto | None) -> bool:
    return tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
