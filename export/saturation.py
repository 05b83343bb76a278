"""How often int8 products would be cut at 16 bits on processors that add two of them before they widen (`VPMADDUBSW`).

AVX2 and AVX-512 without VNNI multiply unsigned activations by signed weights and add neighbours, `a0*w0 + a1*w1`, in 16
bits; a sum outside -32768..32767 is cut there, and the answer is wrong on these machines only. The integers counted
here are those the graph itself makes of the calibration texts, so that the count holds on any machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import Int8, Int32, UInt8
from onnx import TensorProto, numpy_helper

from artifact.errors import ExportError
from export.grid import Inputs
from export.surgery import constants, load_named, watching

LARGEST = 2**15 - 1
SMALLEST = -(2**15)
GREATEST_ACTIVATION = 255

_CHUNK_PAIRS = 256
"""Pairs of weights counted at once; with a batch of 4,096 tokens they take 4 MiB."""
_NAMED = 5
"""Nodes that the facts name, those with the most overflows first."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """What was found in one product."""

    pairs: int
    overflows: int
    largest: int
    """Greatest magnitude of any sum of a pair, here or in what was counted before."""

    def __add__(self, other: "Count") -> "Count":
        return Count(
            pairs=self.pairs + other.pairs,
            overflows=self.overflows + other.overflows,
            largest=max(self.largest, other.largest),
        )


NOTHING = Count(pairs=0, overflows=0, largest=0)


def audit_saturation(quantized: Path, batches: Sequence[Inputs]) -> dict[str, Any]:
    """Count overflowing pairs in every int8 product of a dynamic or static int8 graph, over the texts of `batches`.

    Each batch is quantized whole, padding included, as it would be in service. Facts: `pairs` and `overflows` counted,
    `risk` (their ratio), the `largest_pair` found, the `largest_possible` with these weights whatever the text,
    `proof` where that rules overflow out, and the nodes with the most overflows. Raises `ExportError` when the graph
    has no int8 product.
    """
    model = load_named(quantized)
    products = {name: (source, _int8(model, weights)) for name, source, weights in _products(model)}
    if not products:
        raise ExportError(
            f"{quantized.name} has no int8 product to audit", "name a graph of precision int8 or int8-static"
        )
    counts = dict.fromkeys(products, NOTHING)
    sources = sorted({source for source, _ in products.values()})
    with watching(model, sources, kind=TensorProto.UINT8) as run:
        for inputs in batches:
            found = run(inputs)
            for name, (source, weights) in products.items():
                values = found[source].reshape(-1, weights.shape[0])
                largest = max(count.largest for count in counts.values())
                counts[name] += count_overflows(values, weights, known=largest)
    possible = max(largest_possible(weights) for _, weights in products.values())
    return _summarize(counts, possible)


def count_overflows(
    activations: UInt8[np.ndarray, "rows inputs"], weights: Int8[np.ndarray, "inputs outputs"], *, known: int = 0
) -> Count:
    """Overflows among all sums of neighbouring products, exactly; `largest` is at least `known`.

    Pairs of weights are taken in the order of the largest sum their columns of activations allow, and counting stops
    where that can neither overflow nor exceed the largest known: most pairs are never multiplied.
    """
    rows, usable = len(activations), weights.shape[0] // 2 * 2
    if not rows or not usable:
        return Count(pairs=0, overflows=0, largest=known)
    values = activations[:, :usable].astype(np.int32)
    pairs = weights[:usable].astype(np.int32).reshape(usable // 2, 2, -1)
    greatest = values.max(axis=0).reshape(-1, 2, 1)
    reach = np.maximum(
        (greatest * np.maximum(pairs, 0)).sum(axis=1), (greatest * np.maximum(-pairs, 0)).sum(axis=1)
    ).ravel()
    candidates = np.flatnonzero(reach > min(LARGEST, known))
    order = candidates[np.argsort(-reach[candidates], kind="stable")]
    overflows, largest = 0, known
    for first in range(0, len(order), _CHUNK_PAIRS):
        chosen = order[first : first + _CHUNK_PAIRS]
        if reach[chosen[0]] <= min(LARGEST, largest):
            break
        sums = _sums(values, pairs, chosen)
        overflows += int(((sums > LARGEST) | (sums < SMALLEST)).sum())
        largest = max(largest, int(np.abs(sums).max()))
    return Count(pairs=rows * reach.size, overflows=overflows, largest=largest)


def largest_possible(weights: Int8[np.ndarray, "inputs outputs"]) -> int:
    """Greatest magnitude that any activations can give a pair of these weights."""
    usable = weights.shape[0] // 2 * 2
    pairs = weights[:usable].astype(np.int32).reshape(usable // 2, 2, -1)
    sums = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    return GREATEST_ACTIVATION * int(sums.max(initial=0))


def _sums(
    values: Int32[np.ndarray, "rows inputs"], pairs: Int32[np.ndarray, "halves 2 outputs"], chosen: np.ndarray
) -> Int32[np.ndarray, "rows chosen"]:
    half, output = np.divmod(chosen, pairs.shape[2])
    sums: Int32[np.ndarray, "rows chosen"] = values[:, 2 * half] * pairs[half, 0, output]
    sums += values[:, 2 * half + 1] * pairs[half, 1, output]
    return sums


def _products(model: onnx.ModelProto) -> Iterator[tuple[str, str, str]]:
    """Name, uint8 activation and int8 weights of each product, whether of integers or between QDQ pairs."""
    read = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    integers = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    for node in model.graph.node:
        if node.op_type in ("MatMulInteger", "QAttention"):
            values, weights = node.input[:2]
        elif node.op_type == "MatMul" and all(name in read for name in node.input):
            values, weights = (read[name] for name in node.input)
        else:
            continue
        if weights in integers:
            yield node.name.removesuffix("_quant"), values, weights


def _int8(model: onnx.ModelProto, name: str) -> Int8[np.ndarray, "inputs outputs"]:
    weights: Int8[np.ndarray, "inputs outputs"] = numpy_helper.to_array(constants(model)[name])
    return weights


def _summarize(counts: Mapping[str, Count], possible: int) -> dict[str, Any]:
    total = sum(counts.values(), NOTHING)
    worst = sorted((name for name in counts if counts[name].overflows), key=lambda name: -counts[name].overflows)
    return {
        "pairs": total.pairs,
        "overflows": total.overflows,
        "risk": total.overflows / total.pairs if total.pairs else 0.0,
        "largest_pair": total.largest,
        "largest_possible": possible,
        "proof": f"no text can overflow: {possible} <= {LARGEST}" if possible <= LARGEST else None,
        "by_node": {
            name: {"overflows": counts[name].overflows, "risk": counts[name].overflows / counts[name].pairs}
            for name in worst[:_NAMED]
        },
    }
