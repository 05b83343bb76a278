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
from export.smooth import smooth
from export.static import choose_static, quantize_static
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
    target, floor = workshop.target, workshop.config.min_quality
    base, smoothing = _best_base(workshop, lambda graph, made: quantize_dynamic_int8(graph, made, target))
    searched: dict[str, Any] = {}
    kept_float: frozenset[str] = frozenset()
    if floor is not None and workshop.texts.are_real:
        tried = workshop.scratch / "tried.onnx"

        def make(kept: frozenset[str]) -> Path:
            quantize_dynamic_int8(base, tried, target, keep_float=kept)
            return tried

        found = find_precision_map(
            read_nodes(base, quantizable_nodes(base)),
            floor=floor,
            float32=workshop.fused,
            make=make,
            quality=workshop.quality,
            error=workshop.error,
            latency_ms=lambda graphs: latency_in_turns(graphs, workshop.texts.judged),
        )
        kept_float, searched = found.kept, {"budget": found.facts()}
    facts = quantize_dynamic_int8(base, out, target, keep_float=kept_float)
    return {
        "quantization": facts,
        **smoothing,
        **searched,
        "saturation": audit_saturation(out, workshop.calibration_batches()),
    }


def _best_base(workshop: Workshop, quantize: Callable[[Path, Path], object]) -> tuple[Path, dict[str, Any]]:
    """The fused graph, or its smoothed form where that is quantized with less error; facts of both."""
    if not workshop.texts.are_real:
        return workshop.fused, {}
    smoothed, tried = workshop.scratch / "smoothed.onnx", workshop.scratch / "tried.onnx"
    if not smoothed.exists():
        smooth(workshop.fused, smoothed, workshop.calibration_batches())
    errors = {}
    for name, graph in (("plain", workshop.fused), ("smoothed", smoothed)):
        quantize(graph, tried)
        errors[name] = workshop.error(tried)
    is_better = errors["smoothed"] < errors["plain"]
    facts = {"smoothing": {"errors": errors, "chosen": "smoothed" if is_better else "plain"}}
    return smoothed if is_better else workshop.fused, facts


def _make_static(workshop: Workshop, out: Path) -> dict[str, Any]:
    if not workshop.texts.are_real:
        raise ExportError(
            "int8-static learns the ranges of activations from texts, and there are none",
            "name some with --data, a sealed data set or a file of texts, or leave int8-static out of precisions",
        )
    batches, target = workshop.calibration_batches(), workshop.target
    base, smoothing = _best_base(
        workshop, lambda graph, made: quantize_static(graph, made, target, batches, method="minmax")
    )
    facts = choose_static(
        base, out, target, batches, quality=workshop.quality, methods=workshop.config.calibration.methods
    )
    return {"quantization": facts, **smoothing, "saturation": audit_saturation(out, batches)}


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
