"""The out-of-domain gate as part of a graph: how far the text's hidden states are from those of texts it knows.

means = add_means(model, layers=6)         # one further output, `[batch, layers, hidden]`, to fit a gate on
make_output(model, means)
add_distance(model, means, gate)           # one further output, `domain_distance`, `[batch]`

From Xu et al., "Unsupervised Out-of-Domain Detection via Pre-trained Transformers" (ACL 2021), with three changes: the
mean leaves padding out, the covariance is shrunk, and a distance is divided by the hidden size, so that texts like
those fitted are about 1 away whatever the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float
from onnx import TensorProto, helper

from artifact.errors import ExportError
from export.surgery import add_constant

DOMAIN = "domain_distance"
"""Name of the output; `serve.engine.DOMAIN` is the same word."""
MEANS = "domain_means"
_NORMS = frozenset(
    {"LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization", "QEmbedLayerNormalization"}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """What is fitted: `distance = sum_l weights[l] / hidden * |(mean_l - centres[l]) @ whitenings[l]|^2`."""

    centres: Float[np.ndarray, "layers hidden"]
    whitenings: Float[np.ndarray, "layers hidden hidden"]
    """`whitening @ whitening.T` is the inverse of the layer's covariance."""
    weights: Float[np.ndarray, " layers"]
    """None negative; they add up to one."""


def layer_outputs(model: onnx.ModelProto, layers: int) -> list[str]:
    """The tensor of each layer's hidden states, first layer first.

    An encoder norms its embeddings and then twice a layer, whether before its blocks or after them, and fusion and
    quantization keep the norms. Every second one after the first is therefore a layer's end: the hidden state itself
    where norms stand after blocks (BERT and its kin), and as the next layer reads it where they stand before
    (ModernBERT). Norms that do not depend on the text, such as DeBERTa's of relative positions, do not count; those
    of a head come later. Raises `ExportError` when there are fewer.
    """
    found = [node.output[0] for node in _depending_nodes(model) if node.op_type in _NORMS]
    if len(found) < 2 * layers + 1:
        problem = f"the graph has {len(found)} layer norms, {layers} layers would have {2 * layers + 1}"
        raise ExportError(problem, "a gate needs each layer's hidden states, which this form of graph does not show")
    return found[2 : 2 * layers + 1 : 2]


def _depending_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes whose output changes with the text, in the order of the graph."""
    reached = {"input_ids"}
    nodes = []
    for node in model.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            nodes.append(node)
    return nodes


def add_means(model: onnx.ModelProto, layers: int) -> str:
    """Add nodes for the mean of each layer's hidden states over the tokens of the text; the tensor's name.

    It is `[batch, layers, hidden]`, of float32 whatever the graph computes in.
    """
    mask, row, shares = f"{MEANS}/mask", f"{MEANS}/row", f"{MEANS}/shares"
    middle, one = _integers(model, "middle", [1]), add_constant(model, f"{MEANS}/one", np.ones(1, dtype=np.float32))
    last = _integers(model, "last", [2])
    _add(model, "Cast", ["attention_mask"], mask, to=TensorProto.FLOAT)
    _add(model, "Unsqueeze", [mask, middle], row)
    _add(model, "ReduceSum", [row, last], f"{MEANS}/count", keepdims=1)
    _add(model, "Max", [f"{MEANS}/count", one], f"{MEANS}/tokens")
    _add(model, "Div", [row, f"{MEANS}/tokens"], shares)
    means = []
    for layer, hidden in enumerate(layer_outputs(model, layers)):
        values = f"{MEANS}/hidden.{layer}"
        _add(model, "Cast", [hidden], values, to=TensorProto.FLOAT)
        _add(model, "MatMul", [shares, values], f"{MEANS}/mean.{layer}")
        means.append(f"{MEANS}/mean.{layer}")
    _add(model, "Concat", means, MEANS, axis=1)
    return MEANS


def add_distance(model: onnx.ModelProto, means: str, gate: Gate) -> None:
    """Add the output `domain_distance`, `[batch]`, of the `means` that `add_means` added.

    The weights go into the whitenings, so that one product, a square and a sum are all there is to compute.
    """
    hidden = gate.centres.shape[1]
    scaled = gate.whitenings * np.sqrt(gate.weights / hidden)[:, None, None]
    centres = add_constant(model, f"{DOMAIN}/centres", gate.centres.astype(np.float32))
    whitenings = add_constant(model, f"{DOMAIN}/whitenings", scaled.astype(np.float32))
    _add(model, "Sub", [means, centres], f"{DOMAIN}/centred")
    _add(model, "Transpose", [f"{DOMAIN}/centred"], f"{DOMAIN}/by_layer", perm=[1, 0, 2])
    _add(model, "MatMul", [f"{DOMAIN}/by_layer", whitenings], f"{DOMAIN}/whitened")
    _add(model, "Mul", [f"{DOMAIN}/whitened"] * 2, f"{DOMAIN}/squares")
    _add(model, "ReduceSum", [f"{DOMAIN}/squares", _integers(model, "summed", [0, 2])], DOMAIN, keepdims=0)
    model.graph.output.append(helper.make_tensor_value_info(DOMAIN, TensorProto.FLOAT, ["batch"]))


def make_output(model: onnx.ModelProto, name: str) -> None:
    """Let the graph answer with the tensor `name` too."""
    model.graph.output.append(onnx.ValueInfoProto(name=name))  # ONNX Runtime infers its type and shape


def _integers(model: onnx.ModelProto, name: str, values: Sequence[int]) -> str:
    return add_constant(model, f"{MEANS}/{name}", np.array(values, dtype=np.int64))


def _add(model: onnx.ModelProto, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
    model.graph.node.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
