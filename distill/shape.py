"""The numbers that make a student's shape, whatever the teacher's architecture calls them."""

import copy
from dataclasses import dataclass

from transformers import PretrainedConfig

_INTERMEDIATE_SIZE = {"distilbert": "hidden_dim"}
"""Field of the feed-forward width, where it is not `intermediate_size` (other names the config itself maps)."""


@dataclass(frozen=True)
class Shape:
    """Layers, widths and heads of an encoder."""

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int

    @property
    def head_size(self) -> int:
        """Units of one head."""
        return self.hidden_size // self.heads


def shape_of(config: PretrainedConfig) -> Shape:
    """The shape that `config` describes."""
    return Shape(
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate_size=getattr(config, _intermediate_size_of(config)),
    )


def with_shape(config: PretrainedConfig, shape: Shape) -> PretrainedConfig:
    """A copy of `config` with another shape.

    Token embeddings that are as wide as the layers stay so; factorised ones (ELECTRA, ALBERT) keep their width.
    """
    fields = {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.heads,
        _intermediate_size_of(config): shape.intermediate_size,
    }
    if hasattr(config, "embedding_size") and not is_factorised(config):
        fields["embedding_size"] = shape.hidden_size
    if hasattr(config, "pooler_hidden_size"):  # DeBERTa's, which does not follow the width by itself
        fields["pooler_hidden_size"] = shape.hidden_size
    if hasattr(config, "attention_head_size"):
        fields["attention_head_size"] = shape.head_size
    changed = copy.deepcopy(config)
    changed.update(fields)
    return changed


def is_factorised(config: PretrainedConfig) -> bool:
    """Whether token embeddings have a width of their own and are projected to that of the layers."""
    return bool(getattr(config, "embedding_size", config.hidden_size) != config.hidden_size)


def _intermediate_size_of(config: PretrainedConfig) -> str:
    return _INTERMEDIATE_SIZE.get(config.model_type, "intermediate_size")
