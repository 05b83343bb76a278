"""Handling of graphs that every precision needs: names for nodes, constants, replacing nodes, watching activations."""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from artifact.errors import ExportError
from export.grid import Inputs
from export.session import open_session

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

_RUN_TOKENS = 512
"""Padded tokens in one run while activations are watched: all of them lie in memory together."""


def load_named(path: Path) -> onnx.ModelProto:
    """The graph at `path`, each node with a name of its own: `KIND_N` where it had none or shared it.

    N counts nodes in the order of the file, so that the same file gives the same names each time.
    """
    model = onnx.load(path)
    times = Counter(node.name for node in model.graph.node)
    for index, node in enumerate(model.graph.node):
        if not node.name or times[node.name] > 1:
            node.name = f"{node.op_type}_node_{index}"
    return model


def constants(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """Initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes of `node` by name, as plain values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def add_constant(model: onnx.ModelProto, name: str, values: np.ndarray) -> str:
    """Add an initializer, once: a second call with the same name changes nothing. Its name, to be used as an input."""
    if name not in {tensor.name for tensor in model.graph.initializer}:
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def replace_nodes(model: onnx.ModelProto, rewrite: Callable[[NodeProto], Sequence[NodeProto] | None]) -> None:
    """Put what `rewrite` makes of each node in its place, `None` keeping it; constants nobody reads any more go."""
    kept: list[NodeProto] = []
    for node in model.graph.node:
        made = rewrite(node)
        kept.extend([node] if made is None else made)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    drop_unread(model)


def drop_unread(model: onnx.ModelProto) -> None:
    """Remove initializers that no node reads, and declared types of tensors that are gone."""
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]  # shapes ONNX Runtime infers anew; stale ones it would refuse


def check_names(model: onnx.ModelProto, keep_float: Collection[str]) -> None:
    """Raise `ExportError` for names in `keep_float` that no node of `model` bears."""
    unknown = sorted(set(keep_float) - {node.name for node in model.graph.node})
    if unknown:
        raise ExportError(
            f"no node of the graph is called {', '.join(unknown[:4])}", "names are those of quantizable_nodes(fused)"
        )


def save_loadable(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` to `path`; `ExportError` when ONNX Runtime does not load it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    open_session(path)


def watch(
    model: onnx.ModelProto, names: Sequence[str], batches: Sequence[Inputs]
) -> Iterator[Mapping[str, np.ndarray]]:
    """Activations `names`, of float32, over `batches`: rows of channels (`tokens channels`), padding left out.

    Texts are run a few at a time, so that memory does not grow with the batches. A tensor that does not have the
    shape of the attention mask, such as a pooled one, is taken whole.
    """
    with watching(model, names, kind=TensorProto.FLOAT) as run:
        for inputs in _cut(batches):
            kept = inputs["attention_mask"].astype(bool)
            yield {name: _rows(values, kept) for name, values in run(inputs).items()}


@contextlib.contextmanager
def watching(
    model: onnx.ModelProto, names: Sequence[str], *, kind: int
) -> Iterator[Callable[[Inputs], Mapping[str, np.ndarray]]]:
    """A function that gives the activations `names`, of ONNX type `kind`, to one batch as it is."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    answered = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, kind, None) for name in names if name not in answered
    )
    with TemporaryDirectory(prefix="understudy-watch-") as scratch:
        path = Path(scratch) / "watched.onnx"
        onnx.save(watched, path)
        session = open_session(path)
        yield lambda inputs: dict(zip(names, session.run(list(names), dict(inputs)), strict=True))


def _cut(batches: Sequence[Inputs]) -> Iterator[Inputs]:
    """The batches in pieces of at most `_RUN_TOKENS` padded tokens, but at least one text."""
    for inputs in batches:
        texts, length = inputs["attention_mask"].shape
        step = max(1, _RUN_TOKENS // length)
        for first in range(0, texts, step):
            yield {name: values[first : first + step] for name, values in inputs.items()}


def _rows(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    if values.ndim == 3 and values.shape[:2] == kept.shape:
        return np.asarray(values[kept])
    return values.reshape(-1, values.shape[-1])
