"""Fusion, with a tripwire: a pattern that is no longer found costs speed and no parity check can see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.onnx_model import OnnxModel

from artifact.errors import ExportError
from export.quiet import quiet
from export.rewrite import fuse_biased_attention, rewrite
from export.session import open_session
from export.source import Architecture

Depth = Literal["whole", "light"]
"""How much is fused: everything, or everything but attention and the residual sums before a norm.

Fewer nodes are not always faster: ONNX Runtime's `SkipLayerNormalization` is slower on a CPU than the two nodes it
replaces, and so is `Attention` on some; which one wins is measured (`export.variants`).
"""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Nodes of each fused kind that a whole fusion finds; beyond them there may be others, in a head."""

    layer: Mapping[str, int]
    """In every layer."""
    once: Mapping[str, int] = field(default_factory=dict)
    """In the whole graph: the embeddings."""


_BERT = Expected(layer={"Attention": 1, "SkipLayerNormalization": 2}, once={"EmbedLayerNormalization": 1})
_ROBERTA = Expected(layer={"Attention": 1, "SkipLayerNormalization": 2})
_NORMS_ONLY = Expected(layer={"SkipLayerNormalization": 2})

EXPECTED: dict[str, Expected] = {
    "albert": _BERT,
    "bert": _BERT,
    "camembert": _ROBERTA,
    "deberta": Expected(layer={}),  # relative positions stop the optimizer's shape inference, which norms need
    "deberta-v2": _NORMS_ONLY,  # no operator knows disentangled attention
    "distilbert": _BERT,
    "electra": _BERT,
    "modernbert": _NORMS_ONLY,  # the optimizer has no pattern for its rotary positions
    "mpnet": Expected(layer={"MultiHeadAttention": 1, "SkipLayerNormalization": 2}, once={"SkipLayerNormalization": 1}),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
"""By `model_type`; recorded with ONNX Runtime 1.32, at the opsets 14 to 21."""

_LIGHT = Expected(layer={"LayerNormalization": 2})

_EXACT_GELU = ("gelu", "gelu_10", "gelu_python")
_TANH_GELU = ("gelu_accurate", "gelu_fast", "gelu_new", "gelu_pytorch_tanh")
_FIRST_OPSET_WITH_NORMS = 17
"""Before it, ModernBERT's norms, which have no bias, come out as another kind of node that is not counted."""


def expected_counts(architecture: Architecture, *, opset: int = 17, depth: Depth = "whole") -> dict[str, int]:
    """How many nodes of each fused kind there must be at least; empty for a family without a row."""
    row = EXPECTED.get(architecture.model_type)
    if row is None:
        return {}
    norms_are_named = architecture.model_type != "modernbert" or opset >= _FIRST_OPSET_WITH_NORMS
    kinds = (row if depth == "whole" else _LIGHT) if norms_are_named else Expected(layer={})
    layer = {**kinds.layer, **_activation(architecture)}
    return {
        kind: layer.get(kind, 0) * architecture.layers + kinds.once.get(kind, 0) for kind in {**layer, **kinds.once}
    }


def _activation(architecture: Architecture) -> dict[str, int]:
    """The fused activation of one layer; in ModernBERT without the bias, since there is none."""
    if architecture.activation in _TANH_GELU:
        return {"FastGelu": 1}
    exact = "Gelu" if architecture.model_type == "modernbert" else "BiasGelu"
    return {exact: 1} if architecture.activation in _EXACT_GELU else {}


def fuse(raw: Path, fused: Path, architecture: Architecture, *, depth: Depth = "whole") -> dict[str, int]:
    """Write the fused form of the graph at `raw` to `fused`; the number of nodes of each fused kind that is there.

    Raises `ExportError` when a pattern this architecture has is found less often than it must be, or when ONNX
    Runtime does not load the result.
    """
    with quiet():
        graph = optimizer.optimize_model(str(raw), opt_level=1, only_onnxruntime=True)
        graph = _fuse(graph, architecture, depth)
    found = {kind: count for kind, count in graph.get_fused_operator_statistics().items() if count}
    check_counts(found, expected_counts(architecture, opset=graph.get_opset_version(), depth=depth))
    fused.parent.mkdir(parents=True, exist_ok=True)
    graph.save_model_to_file(str(fused))
    open_session(fused)
    return found


def _fuse(graph: OnnxModel, architecture: Architecture, depth: Depth) -> OnnxModel:
    options = FusionOptions("bert")
    rewrite(graph)
    if depth == "whole":
        fuse_biased_attention(graph, architecture.heads)
    else:
        options.enable_attention = False
        options.enable_skip_layer_norm = False
        options.enable_embed_layer_norm = False  # it needs the mask that attention would have taken
    return optimizer.optimize_by_fusion(graph.model, "bert", architecture.heads, architecture.hidden, options)


def check_counts(found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Raise `ExportError` naming each pattern that was fused less often than expected."""
    lost = [
        f"{pattern} {found.get(pattern, 0)} of {count}"
        for pattern, count in expected.items()
        if found.get(pattern, 0) < count
    ]
    if lost:
        hint = "the graph is right but slower: a version of torch, transformers or onnxruntime changed its shape"
        raise ExportError(f"fusion lost {', '.join(lost)}", hint)
