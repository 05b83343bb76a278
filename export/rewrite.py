"""Rewrites that give attention the form ONNX Runtime fuses, where a family writes it otherwise; answers stay equal.

Each looks for one form and leaves every other graph as it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.onnx_model import OnnxModel

_LOWEST = float(np.finfo(np.float32).min)
"""What transformers adds to the score of a padding token."""


def rewrite(graph: OnnxModel) -> None:
    """Change `graph` in place; nodes that nothing reads any more are left for the optimizer to remove."""
    _spell_out_norms(graph)
    _name_tanh_gelu(graph)
    _put_attention_first(graph)
    _mask_by_adding(graph)
    graph.topological_sort()


def _spell_out_norms(graph: OnnxModel) -> None:
    """The length of a vector, `ReduceL2`, as the square root of the sum of its squares.

    From opset 18 on its axes are an input, at which the optimizer's shape inference gives up; then no
    `SkipLayerNormalization` is fused anywhere.
    """
    for norm in graph.get_nodes_by_op_type("ReduceL2"):
        if len(norm.input) < 2:
            continue
        squares = _add(graph, "Mul", [norm.input[0], norm.input[0]])
        summed = _add(graph, "ReduceSum", [squares, norm.input[1]], keepdims=graph.get_node_attribute(norm, "keepdims"))
        graph.replace_input_of_all_nodes(norm.output[0], _add(graph, "Sqrt", [summed]))


def _name_tanh_gelu(graph: OnnxModel) -> None:
    """`Gelu` by the tanh formula, an operator since opset 20, as `FastGelu`.

    The optimizer would fuse it with its bias to `BiasGelu`, which computes the exact formula.
    """
    for gelu in graph.get_nodes_by_op_type("Gelu"):
        if graph.get_node_attribute(gelu, "approximate") == b"tanh":
            fast = _add(graph, "FastGelu", list(gelu.input), domain="com.microsoft")
            graph.replace_input_of_all_nodes(gelu.output[0], fast)


def _put_attention_first(graph: OnnxModel) -> None:
    """In residual sums, name attention's branch before the other.

    The optimizer follows only the first `Add` it meets. In ALBERT's first layer, and in ELECTRA's where the
    embeddings are projected, that one is the projection's bias.
    """
    branch = ["Add", "MatMul", "Reshape", "Transpose", "MatMul"]
    for residual in graph.get_nodes_by_op_type("Add"):
        if graph.match_parent_path(residual, branch, [1, None, 0, 0, 0]):
            residual.input[0], residual.input[1] = residual.input[1], residual.input[0]


def _mask_by_adding(graph: OnnxModel) -> None:
    """DistilBERT's `where(mask == 0, lowest, (q / scale) k)` as BERT's `q k / scale + (1 - mask) lowest`.

    Equal once in the softmax: both give a padding token the weight 0.
    """
    masks: dict[str, str] = {}
    for where in graph.get_nodes_by_op_type("Where"):
        masked = graph.match_parent_path(where, ["Expand", "Reshape", "Equal"], [0, 0, 0])
        scores = graph.match_parent_path(where, ["MatMul", "Div"], [2, 0])
        if masked is None or scores is None or graph.get_constant_value(where.input[1]) != _LOWEST:
            continue
        product, scaled = scores
        mask = masked[-1].input[0]
        if mask not in masks:
            masks[mask] = _added_mask(graph, mask)
        product.input[0] = scaled.input[0]
        divided = _add(graph, "Div", [product.output[0], scaled.input[1]])
        added = _add(graph, "Add", [divided, masks[mask]])
        graph.replace_input_of_all_nodes(where.output[0], added)


def _added_mask(graph: OnnxModel, mask: str) -> str:
    """`(1 - mask) lowest`, one value a token, as wide as the scores."""
    wide = mask
    for axis in (1, 2):
        wide = _add(graph, "Unsqueeze", [wide, _constant(graph, np.array([axis]))])
    kept = _add(graph, "Cast", [wide], to=TensorProto.FLOAT)
    padding = _add(graph, "Sub", [_constant(graph, np.float32(1)), kept])
    return _add(graph, "Mul", [padding, _constant(graph, np.float32(_LOWEST))])


def fuse_biased_attention(graph: OnnxModel, heads: int) -> None:
    """MPNet's `softmax(q k / scale + relative positions + mask) v` as one `MultiHeadAttention`, in place.

    The optimizer has no pattern with two summands. Not as `Attention`, which packs q, k and v: the quantizer
    makes that a `QAttention` and drops the summands without a word.
    """
    biases: dict[tuple[str, str], str] = {}
    for softmax in graph.get_nodes_by_op_type("Softmax"):
        matched = _biased_attention(graph, softmax)
        if matched is None:
            continue
        masked, biased, divided, query, key, value, merged = matched
        summands = (biased.input[1], masked.input[1])
        if summands not in biases:
            biases[summands] = _add(graph, "Add", list(summands))
        inputs = [query.input[0], key.input[0], value.input[0], "", "", biases[summands]]
        scale = 1 / float(graph.get_constant_value(divided.input[1]))
        fused = _add(graph, "MultiHeadAttention", inputs, domain="com.microsoft", num_heads=heads, scale=scale)
        graph.replace_input_of_all_nodes(merged.output[0], fused)
    graph.topological_sort()


def _biased_attention(graph: OnnxModel, softmax: NodeProto) -> tuple[NodeProto, ...] | None:
    """Its two sums, its division, the reshapes that split q, k and v into heads, and the one that joins them again."""
    scores = graph.match_parent_path(softmax, ["Add", "Add", "Div", "MatMul"], [0, 0, 0, 0])
    joined = graph.match_child_path(softmax, ["MatMul", "Transpose", "Reshape"])
    if scores is None or joined is None:
        return None
    split = [
        graph.match_parent_path(product, ["Transpose", "Reshape"], [side, 0])
        for product, side in ((scores[-1], 0), (scores[-1], 1), (joined[0], 1))
    ]
    if any(path is None for path in split):
        return None
    return (*scores[:3], *(path[1] for path in split), joined[-1])


def _add(graph: OnnxModel, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
    """Add a node with one output; the output's name."""
    name = graph.create_node_name(kind, "rewritten")
    graph.add_node(helper.make_node(kind, list(inputs), [f"{name}_output"], name=name, **attributes))
    return f"{name}_output"


def _constant(graph: OnnxModel, value: np.ndarray[Any, Any] | np.generic) -> str:
    """Add an initializer; its name."""
    name = f"rewritten_constant_{len(graph.graph().initializer)}"
    graph.add_initializer(numpy_helper.from_array(np.asarray(value), name))
    return name
