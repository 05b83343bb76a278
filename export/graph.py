"""PyTorch to ONNX: one pass through the encoder, two answers, `logits` and `sentence_embedding`."""

from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from optimum.exporters.onnx import export
from optimum.exporters.tasks import TasksManager
from torch import Tensor, nn
from transformers import PreTrainedModel

from artifact.errors import ExportError
from export.quiet import quiet
from export.source import TASK, Source

OUTPUTS = {"logits": {0: "batch_size"}, "sentence_embedding": {0: "batch_size"}}
"""Names and dynamic axes of what a graph answers."""


class ClassifierWithEmbedding(nn.Module):
    """A classifier that also answers with the sentence embedding, from the same pass through its encoder.

    The last hidden state is caught where the encoder returns it, so it is what `AutoModel` would give, whatever
    the family does between its layers and its head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.config  # optimum reads it off what it exports

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> dict[str, Float[Tensor, "batch width"]]:
        """`logits`, one column a label, and `sentence_embedding`, one column a hidden unit."""
        caught: list[Tensor] = []
        hook = self.model.base_model.register_forward_hook(lambda _module, _inputs, output: caught.append(output[0]))
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        try:
            answer = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        finally:
            hook.remove()
        return {"logits": answer.logits, "sentence_embedding": embed(caught[0], attention_mask)}


def embed(
    hidden: Float[Tensor, "batch seq hidden"], attention_mask: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch hidden"]:
    """Mean of the hidden states that the mask keeps, at unit length, as sentence-transformers pools.

    A text of which nothing is kept gets the zero vector.
    """
    kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
    return nn.functional.normalize(mean, dim=-1)


def input_names(source: Source) -> tuple[str, ...]:
    """Inputs of the graph, in its order; without `token_type_ids` where the model takes none."""
    return tuple(_exporter_config(source.model.config).inputs)


def export_graph(source: Source, path: Path, *, opset: int) -> None:
    """Write the graph of `source` to `path`, batch and length dynamic, through optimum's torchscript exporter.

    Raises `ExportError` when the exporter cannot trace the model.
    """
    try:
        with quiet():
            export(ClassifierWithEmbedding(source.model), _exporter_config(source.model.config), path, opset=opset)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ExportError(f"{source.directory} could not be traced to ONNX opset {opset}: {reason}") from error


def _exporter_config(config: Any) -> Any:
    """The family's own exporter config, with our outputs in place of the task's.

    optimum decides what is exported by the class, one for each family, hence a class made here.
    """
    build = TasksManager.get_exporter_config_constructor(
        "onnx", model_type=config.model_type, task=TASK, library_name="transformers"
    )
    family = type(build(config))
    return type(family.__name__, (family,), {"outputs": property(lambda _self: OUTPUTS)})(config, task=TASK)
