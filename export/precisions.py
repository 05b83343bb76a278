"""How the graph of each precision is made: a table."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artifact.errors import ExportError
from export.blocks import quantize_blocks
from export.budget import find_precision_map
from export.config import Precision
from export.half import to_float16
from export.quantize import quantizable_nodes, quantize_dynamic_int8
from export.saturation import audit_saturation
from export.sensitivity import read_nodes
from export.static import choose_static
from export.variants import choose_variant, latency_in_turns
from export.workshop import Workshop


def make_graph(precision: Precision, workshop: Workshop, out: Path) -> dict[str, Any]:
    """Write the graph of `precision`, any but float32, to `out`; facts of how it was made.

    Raises `ExportError` when it cannot be made, or when `int8-static` has no text to learn ranges from.
    """
    return _MAKERS[precision](workshop, out)


def ship_faster(workshop: Workshop, out: Path) -> dict[str, Any]:
    """Put the fused graph, or the traced one where that is surely faster here, to `out` as float32; what was measured.

    ONNX Runtime optimizes what it loads, so that an unfused graph is not a slow one. Every other precision is made from
    the fused graph all the same: it has the products in the form that they are quantized in.
    """
    facts = choose_variant(workshop.raw, workshop.fused, pad_id=workshop.source.pad_id, target=workshop.target)
    shutil.copyfile(workshop.raw if facts["chosen"] == "raw" else workshop.fused, out)
    return facts


def _make_int8(workshop: Workshop, out: Path) -> dict[str, Any]:
    fused, target, floor = workshop.fused, workshop.target, workshop.config.min_quality
    searched: dict[str, Any] = {}
    kept_float: frozenset[str] = frozenset()
    if floor is not None and workshop.texts.are_real:
        tried = workshop.scratch / "tried.onnx"

        def make(kept: frozenset[str]) -> Path:
            quantize_dynamic_int8(fused, tried, target, keep_float=kept)
            return tried

        found = find_precision_map(
            read_nodes(fused, quantizable_nodes(fused)),
            floor=floor,
            float32=fused,
            make=make,
            quality=workshop.quality,
            error=workshop.error,
            latency_ms=lambda graphs: latency_in_turns(graphs, workshop.texts.judged),
        )
        kept_float, searched = found.kept, {"budget": found.facts()}
    facts = quantize_dynamic_int8(fused, out, target, keep_float=kept_float)
    return {
        "quantization": facts,
        **searched,
        "saturation": audit_saturation(out, workshop.calibration_batches()),
    }


def _make_static(workshop: Workshop, out: Path) -> dict[str, Any]:
    if not workshop.texts.are_real:
        raise ExportError(
            "int8-static learns the ranges of activations from texts, and there are none",
            "name some with --data, a sealed data set or a file of texts, or leave int8-static out of precisions",
        )
    facts = choose_static(
        workshop.fused, out, workshop.target, workshop.calibration_batches(), quality=workshop.quality,
        methods=workshop.config.calibration.methods,
    )  # fmt: skip
    return {"quantization": facts, "saturation": audit_saturation(out, workshop.calibration_batches())}


def _make_blocks(bits: Any) -> Callable[[Workshop, Path], dict[str, Any]]:
    return lambda workshop, out: {"quantization": quantize_blocks(workshop.fused, out, bits=bits)}


def _make_half(workshop: Workshop, out: Path) -> dict[str, Any]:
    return {"quantization": to_float16(workshop.fused, out)}


_MAKERS: dict[Precision, Callable[[Workshop, Path], dict[str, Any]]] = {
    "int8": _make_int8,
    "int8-static": _make_static,
    "int8-blocks": _make_blocks(8),
    "int4-blocks": _make_blocks(4),
    "float16": _make_half,
}
