"""Where each architecture keeps its layers and its query, key and value projections: a table, by `model_type`."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from artifact.errors import ModelError


@dataclass(frozen=True)
class Architecture:
    """Module paths, relative to the base model (`layers`) and to one layer (the projections)."""

    layers: str
    query: str
    key: str
    value: str
    layer_count: str = "num_hidden_layers"
    """Name of the config field that holds the number of layers."""


_BERT = Architecture(
    layers="encoder.layer", query="attention.self.query", key="attention.self.key", value="attention.self.value"
)
_DISTILBERT = Architecture(
    layers="transformer.layer", query="attention.q_lin", key="attention.k_lin", value="attention.v_lin",
    layer_count="n_layers",
)  # fmt: skip
_MPNET = Architecture(
    layers="encoder.layer", query="attention.attn.q", key="attention.attn.k", value="attention.attn.v"
)

ARCHITECTURES = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": _DISTILBERT,
    "mpnet": _MPNET,
}


def architecture_of(model: PreTrainedModel) -> Architecture:
    """The table's row for `model`; for an unknown one a `ModelError` that lists the modules of a layer found."""
    row = ARCHITECTURES.get(model.config.model_type)
    if row is not None:
        return row
    projections = sorted({name for name, module in model.base_model.named_modules() if _in_first_layer(name, module)})
    raise ModelError(
        f"unknown architecture {model.config.model_type!r}, expected one of {', '.join(sorted(ARCHITECTURES))}",
        f"to add it, say in distill/architectures.py which of these are Q, K and V: {', '.join(projections) or 'none'}",
    )


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The Transformer layers of `model`, first to last."""
    layers = model.base_model.get_submodule(architecture_of(model).layers)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(f"{type(model).__name__} keeps its layers in a {type(layers).__name__}, expected a ModuleList")
    return layers


def embeddings_of(model: PreTrainedModel) -> nn.Module:
    """The embedding module of `model`: tokens, positions, types and their normalisation."""
    return model.base_model.get_submodule("embeddings")


def _in_first_layer(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and ".0." in name
