"""What a gate asks of a bundle's graphs: their layers' means of texts, and whether all else stayed as it was."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from artifact.errors import ExportError
from artifact.manifest import read_manifest
from export.domain import MEANS, add_means, make_output
from serve.bundle import Bundle, BundleInfo
from serve.engine import Tokens
from serve.padding import cut_batches, pad
from serve.runtime import BATCH_TOKENS
from serve.session import open_session

Array = NDArray[Any]


def count_layers(bundle: Bundle) -> int:
    """Layers of the bundle's model; `ExportError` when its manifest does not say."""
    found = read_manifest(bundle.directory).facts.get("layers")
    if not isinstance(found, int):
        raise ExportError(f"{bundle.directory} does not say how many layers its model has", "export it again")
    return found


def layer_means(graph: Path, tokens: Tokens, info: BundleInfo, layers: int, threads: int) -> Array:
    """`[texts, layers, hidden]`: means of the hidden states of the texts, as this graph sees them.

    Raises `ExportError` where some are no numbers, or the graph does not show them.
    """
    model = onnx.load(graph)
    make_output(model, add_means(model, layers))
    with tempfile.TemporaryDirectory(prefix="understudy-guard-") as scratch:
        path = Path(scratch) / "means.onnx"
        onnx.save(model, path)
        means = ask(open_session(path, info, threads), tokens, info, [MEANS])[MEANS]
    if not np.isfinite(means).all():
        raise ExportError(f"{graph.name} has hidden states that are NaN or infinite", "export it again")
    return means


def check_same(before: Path, after: Path, tokens: Tokens, info: BundleInfo) -> None:
    """Raise `ExportError` unless both graphs answer alike, to the bit, in all that `before` answers."""
    sessions = [open_session(path, info, 1) for path in (before, after)]
    names = [output.name for output in sessions[0].get_outputs()]
    for batch in cut_batches(tokens.lengths, BATCH_TOKENS):
        inputs = pad([tokens.encodings[row] for row in batch], info)
        for name, old, new in zip(names, *(session.run(names, inputs) for session in sessions), strict=True):
            if old.tobytes() != new.tobytes():
                hint = "this version of onnxruntime computes a graph otherwise when it has one output more"
                raise ExportError(f"with the gate, {name} of {before.name} is no longer the same bits", hint)


def ask(session: InferenceSession, tokens: Tokens, info: BundleInfo, names: Sequence[str]) -> dict[str, Array]:
    """Outputs `names`, a row for each text, computed in batches as serving cuts them."""
    rows: dict[str, list[Array]] = {name: [np.empty(0)] * len(tokens.lengths) for name in names}
    for batch in cut_batches(tokens.lengths, BATCH_TOKENS):
        found = session.run(list(names), pad([tokens.encodings[row] for row in batch], info))
        for name, values in zip(names, found, strict=True):
            for row, value in zip(batch, values, strict=True):
                rows[name][row] = value
    return {name: np.stack(values) for name, values in rows.items()}
