"""How the graph of each precision is made: a table."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from artifact.errors import ExportError
from export.blocks import quantize_blocks
from export.budget import find_precision_map
from export.config import Precision
from export.fuse import Depth, fuse
from export.half import to_float16
from export.memory import give_back_memory
from export.quantize import quantizable_nodes, quantize_dynamic_int8
from export.saturation import audit_saturation
from export.sensitivity import errors_alone, read_nodes, units_of
from export.smooth import smooth
from export.static import choose_static, quantize_static
from export.variants import choose_fastest, is_host, latency_in_turns
from export.workshop import Workshop

_NAMED = 3
"""Nodes named as those that smoothing repaired."""


def make_graph(precision: Precision, workshop: Workshop, out: Path) -> dict[str, Any]:
    """Write the graph of `precision`, any but float32, to `out`; facts of how it was made.

    Raises `ExportError` when it cannot be made, or when `int8-static` has no text to learn ranges from.
    """
    return _MAKERS[precision](workshop, out)


def fuse_forms(workshop: Workshop) -> dict[str, dict[str, int]]:
    """Write both fused forms of the traced graph; how many nodes of each fused kind there are in each.

    `whole` is everything ONNX Runtime's optimizer fuses; `light` leaves attention, the norms that also add, and the
    embeddings apart, which some of its processors' kernels take less time for.
    """
    depths: dict[str, Depth] = {"whole": "whole", "light": "light"}
    counts = {}
    for name, depth in depths.items():
        counts[name] = fuse(workshop.raw, workshop.form(name), workshop.source.architecture, depth=depth)
        give_back_memory()
    return counts


def ship_fastest(workshop: Workshop, out: Path) -> dict[str, Any]:
    """Put the form of the graph that is surely fastest here, or else the whole one, to `out` as float32; why.

    The traced graph counts too: ONNX Runtime optimizes what it loads, so that an unfused graph is not a slow one.
    """
    facts = _choose(workshop, {name: workshop.form(name) for name in ("whole", "light", "raw")})
    shutil.copyfile(workshop.form(facts["chosen"]), out)
    return facts


def choose_base(workshop: Workshop) -> dict[str, Any]:
    """Put the fused form whose int8 graph is surely faster here, or else the whole one, to `workshop.fused`; why.

    Where no integer precision is asked for, nothing is made of it and the whole one is taken unmeasured.
    """
    forms = {name: workshop.form(name) for name in ("whole", "light")}
    if not any(precision.startswith("int") for precision in workshop.config.precisions):
        facts: dict[str, Any] = {"chosen": "whole", "measured": False, "reason": "no integer precision was asked for"}
    else:
        made = {name: workshop.scratch / f"{name}-int8.onnx" for name in forms}
        if is_host(workshop.target):
            for name, path in forms.items():
                quantize_dynamic_int8(path, made[name], workshop.target)
        facts = _choose(workshop, made)
    shutil.copyfile(forms[facts["chosen"]], workshop.fused)
    return facts


def _choose(workshop: Workshop, graphs: Mapping[str, Path]) -> dict[str, Any]:
    source = workshop.source
    return choose_fastest(graphs, pad_id=source.pad_id, target=workshop.target, max_tokens=source.max_tokens)


def _make_int8(workshop: Workshop, out: Path) -> dict[str, Any]:
    target, floor = workshop.target, workshop.config.min_quality
    base, smoothing = _best_base(workshop, lambda graph, made: quantize_dynamic_int8(graph, made, target))
    searched: dict[str, Any] = {}
    kept_float: frozenset[str] = frozenset()
    if floor is not None and workshop.texts.are_real:
        found = find_precision_map(
            read_nodes(base, quantizable_nodes(base)),
            floor=floor,
            float32=workshop.fused,
            make=_maker(workshop, base),
            quality=workshop.quality,
            error=workshop.error,
            latency_ms=lambda graphs: latency_in_turns(graphs, workshop.texts.judged),
        )
        kept_float, searched = found.kept, {"budget": found.facts()}
        if base != workshop.fused:
            smoothing["smoothing"] |= _spoilers(workshop)
    facts = quantize_dynamic_int8(base, out, target, keep_float=kept_float)
    return {
        "quantization": facts,
        **smoothing,
        **searched,
        "saturation": audit_saturation(out, workshop.calibration_batches()),
    }


def _maker(workshop: Workshop, base: Path) -> Callable[[frozenset[str]], Path]:
    """Writes `base` in int8, but for the nodes named, over what it wrote before."""
    tried = workshop.scratch / "tried.onnx"

    def make(kept: frozenset[str]) -> Path:
        quantize_dynamic_int8(base, tried, workshop.target, keep_float=kept)
        return tried

    return make


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


def _spoilers(workshop: Workshop) -> dict[str, Any]:
    """Why smoothing was needed, if without it the floor is missed: the worst nodes of the layer that errs most."""
    make, floor = _maker(workshop, workshop.fused), workshop.config.min_quality
    plain = workshop.quality(make(frozenset()))
    if floor is None or plain >= floor:
        return {}
    nodes = read_nodes(workshop.fused, quantizable_nodes(workshop.fused))
    by_layer = errors_alone(units_of(nodes, most=0), make, workshop.error)  # first: naming a node is worth few graphs
    layer = max(by_layer, key=by_layer.__getitem__)
    alone = errors_alone([(node,) for node in layer], make, workshop.error, among=nodes)
    worst = sorted(alone, key=lambda unit: -alone[unit])[:_NAMED]
    named = {node.name: f"{node}: alone in int8 it errs by {alone[unit]:.4f}" for unit in worst for node in unit}
    return {"repaired": {"quality_plain": plain, "nodes": named}}


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
