"""Static int8: the scales of activations are measured beforehand, so an answer does not depend on who shares the batch.

`MatMul` with constant weights is written as `QuantizeLinear`/`DequantizeLinear` pairs (QDQ), which ONNX Runtime runs as
one integer product with a float32 result; everything else stays float32. The graph is spread first (`export.spread`),
because QDQ has no form for the fused `Attention`. Without that its weights stay float32: on all-MiniLM-L6-v2, 67 MB for
23, and 1.6 to 1.8 times as fast as float32 for 2.0 to 2.5.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float, Int8
from onnx import NodeProto, TensorProto, helper, numpy_helper

from artifact.errors import ExportError
from export.calibrate import METHODS, Histogram, Method, calibrate, range_of, scale_of
from export.config import InstructionSet
from export.grid import Inputs
from export.instruction_set import SATURATES
from export.rows import quantize_tables
from export.spread import spread
from export.surgery import add_constant, check_names, constants, load_named, replace_nodes, save_loadable


def quantize_static(
    fused: Path,
    quantized: Path,
    target: InstructionSet,
    batches: Sequence[Inputs],
    *,
    method: Method,
    keep_float: Collection[str] = (),
) -> dict[str, Any]:
    """Write the calibrated int8 form of the fused graph; the settings used and the nodes that became integer.

    Weights are signed, one scale a channel, of 7 bits where `target` would saturate with 8; activations unsigned, one
    scale a tensor, from the texts of `batches` by `method`. Large embedding tables get one scale a row. Nodes named in
    `keep_float` stay float32. Raises `ExportError` when there is no text, or when nothing was quantized.
    """
    model = _spread(fused, keep_float)
    histograms = calibrate(model, _activations(model, keep_float), batches)
    return _write(model, quantized, target, histograms, method=method, keep_float=keep_float)


def choose_static(
    fused: Path,
    quantized: Path,
    target: InstructionSet,
    batches: Sequence[Inputs],
    *,
    quality: Callable[[Path], float],
    methods: Sequence[Method] = METHODS,
    keep_float: Collection[str] = (),
) -> dict[str, Any]:
    """As `quantize_static`, by the one of `methods` whose graph has the greatest `quality`; the facts hold all of them.

    At equal quality the first of minmax, percentile, entropy is taken. Calibration runs once for all.
    """
    model = _spread(fused, keep_float)
    histograms = calibrate(model, _activations(model, keep_float), batches)
    found: dict[Method, float] = {}
    for method in (method for method in METHODS if method in methods):
        _write(model, quantized, target, histograms, method=method, keep_float=keep_float)
        found[method] = float(quality(quantized))
    best = max(found, key=lambda method: found[method])  # the first one of equals
    facts = _write(model, quantized, target, histograms, method=best, keep_float=keep_float)
    return {**facts, "quality_by_method": found}


def quantize_channels(
    weights: Float[np.ndarray, "inputs outputs"], *, limit: int
) -> tuple[Int8[np.ndarray, "inputs outputs"], Float[np.ndarray, " outputs"]]:
    """Integers of `-limit`..`limit` and each output channel's scale; a channel of zeros has scale 1."""
    scales = np.abs(weights).max(axis=0) / limit
    scales[scales == 0] = 1
    return np.rint(weights / scales).astype(np.int8), scales.astype(np.float32)


def is_product(node: NodeProto, tensors: Mapping[str, TensorProto]) -> bool:
    """Whether `node` multiplies by a constant float32 matrix."""
    weights = tensors.get(node.input[1]) if node.op_type == "MatMul" else None
    return weights is not None and weights.data_type == TensorProto.FLOAT and len(weights.dims) == 2


def _spread(fused: Path, keep_float: Collection[str]) -> onnx.ModelProto:
    model = load_named(fused)
    check_names(model, keep_float)
    spread(model, keep=keep_float)
    return model


def _activations(model: onnx.ModelProto, keep_float: Collection[str]) -> list[str]:
    """What the products to be quantized read, each once, in the order of the graph; at least one."""
    tensors = constants(model)
    read = (node.input[0] for node in model.graph.node if is_product(node, tensors) and node.name not in keep_float)
    names = list(dict.fromkeys(read))
    if not names:
        raise ExportError("no product of the graph could be quantized", "leave int8-static out of export.precisions")
    return names


def _write(
    model: onnx.ModelProto,
    quantized: Path,
    target: InstructionSet,
    histograms: Mapping[str, Histogram],
    *,
    method: Method,
    keep_float: Collection[str],
) -> dict[str, Any]:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    scales = {name: scale_of(*range_of(histogram, method)) for name, histogram in histograms.items()}
    products = _quantize_products(made, scales, limit=64 if SATURATES[target] else 127, keep_float=keep_float)
    tables = quantize_tables(made, keep=keep_float)
    save_loadable(made, quantized)
    return {
        "mode": "static",
        "method": method,
        "per_channel": True,
        "reduce_range": SATURATES[target],
        "weight_type": "int8",
        "activation_type": "uint8",
        "nodes": {"MatMul": len(products), "Gather": len(tables)},
        "kept_float": sorted(keep_float),
    }


def _quantize_products(
    model: onnx.ModelProto,
    scales: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    limit: int,
    keep_float: Collection[str],
) -> list[str]:
    """Put products with constant weights between QDQ pairs, in place; the names of their nodes."""
    tensors, written, rewritten = constants(model), set[str](), list[str]()

    def rewrite(node: NodeProto) -> Sequence[NodeProto] | None:
        if node.name in keep_float or not is_product(node, tensors):
            return None
        values, weights = node.input
        rewritten.append(node.name)
        made: list[NodeProto] = []
        if values not in written:
            made += _activation_pair(model, values, *scales[values])
        if weights not in written:
            integers, steps = quantize_channels(numpy_helper.to_array(tensors[weights]), limit=limit)
            made.append(_weight_reader(model, weights, integers, steps))
        written.update((values, weights))
        made.append(helper.make_node("MatMul", [f"{values}_near", f"{weights}_near"], node.output, name=node.name))
        return made

    replace_nodes(model, rewrite)
    return rewritten


def _activation_pair(model: onnx.ModelProto, name: str, scale: np.ndarray, zero: np.ndarray) -> list[NodeProto]:
    parameters = [add_constant(model, f"{name}_scale", scale), add_constant(model, f"{name}_zero", zero)]
    return [
        helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}_uint8"], name=f"{name}_quantize"),
        helper.make_node(
            "DequantizeLinear", [f"{name}_uint8", *parameters], [f"{name}_near"], name=f"{name}_dequantize"
        ),
    ]


def _weight_reader(model: onnx.ModelProto, name: str, integers: np.ndarray, scales: np.ndarray) -> NodeProto:
    inputs = [
        add_constant(model, f"{name}_int8", integers),
        add_constant(model, f"{name}_scales", scales),
        add_constant(model, f"{name}_zeros", np.zeros(len(scales), dtype=np.int8)),
    ]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_near"], name=f"{name}_dequantize", axis=1)
