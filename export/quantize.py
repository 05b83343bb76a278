"""Dynamic int8: weights are quantized here, activations while the graph runs."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from artifact.errors import ExportError
from export.config import InstructionSet
from export.instruction_set import SATURATES
from export.quiet import quiet
from export.session import open_session

_INTEGER_NODES = ("MatMulInteger", "QAttention", "QEmbedLayerNormalization", "DequantizeLinear")
"""Kinds of nodes that read int8 weights; `DequantizeLinear` follows an embedding table that was not fused."""


def quantize(fused: Path, quantized: Path, target: InstructionSet) -> dict[str, Any]:
    """Write the int8 form of the fused graph, made for `target`; the settings used and the nodes that became integer.

    Weights are signed, one scale a channel, of 7 bits where `target` would saturate with 8. Embedding tables
    are quantized too: they are most of a small model. Raises `ExportError` when nothing was quantized.
    """
    settings = {"per_channel": True, "reduce_range": SATURATES[target]}
    graph = onnx.load(fused)
    add_pre_process_metadata(graph)  # the preparation it asks for is our fusion; saying so keeps it from complaining
    with quiet():
        quantize_dynamic(
            graph,
            quantized,
            weight_type=QuantType.QInt8,
            # Shape inference stops at fused nodes, and what it does not know it would refuse to quantize.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            **settings,
        )
    nodes = count_integer_nodes(quantized)
    if not nodes:
        raise ExportError(f"no node of {fused.name} was quantized", "leave int8 out of export.precisions")
    open_session(quantized)
    return {**settings, "weight_type": "int8", "activation_type": "uint8", "mode": "dynamic", "nodes": nodes}


def count_integer_nodes(path: Path) -> dict[str, int]:
    """How many nodes of each kind read int8 weights in the graph at `path`."""
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    return {kind: kinds[kind] for kind in _INTEGER_NODES if kinds[kind]}
