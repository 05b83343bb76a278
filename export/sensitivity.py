"""What a search for a precision map asks of each node: what people call it, what it costs in float, what it spoils.

Harm can be read in two ways: the error that goes when only this node stays in float, and the error that comes when only
this node is int8. Both name a single culprit. Of two, each hides behind the other in the first reading, for the graph
stays broken; the second, which is taken here, tells both from the rest at the first look.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

import onnx

from export.surgery import load_named

MOST_UNITS = 40
"""Nodes above which whole layers are tried first, so that a search stays a matter of minutes."""

_LAYER = re.compile(r"/layers?\.(\d+)/")
_ROLES = (
    (r"^Attention|/Wqkv/", "query, key and value"),
    (r"/(q|q_lin|query|query_proj)/", "query"),
    (r"/(k|k_lin|key|key_proj)/", "key"),
    (r"/(v|v_lin|value|value_proj)/", "value"),
    (r"/attention/output/|/out_lin/|/attn/(o|Wo)/", "attention output"),
    (r"/intermediate/|/lin1/|/mlp/Wi/", "FFN input"),
    (r"/output/dense/|/lin2/|/mlp/Wo/", "FFN output"),
    (r"[Ee]mbed", "embeddings"),
    (r"/pooler/", "pooler"),
    (r"/(\w*classifier|head|qa_outputs)/", "head"),
)
"""What the families call their products, the first that fits; a name that fits none is told as it is."""
_PRODUCTS = ("MatMul", "Gemm", "Attention")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the fused graph that can be quantized."""

    name: str
    layer: int | None
    """Counted from 0; none outside the layers, and where layers share their names (ALBERT)."""
    multiplications: int
    """For one token, in float: the weights of a product, one row of a table. What keeping it in float costs."""

    def __str__(self) -> str:
        role = next((role for pattern, role in _ROLES if re.search(pattern, self.name)), self.name)
        return role if self.layer is None else f"layer {self.layer} {role}"


Unit: TypeAlias = tuple[Node, ...]
"""Nodes that a search keeps in float together."""


def read_nodes(fused: Path, names: Sequence[str]) -> tuple[Node, ...]:
    """The nodes called `names` in the graph at `fused`, in the order of the graph."""
    graph = load_named(fused).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = [node for node in graph.node if node.name in set(names)]
    layers = _layers([node.name for node in found])
    return tuple(
        Node(name=node.name, layer=layers[node.name], multiplications=_multiplications(node, shapes)) for node in found
    )


def units_of(nodes: Sequence[Node], most: int = MOST_UNITS) -> list[Unit]:
    """What a search tries: each node for itself, or each layer as one where the nodes are more than `most`."""
    if len(nodes) <= most:
        return [(node,) for node in nodes]
    layers = sorted({node.layer for node in nodes if node.layer is not None})
    inside = [tuple(node for node in nodes if node.layer == layer) for layer in layers]
    return inside + [(node,) for node in nodes if node.layer is None]


def errors_alone(
    units: Sequence[Unit],
    make: Callable[[frozenset[str]], Path],
    error: Callable[[Path], float],
    *,
    among: Sequence[Node] | None = None,
) -> dict[Unit, float]:
    """The error of the graph in which only this unit is int8, for each unit; as many graphs are made.

    `among` are all nodes of the graph, where the units are not.
    """
    everything = {node.name for node in among or [node for unit in units for node in unit]}
    return {unit: error(make(frozenset(everything - {node.name for node in unit}))) for unit in units}


def _layers(names: Sequence[str]) -> dict[str, int | None]:
    """The layer of each node, by its name; fused attention bears none and comes right before the rest of its layer."""
    layers: dict[str, int | None] = {}
    following = None
    for name in reversed(names):
        if match := _LAYER.search(name):
            following = int(match[1])
        layers[name] = following if match or name.startswith("Attention") else None
    return layers


def _multiplications(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    weights = [shapes[name] for name in node.input if len(shapes.get(name, ())) == 2]
    if not weights:
        return 1
    return max(prod(shape) if node.op_type in _PRODUCTS else shape[-1] for shape in weights)
