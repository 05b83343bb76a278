"""Where each architecture keeps its layers and its query, key and value projections: a table, by `model_type`."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from artifact.errors import ModelError


@dataclass(frozen=True)
class Architecture:
    """Module paths, relative to the base model (`layers`, `final_norm`) and to one layer (the projections)."""

    layers: str
    query: str = ""
    key: str = ""
    value: str = ""
    fused: str = ""
    """One projection for all three, in this order, instead of the three above."""
    rotary: str = ""
    """Module whose cosines and sines turn queries and keys by their position; what is captured is turned."""
    final_norm: str = ""
    """Applied to the last layer's output before anything else sees it."""
    shared: bool = False
    """Several layers in a row are one module, called again (ALBERT)."""
    layer_count: str = "num_hidden_layers"
    """Name of the config field that holds the number of layers."""
    first_position: Callable[[PretrainedConfig], int] | None = None
    """Position of a text's first token, where the model takes positions and a mask of token pairs; else none."""


def _from_zero(_config: PretrainedConfig) -> int:
    return 0


def _after_padding(config: PretrainedConfig) -> int:
    return int(config.pad_token_id or 0) + 1


_BERT = Architecture(
    layers="encoder.layer", query="attention.self.query", key="attention.self.key", value="attention.self.value",
    first_position=_from_zero,
)  # fmt: skip
_ROBERTA = Architecture(
    layers="encoder.layer", query="attention.self.query", key="attention.self.key", value="attention.self.value",
    first_position=_after_padding,
)  # fmt: skip

ARCHITECTURES = {
    "bert": _BERT,
    "electra": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Architecture(
        layers="transformer.layer", query="attention.q_lin", key="attention.k_lin", value="attention.v_lin",
        layer_count="n_layers",
    ),
    "mpnet": Architecture(
        layers="encoder.layer", query="attention.attn.q", key="attention.attn.k", value="attention.attn.v",
        first_position=_after_padding,
    ),
    "deberta-v2": Architecture(
        layers="encoder.layer", query="attention.self.query_proj", key="attention.self.key_proj",
        value="attention.self.value_proj",
    ),
    "albert": Architecture(
        layers="encoder.albert_layer_groups", query="albert_layers.0.attention.query",
        key="albert_layers.0.attention.key", value="albert_layers.0.attention.value", shared=True,
    ),
    "modernbert": Architecture(
        layers="layers", fused="attn.Wqkv", rotary="attn.rotary_emb", final_norm="final_norm",
    ),
}  # fmt: skip


def architecture_of(model: PreTrainedModel) -> Architecture:
    """The table's row for `model`; for an unknown one a `ModelError` that lists the modules of a layer found."""
    row = ARCHITECTURES.get(model.config.model_type)
    if row is None:
        found = sorted({name for name, module in model.base_model.named_modules() if _in_first_layer(name, module)})
        raise ModelError(
            f"unknown architecture {model.config.model_type!r}, expected one of {', '.join(sorted(ARCHITECTURES))}",
            f"to add it, say in distill/architectures.py which of these are Q, K and V: {', '.join(found) or 'none'}",
        )
    if row.shared and model.config.inner_group_num != 1:
        count = model.config.inner_group_num
        raise ModelError(f"each layer of this {model.config.model_type} is {count} layers in one, expected 1")
    return row


def depth_of(model: PreTrainedModel) -> int:
    """Number of layers a text goes through."""
    return int(getattr(model.config, architecture_of(model).layer_count))


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The Transformer layers of `model`, first to last; shared ones once."""
    layers = model.base_model.get_submodule(architecture_of(model).layers)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(f"{type(model).__name__} keeps its layers in a {type(layers).__name__}, expected a ModuleList")
    return layers


def layer_at(model: PreTrainedModel, layer: int) -> tuple[nn.Module, int]:
    """Module of the 1-based `layer`, and how many layers before it are the same module.

    Raises `ModelError` when there is no such layer.
    """
    depth, modules = depth_of(model), layers_of(model)
    if not 1 <= layer <= depth:
        raise ModelError(f"layer {layer} was asked of a model with layers 1 to {depth}")
    if not architecture_of(model).shared:
        return modules[layer - 1], 0
    which = [int(index / (depth / len(modules))) for index in range(depth)]
    return modules[which[layer - 1]], which[: layer - 1].count(which[layer - 1])


def embeddings_of(model: PreTrainedModel) -> nn.Module:
    """The embedding module of `model`: tokens, positions, types and their normalisation."""
    return model.base_model.get_submodule("embeddings")


def _in_first_layer(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and ".0." in name
