"""Where the stored bytes of a row lie: in the embedding, the Transformer's layers, the head, or in none of these.

    read_graph_parts(Path("out/demo/bundles/student/onnx/model.onnx"))
    # {"embedding": 47674646, "transformer": 21308160, "head": 822510, "other": 43120}

A tensor is told by its own name. Where the exporter gave it one that says nothing, such as `onnx::MatMul_691`, it is
told by the nodes that read it, and where those only scale it back from integers, by the nodes that read these.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact.errors import ArtifactError
from serve.bundle import size_of

if TYPE_CHECKING:
    import onnx

PARTS = ("embedding", "transformer", "head", "other")
"""`other` is the graph itself, its constants, and what no name tells of."""

_NAMES = {
    "head": re.compile(r"classifier|pooler|[./]head[./]|qa_outputs"),
    "transformer": re.compile(r"layers?[._/]\d|encoder|transformer|final_norm|Attention|Gelu"),
    "embedding": re.compile(r"[Ee]mbed"),
}
"""Tried in this order: the pooler stands above the encoder, and the encoder of some families has embeddings too."""

_HOPS = 3
"""Nodes between a stored tensor and one whose name tells: at most a dequantization, a transposition and a cast."""

_PYTORCH = "pytorch"
_WEIGHTS = "model.safetensors"


def read_parts(
    rows: Iterable[str], directories: Mapping[str, Path], facts: Mapping[str, Any]
) -> dict[str, dict[str, int]]:
    """Bytes by part of each of `rows` that is a graph of a bundle, or a model in PyTorch.

    `directories` and `facts` are those of the artefacts by name, such as `bundle:student`. Raises `ArtifactError`
    for a file that cannot be read.
    """
    found = {}
    for row in rows:
        model, _, precision = row.partition("/")
        graphs = facts.get(f"bundle:{model}", {}).get("precisions", {})
        weights = directories.get(f"model:{model}", Path()) / _WEIGHTS
        if precision in graphs:
            found[row] = read_graph_parts(directories[f"bundle:{model}"] / graphs[precision]["file"])
        elif precision.startswith(_PYTORCH) and weights.is_file():
            found[row] = read_weights_parts(weights)
    return found


def read_graph_parts(graph: Path) -> dict[str, int]:
    """Bytes of the graph at that path by part, tensors in its `_data` file included; their sum is what is stored."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

    try:
        model = onnx.load(graph, load_external_data=False)
    except DecodeError:
        raise ArtifactError(f"{graph} is not an ONNX graph", "export it again with --force") from None
    readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    sizes = ((_part_of(tensor.name, readers), _stored(tensor, graph)) for tensor in model.graph.initializer)
    return _sum_up(sizes, size_of(graph))


def read_weights_parts(weights: Path) -> dict[str, int]:
    """Bytes of a safetensors file by part, from its header alone: eight bytes of length, then JSON."""
    try:
        with weights.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        spans = {name: about["data_offsets"] for name, about in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, MemoryError, OverflowError):
        raise ArtifactError(f"{weights} is not a safetensors file", "distil it again with --force") from None
    sizes = ((_part_by_name(name) or "head", end - start) for name, (start, end) in spans.items())
    return _sum_up(sizes, weights.stat().st_size)


def _sum_up(sizes: Iterator[tuple[str, int]], stored: int) -> dict[str, int]:
    parts = dict.fromkeys(PARTS, 0)
    for part, size in sizes:
        parts[part] += size
    parts["other"] += stored - sum(parts.values())
    return parts


def _part_of(tensor: str, readers: "Mapping[str, list[onnx.NodeProto]]") -> str:
    """The nearest name on the tensor's way that tells."""
    names = [tensor]
    for _ in range(_HOPS + 1):
        nodes = [node for name in names for node in readers.get(name, ())]
        for told in (*map(_part_by_name, names), *(_part_by_name(node.name) for node in nodes)):
            if told:
                return told
        names = [name for node in nodes for name in node.output]
    return "other"


def _part_by_name(name: str) -> str | None:
    return next((part for part, pattern in _NAMES.items() if pattern.search(name)), None)


def _stored(tensor: "onnx.TensorProto", graph: Path) -> int:
    """Bytes in the graph's file, name and shape included, and those it points to beside it."""
    beside = {entry.key: entry.value for entry in tensor.external_data}
    outside = int(beside.get("length", 0)) if beside.get("location") == f"{graph.name}_data" else 0
    return int(tensor.ByteSize()) + outside
