"""A narrower model cut from a wider one: the same hidden units in every layer, and in each layer the heads and
feed-forward units with the largest weights.

One table says what each dimension of each parameter counts. Choosing what to keep, and cutting, follow from it.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from artifact.errors import ModelError
from distill.architectures import architecture_of
from distill.shape import Shape, is_factorised, shape_of

AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(word|tok|position|token_type)_embeddings", ("all", "embedding")),
    (r"deberta\.embeddings\.LayerNorm", ("hidden",)),
    (r"embeddings\.(LayerNorm|norm)", ("embedding",)),
    (r"embeddings_project|embed_proj", ("hidden", "embedding")),
    (r"attention\.self\.query(_proj)?|attention\.self\.pos_query_proj|q_lin|attn\.q", ("query", "hidden")),
    (r"attention\.self\.key(_proj)?|attention\.self\.pos_key_proj|k_lin|attn\.k", ("key", "hidden")),
    (r"attention\.self\.value(_proj)?|v_lin|attn\.v", ("value", "hidden")),
    (r"attn\.Wqkv", ("query+key+value", "hidden")),
    (r"attention\.output\.dense|out_lin|attn\.o|attn\.Wo", ("hidden", "value")),
    (r"intermediate\.dense|ffn\.lin1", ("intermediate", "hidden")),
    (r"mlp\.Wi", ("intermediate+intermediate", "hidden")),
    (r"output\.dense|ffn\.lin2|mlp\.Wo", ("hidden", "intermediate")),
    (r"relative_attention_bias", ("all", "heads")),
    (r"rel_embeddings", ("all", "hidden")),
    (r"conv\.conv", ("hidden", "hidden", "all")),
    (r"pooler\.dense|classifier\.dense|pre_classifier|head\.dense", ("pooled", "hidden")),
    (r"head\.norm", ("pooled",)),
    (r"classifier(\.out_proj)?", ("all", "pooled")),
    (r"LayerNorm|sa_layer_norm|output_layer_norm|attn_norm|mlp_norm|final_norm", ("hidden",)),
)
"""What the dimensions of a weight count, by the end of its module's name; the first row that fits. A bias has the first
dimension only. `a+b` is two blocks, one below the other; `all` is kept whole."""

_PATTERNS = tuple((re.compile(rf"(?:^|\.)(?:{pattern})$"), axes) for pattern, axes in AXES)


@dataclass(frozen=True)
class _Block:
    """A weight matrix, or one of those that a fused matrix is made of; `layer` is None outside the layers."""

    layer: int | None
    axes: tuple[str, ...]
    weight: Tensor
    carried: Float[Tensor, "hidden"] | None
    """Mean square of each hidden unit after the normalisation before this matrix: its gain² + bias²."""

    def squares(self, axis: str) -> Float[Tensor, "units"]:
        """Summed squared weight of each unit along `axis`."""
        sums = [
            self.weight.double().square().transpose(0, place).flatten(1).sum(1)
            for place, name in enumerate(self.axes)
            if name == axis
        ]
        return torch.stack(sums).sum(0)


_Kept: TypeAlias = dict[tuple[int | None, str], Int[Tensor, "kept"]]
"""Indices kept, by layer and axis, in the teacher's order."""


@torch.no_grad()
def narrow(teacher: PreTrainedModel, config: PretrainedConfig) -> PreTrainedModel:
    """A model of `config`'s shape with the teacher's layers, cut to fewer hidden units, heads and feed-forward units.

    Of hidden units those are kept, in all layers alike, that give most to the matrices which read them: their mean
    square after normalisation, times the squared weights that read them, as a share of each matrix. (Ranked by weights
    alone, read and written, half of all-MiniLM follows it worse than a random half: see docs/students.md.)
    Feed-forward units, pooled units and heads are ranked by the product of what they read and what they write, as a
    unit without either does nothing. When heads shrink too, each keeps the units with the largest products: queries
    with keys, values with outputs. Queries are scaled then, so that scores keep their size.

    Normalisations are cut, not refitted: they see other statistics, and a start is all that this is. Cut to its own
    shape the model is the teacher, bit for bit. Raises `ModelError` when the teacher has not enough of anything.
    """
    wide, slim = shape_of(teacher.config), shape_of(config)
    _check(teacher, wide, slim)
    kept = _choose(list(_blocks_of(teacher)), wide, slim, factorised=is_factorised(teacher.config))
    student: PreTrainedModel = type(teacher)(config)
    scale = math.sqrt(slim.head_size / wide.head_size)
    student.load_state_dict({
        name: _cut(values, _axes_of(teacher, name), _in_layer(kept, _layer_of(teacher, name)), scale)
        for name, values in teacher.state_dict().items()
    })  # fmt: skip
    return student


def _check(teacher: PreTrainedModel, wide: Shape, slim: Shape) -> None:
    config = teacher.config
    pairs = {
        name: (getattr(slim, name), getattr(wide, name))
        for name in ("hidden_size", "heads", "intermediate_size", "head_size")
    }
    faults = [f"{name} {ours}, the teacher has {theirs}" for name, (ours, theirs) in pairs.items() if ours > theirs]
    if architecture_of(teacher).rotary and slim.head_size != wide.head_size:
        faults.append(f"head_size {slim.head_size}: rotary positions tie the teacher's {wide.head_size} together")
    if is_factorised(config) and slim.hidden_size == config.embedding_size:
        faults.append(
            f"hidden_size {slim.hidden_size}, the width of the token embeddings: no place for projecting them"
        )
    if faults:
        hint = "head_size is hidden_size / heads, and intermediate_size is 4 x hidden_size when it is left out"
        raise ModelError(f"start 'slice' cannot cut from this teacher: {'; '.join(faults)}", hint)


def _blocks_of(teacher: PreTrainedModel) -> Iterator[_Block]:
    carried = None
    for name, weight in teacher.named_parameters():  # in the order of use, but for what DeBERTa adds to its layers
        axes = _axes_of(teacher, name)
        if weight.ndim > 1:
            parts = axes[0].split("+")
            for part, block in zip(parts, weight.chunk(len(parts)), strict=True):
                yield _Block(_layer_of(teacher, name), (part, *axes[1:]), block, carried)
        elif "norm" in name.lower() and len(weight) == teacher.config.hidden_size:
            square = weight.double().square()
            carried = carried + square if name.endswith("bias") and carried is not None else square


def _axes_of(teacher: PreTrainedModel, name: str) -> tuple[str, ...]:
    module, _, kind = name.rpartition(".")
    for pattern, axes in _PATTERNS:
        if pattern.search(module):
            return axes[:1] if kind == "bias" else axes
    raise ModelError(
        f"start 'slice' does not know what {name} of a {teacher.config.model_type} counts",
        "say so in the table of distill/slicing.py, or start from `layers` or `random`",
    )


def _layer_of(teacher: PreTrainedModel, name: str) -> int | None:
    prefix = f"{teacher.base_model_prefix}.{architecture_of(teacher).layers}."
    return int(name.removeprefix(prefix).split(".")[0]) if name.startswith(prefix) else None


def _choose(blocks: list[_Block], wide: Shape, slim: Shape, *, factorised: bool) -> _Kept:
    read = torch.stack([share for block in blocks for share in _shares_read(block)]).sum(0)
    kept: _Kept = {(None, "hidden"): _largest(read, slim.hidden_size)}
    if not factorised:
        kept[None, "embedding"] = kept[None, "hidden"]
    kept[None, "pooled"] = _largest(_product(blocks, None, ("pooled", "pooled")), slim.hidden_size)
    outputs = [_product(blocks, layer, ("value",)).view(wide.heads, -1) for layer in range(wide.layers)]
    strengths = torch.stack(outputs).sum(2)
    if any("heads" in block.axes for block in blocks):  # MPNet's layers share one bias for each head
        strengths = strengths.sum(0, keepdim=True).expand_as(strengths)
        kept[None, "heads"] = _largest(strengths[0], slim.heads)
    for layer in range(wide.layers):
        heads = _largest(strengths[layer], slim.heads)
        matches = _product(blocks, layer, ("query", "key")).view(wide.heads, -1)
        kept[layer, "query"] = kept[layer, "key"] = _inside(heads, matches, slim.head_size)
        kept[layer, "value"] = _inside(heads, outputs[layer], slim.head_size)
        products = _product(blocks, layer, ("intermediate",))
        kept[layer, "intermediate"] = _largest(products, slim.intermediate_size)
    return kept


def _shares_read(block: _Block) -> Iterator[Float[Tensor, "hidden"]]:
    """How much of what `block` reads comes from each hidden unit; nothing for what only writes them."""
    if block.axes[1] == "hidden" and block.axes[0] != "all":
        energy = block.squares("hidden") * (1 if block.carried is None else block.carried)
        yield energy / energy.sum().clamp(min=torch.finfo(energy.dtype).tiny)  # a matrix of zeros reads nothing


def _product(blocks: list[_Block], layer: int | None, axes: tuple[str, ...]) -> Float[Tensor, "units"]:
    """Product, over the matrices of `layer` that have any of `axes`, of each unit's squared weight."""
    return torch.stack([
        block.squares(axis) for block in blocks if block.layer == layer for axis in set(axes) if axis in block.axes
    ]).prod(0)  # fmt: skip


def _largest(values: Float[Tensor, "units"], count: int) -> Int[Tensor, "kept"]:
    """Where the `count` largest stand, in order; of equals the first."""
    return torch.argsort(values, descending=True, stable=True)[:count].sort().values


def _inside(
    heads: Int[Tensor, "heads"], values: Float[Tensor, "all_heads units"], size: int
) -> Int[Tensor, "heads_times_size"]:
    """Flat places of the `size` units with the largest values inside each of `heads`."""
    units = torch.stack([_largest(values[head], size) for head in heads])
    return (heads[:, None] * values.shape[1] + units).flatten()


def _in_layer(kept: _Kept, layer: int | None) -> dict[str, Tensor]:
    return {axis: indices for (where, axis), indices in kept.items() if where in (None, layer)}


def _cut(values: Tensor, axes: tuple[str, ...], kept: dict[str, Tensor], scale: float) -> Tensor:
    for place, axis in enumerate(axes):
        parts = axis.split("+")
        blocks = zip(parts, values.chunk(len(parts), dim=place), strict=True)
        values = torch.cat([_select(block, place, kept.get(part)) * (scale if part == "query" else 1)
                            for part, block in blocks], dim=place)  # fmt: skip
    return values


def _select(block: Tensor, place: int, indices: Tensor | None) -> Tensor:
    return block if indices is None else block.index_select(place, indices.to(block.device))
