"""Weights in blocks of 8 or 4 bits (`MatMulNBits`), each block of a column with a scale of its own.

Activations are rounded to 8 bits block by block too while the graph runs (`accuracy_level` 4), within each token: an
answer does not depend on who shares the batch. On all-MiniLM-L6-v2 the cosine to float32 is as with float32 activations
to 0.0003, and one text of 16 tokens is answered in a third of the time; levels 0 and 1 are no faster than float32, and
with 8 bits several times slower. Blocks of 64 and 128 are a little faster, but there ONNX Runtime takes another kernel
for more tokens, and most answers moved by 0.004 to 0.009 with the batch: hence 32.

The packing is written here: ONNX Runtime's own needs a package that it does not install, and rounds without search.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from onnx import NodeProto, helper, numpy_helper

from artifact.errors import ExportError
from export.rows import quantize_tables
from export.spread import spread
from export.static import is_product
from export.surgery import CONTRIB, add_constant, check_names, constants, load_named, replace_nodes, save_loadable

Bits = Literal[4, 8]

ACCURACY_LEVEL = 4
"""ONNX Runtime's name for activations of 8 bits inside the product."""
_SMALLEST_BLOCK = 16
_SHRINKS = np.linspace(1.0, 0.7, 16)
"""Shares of a block's range tried at 4 bits: clipping the largest weight can serve all the others better."""


def quantize_blocks(
    fused: Path, quantized: Path, *, bits: Bits, block_size: int = 32, keep_float: Collection[str] = ()
) -> dict[str, Any]:
    """Write the block-quantized form of the fused graph; the settings used and the nodes that were quantized.

    Attention's weights are reached by `spread`; large embedding tables get 8 bits and one scale a row, at either
    number of bits. Nodes named in `keep_float` stay float32. Raises `ExportError` when `block_size` is no power of two
    from 16 up, or when nothing was quantized.
    """
    if block_size < _SMALLEST_BLOCK or block_size & (block_size - 1):
        raise ExportError(
            f"block_size is {block_size}, expected a power of two from {_SMALLEST_BLOCK} up", "32 is best"
        )
    model = load_named(fused)
    check_names(model, keep_float)
    spread(model, keep=keep_float)
    tensors, rewritten = constants(model), list[str]()

    def rewrite(node: NodeProto) -> Sequence[NodeProto] | None:
        if node.name in keep_float or not is_product(node, tensors):
            return None
        rewritten.append(node.name)
        values, weights = node.input
        matrix = numpy_helper.to_array(tensors[weights])
        names = [f"{weights}_{part}" for part in ("blocks", "scales", "zeros")]
        for name, part in zip(names, pack(matrix, bits=bits, block_size=block_size), strict=True):
            add_constant(model, name, part)
        settings = {"K": matrix.shape[0], "N": matrix.shape[1], "bits": bits, "block_size": block_size}
        return [
            helper.make_node(
                "MatMulNBits",
                [values, *names],
                node.output,
                name=node.name,
                domain=CONTRIB,
                accuracy_level=ACCURACY_LEVEL,
                **settings,
            )
        ]

    replace_nodes(model, rewrite)
    tables = quantize_tables(model, keep=keep_float)
    if not rewritten:
        raise ExportError("no product of the graph could be quantized", "leave the block precisions out")
    save_loadable(model, quantized)
    return {
        "mode": "blocks",
        "bits": bits,
        "block_size": block_size,
        "accuracy_level": ACCURACY_LEVEL,
        "activation_type": "int8, within the product, one scale a block of a token",
        "nodes": {"MatMulNBits": len(rewritten), "Gather": len(tables)},
        "kept_float": sorted(keep_float),
    }


def pack(
    weights: Float[np.ndarray, "inputs outputs"], *, bits: Bits, block_size: int
) -> tuple[
    UInt8[np.ndarray, "outputs blocks bytes"], Float[np.ndarray, "outputs blocks"], UInt8[np.ndarray, "outputs zeros"]
]:
    """The weights as `MatMulNBits` reads them: integers, scales and zero points.

    Along the inputs, the last block filled up with zeros. Of 4 bits two go into a byte, the first in its low half.
    """
    inputs, outputs = weights.shape
    count = -(-inputs // block_size)
    padded = np.zeros((count * block_size, outputs), dtype=np.float32)
    padded[:inputs] = weights
    blocks = padded.T.reshape(outputs, count, block_size)
    scales, zeros = _best_ranges(blocks, bits) if bits == 4 else _ranges(blocks, bits, 1.0)
    integers = _round(blocks, scales, zeros, bits).astype(np.uint8)
    points = zeros[..., 0].astype(np.uint8)
    if bits == 4:
        integers, points = _pair(integers), _pair(np.pad(points, ((0, 0), (0, count % 2))))
    return integers, scales[..., 0].astype(np.float32), points


def _pair(nibbles: UInt8[np.ndarray, "*axes values"]) -> UInt8[np.ndarray, "*axes bytes"]:
    """Two values of 4 bits in each byte."""
    pairs: UInt8[np.ndarray, "*axes bytes"] = nibbles[..., 0::2] | np.left_shift(nibbles[..., 1::2], 4)
    return pairs


Blocks = Float[np.ndarray, "outputs blocks inputs"]
PerBlock = Float[np.ndarray, "outputs blocks 1"]


def _ranges(blocks: Blocks, bits: Bits, share: float) -> tuple[PerBlock, PerBlock]:
    """Scale and zero point of each block when `share` of its range is represented; zero is exact."""
    top = 2**bits - 1
    low, high = np.minimum(blocks.min(axis=-1, keepdims=True), 0), np.maximum(blocks.max(axis=-1, keepdims=True), 0)
    scales = share * (high - low) / top
    scales[scales == 0] = 1
    return scales, np.clip(np.rint(-share * low / scales), 0, top)


def _best_ranges(blocks: Blocks, bits: Bits) -> tuple[PerBlock, PerBlock]:
    """Of `_SHRINKS`, for each block the range with the least squared error."""
    scales, zeros = _ranges(blocks, bits, 1.0)
    least = np.full_like(scales, np.inf)
    for share in _SHRINKS:
        tried = _ranges(blocks, bits, share)
        error = np.square(_round(blocks, *tried, bits=bits) * tried[0] - tried[1] * tried[0] - blocks)
        error = error.sum(axis=-1, keepdims=True)
        better = error < least
        least = np.where(better, error, least)
        scales, zeros = np.where(better, tried[0], scales), np.where(better, tried[1], zeros)
    return scales, zeros


def _round(blocks: Blocks, scales: PerBlock, zeros: PerBlock, bits: Bits) -> Blocks:
    """Integers, still as floats."""
    integers: Blocks = np.clip(np.rint(blocks / scales) + zeros, 0, 2**bits - 1)
    return integers
