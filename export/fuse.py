"""Fusion, with a tripwire: a pattern that is no longer found costs speed and no parity check can see it."""

from collections.abc import Mapping
from pathlib import Path

from onnxruntime.transformers import optimizer

from artifact.errors import ExportError
from export.quiet import quiet
from export.session import open_session
from export.source import Architecture

_PER_LAYER = {"Attention": 1, "SkipLayerNormalization": 2, "BiasGelu": 1}
_BERT_LAYERS = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Families whose layers are BERT's, so that ONNX Runtime's BERT patterns cover them."""
_BERT_EMBEDDINGS = ("bert",)


def expected_counts(architecture: Architecture) -> dict[str, int]:
    """How many nodes of each fused kind a whole fusion gives; empty where we have no expectation."""
    if architecture.model_type not in _BERT_LAYERS:
        return {}
    counts = {pattern: times * architecture.layers for pattern, times in _PER_LAYER.items()}
    if architecture.activation != "gelu":
        del counts["BiasGelu"]
    if architecture.model_type in _BERT_EMBEDDINGS:
        counts["EmbedLayerNormalization"] = 1
    return counts


def fuse(raw: Path, fused: Path, architecture: Architecture) -> dict[str, int]:
    """Write the fused form of the graph at `raw` to `fused`; the number of nodes of each fused kind that is there.

    Raises `ExportError` when a pattern this architecture has is found less often than it must be, or when ONNX
    Runtime does not load the result.
    """
    with quiet():
        graph = optimizer.optimize_model(
            str(raw), model_type="bert", num_heads=architecture.heads, hidden_size=architecture.hidden, opt_level=1
        )
    found = {pattern: count for pattern, count in graph.get_fused_operator_statistics().items() if count}
    check_counts(found, expected_counts(architecture))
    fused.parent.mkdir(parents=True, exist_ok=True)
    graph.save_model_to_file(str(fused))
    open_session(fused)
    return found


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
