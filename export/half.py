"""Float16 weights and activations, for GPUs and browsers; a CPU runs the file, but no faster than float32.

Float16 ends at 65,504, and a mask of -3.4e38 would become minus infinity, of which a row without tokens makes NaN. So
masks become -10,000, far below any score and finite. What follows the last weights (pooling sums over tokens, lengths
square) stays float32, and so do powers and means of norms that were not fused; fused norms and Softmax add up in
float32 inside.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto, TensorProto, helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from artifact.errors import ExportError
from export.quiet import quiet
from export.spread import spread
from export.surgery import attributes, constants, load_named, replace_nodes, save_loadable

LARGEST = 10_000.0
"""Magnitude at which constants are cut; ONNX Runtime's own default for masks in its attention."""

_FLOAT32_KINDS = ("Pow", "ReduceMean", "Sqrt", "ReduceL2")


def to_float16(fused: Path, half: Path) -> dict[str, Any]:
    """Write the float16 form of the fused graph; what was converted and what stays float32.

    Inputs keep their integers and outputs their float32. `EmbedLayerNormalization`, which browsers' GPUs do not have,
    is taken apart. Raises `ExportError` when nothing was converted.
    """
    model = load_named(fused)
    spread(model, keep={node.name for node in model.graph.node if node.op_type == "Attention"})
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "mask_filter_value":
                attribute.f = max(attribute.f, -LARGEST)
    tail = nodes_after_weights(model)
    with quiet():
        # Without the types of what fused nodes give, no casts would be put where float16 and float32 meet.
        typed = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
        converted = convert_float_to_float16(
            typed,
            keep_io_types=True,
            disable_shape_infer=True,
            max_finite_val=LARGEST,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_KINDS],
            node_block_list=tail,
        )
    _drop_round_trips(converted)
    OnnxModel(converted).topological_sort()  # casts were put at the end
    kinds = [tensor.data_type for tensor in converted.graph.initializer]
    if TensorProto.FLOAT16 not in kinds:
        raise ExportError(f"no tensor of {fused.name} became float16", "leave float16 out of export.precisions")
    save_loadable(converted, half)
    return {
        "mode": "float16",
        "tensors": kinds.count(TensorProto.FLOAT16),
        "largest_constant": LARGEST,
        "float32_nodes": tail,
        "float32_kinds": list(_FLOAT32_KINDS),
    }


def _drop_round_trips(model: onnx.ModelProto) -> None:
    """Let float32 nodes read each other directly: the converter has every one of them pass float16 on."""
    halved = {node.output[0]: node.input[0] for node in model.graph.node if node.name.endswith("_cast_to_fp16_node")}

    def rewrite(node: NodeProto) -> Sequence[NodeProto] | None:
        widens = node.op_type == "Cast" and attributes(node)["to"] == TensorProto.FLOAT
        if not widens or node.input[0] not in halved:
            return None
        return [helper.make_node("Identity", [halved[node.input[0]]], node.output, name=node.name)]

    replace_nodes(model, rewrite)
    read = {name for node in model.graph.node for name in node.input}
    replace_nodes(model, lambda node: [] if node.output[0] in halved and node.output[0] not in read else None)


def nodes_after_weights(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes on whose results no further matrix of weights depends, in the order of the graph."""
    matrices = {name for name, tensor in constants(model).items() if len(tensor.dims) > 1 and _is_float(tensor)}
    needed: set[str] = set()  # tensors some product with weights depends on
    tail: list[str] = []
    for node in reversed(model.graph.node):
        if matrices.intersection(node.input) or needed.intersection(node.output):
            needed.update(node.input)
        else:
            tail.append(node.name)
    return tail[::-1]


def _is_float(tensor: TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.FLOAT)
