"""PyTorch to ONNX: one pass through the encoder gives all that a task answers, and a vector of the text beside it."""

from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from optimum.exporters.onnx import export
from optimum.exporters.tasks import TasksManager
from torch import Tensor, nn

from artifact.errors import ExportError
from export.quiet import quiet
from export.source import Source

_BARE = "feature-extraction"
"""optimum's name of the task of an encoder without a head."""
_AXES = {"batch": "batch_size", "sequence": "sequence_length"}
"""Our names of the dynamic axes to optimum's; other axes have a fixed size."""


class Answering(nn.Module):
    """A model that also answers with the text's vector, from the same pass through its encoder.

    The last hidden state is caught where the encoder returns it, so it is what `AutoModel` would give, whatever
    the family does between its layers and its head.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.model = source.model
        self.config = source.model.config  # optimum reads it off what it exports
        self._outputs = tuple(source.task.outputs)
        self._pooling = source.pooling

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """The task's outputs, in their order."""
        caught: list[Tensor] = []
        hook = self.model.base_model.register_forward_hook(lambda _module, _inputs, output: caught.append(output[0]))
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        try:
            answer = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        finally:
            hook.remove()
        vector = {"sentence_embedding": self._pooling(caught[0], attention_mask)}
        return {name: vector[name] if name in vector else answer[name] for name in self._outputs}


def input_names(source: Source) -> tuple[str, ...]:
    """Inputs of the graph, in its order; without `token_type_ids` where the model takes none."""
    return tuple(_exporter_config(source).inputs)


def export_graph(source: Source, path: Path, *, opset: int) -> None:
    """Write the graph of `source` to `path`, batch and length dynamic, through optimum's torchscript exporter.

    Raises `ExportError` when the exporter cannot trace the model.
    """
    try:
        with quiet():
            export(Answering(source), _exporter_config(source), path, opset=opset)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ExportError(f"{source.directory} could not be traced to ONNX opset {opset}: {reason}") from error


def _exporter_config(source: Source) -> Any:
    """The family's own exporter config, with our outputs in place of its own.

    optimum decides what is exported by the class, one for each family, hence a class made here. It is that of a bare
    encoder for every task: the inputs are the same, and optimum lists fewer heads for some families than they have.
    """
    config = source.model.config
    build = TasksManager.get_exporter_config_constructor(
        "onnx", model_type=config.model_type, task=_BARE, library_name="transformers"
    )
    family = type(build(config))
    outputs = {
        name: {place: _AXES[axis] for place, axis in enumerate(axes) if axis in _AXES}
        for name, axes in source.task.outputs.items()
    }
    return type(family.__name__, (family,), {"outputs": property(lambda _self: outputs)})(config, task=_BARE)
