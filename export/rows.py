"""Embedding tables in int8, one scale a row: most of a small model's bytes, in operators every runtime has.

A row is looked up as integers and scaled after the lookup, so that nothing the size of the table is ever made float32.
One scale a row loses less than one a table, as ONNX Runtime's own `Gather` and `EmbedLayerNormalization` have.
"""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from jaxtyping import Float, Int8
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.surgery import add_constant, constants, replace_nodes

_SMALLEST_TABLE_BYTES = 32_768
"""Below it a table stays in float32: a lookup's three more nodes would save next to nothing."""


def quantize_rows(
    table: Float[np.ndarray, "rows hidden"],
) -> tuple[Int8[np.ndarray, "rows hidden"], Float[np.ndarray, "rows 1"]]:
    """Integers of -127..127 and each row's scale; a row of zeros has scale 1."""
    scales = np.abs(table).max(axis=1, keepdims=True) / 127
    scales[scales == 0] = 1
    return np.rint(table / scales).astype(np.int8), scales.astype(np.float32)


def quantize_tables(model: onnx.ModelProto, *, keep: Collection[str] = ()) -> tuple[str, ...]:
    """Rewrite, in place, each lookup in a large constant table but those of nodes in `keep`; the nodes' names."""
    rewritten: list[str] = []

    def rewrite(node: NodeProto) -> Sequence[NodeProto] | None:
        if node.name in keep or not is_large_lookup(node, constants(model)):
            return None
        rewritten.append(node.name)
        return _look_up(model, node)

    replace_nodes(model, rewrite)
    return tuple(rewritten)


def is_large_lookup(node: NodeProto, tensors: dict[str, TensorProto]) -> bool:
    """Whether `node` takes rows of a float32 matrix that is worth quantizing."""
    table = tensors.get(node.input[0]) if node.op_type == "Gather" else None
    if table is None or table.data_type != TensorProto.FLOAT or len(table.dims) != 2:
        return False
    by_column = any(attribute.name == "axis" and attribute.i not in (0, -2) for attribute in node.attribute)
    return not by_column and 4 * table.dims[0] * table.dims[1] >= _SMALLEST_TABLE_BYTES


def _look_up(model: onnx.ModelProto, node: NodeProto) -> list[NodeProto]:
    table, ids = node.input
    integers, scales = quantize_rows(numpy_helper.to_array(constants(model)[table]))
    add_constant(model, f"{table}_rows", integers)
    add_constant(model, f"{table}_row_scales", scales)
    found = f"{node.name}_row"
    return [
        helper.make_node("Gather", [f"{table}_rows", ids], [found], name=node.name),
        helper.make_node("Gather", [f"{table}_row_scales", ids], [f"{found}_scale"], name=f"{found}_scale"),
        helper.make_node("Cast", [found], [f"{found}_float"], name=f"{found}_float", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{found}_float", f"{found}_scale"], node.output, name=f"{found}_scaled"),
    ]
