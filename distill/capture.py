"""Query, key and value vectors, hidden states and logits of one forward pass, by hooks on the model's own modules.

No `output_attentions`, no second projection: a hook sees the very tensors that the model's own attention uses. Where
nothing above the highest capture is wanted, nothing above it is computed.

What a model adds to its scores after the products is not in its queries and keys: MPNet's position bias and DeBERTa's
terms of content and position. ModernBERT's queries and keys are taken turned by position, as they are multiplied.
"""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, cat, nn, stack
from transformers import PreTrainedModel

from distill.architectures import architecture_of, depth_of, layer_at

TYPES = "token_type_ids"
"""The one input that some models do not take."""


@dataclass(frozen=True)
class Projections:
    """One layer's concatenated query, key and value vectors, before they are split into heads."""

    Q: Float[Tensor, "batch seq hidden"]
    K: Float[Tensor, "batch seq hidden"]
    V: Float[Tensor, "batch seq hidden"]
    heads: int
    """Attention heads of the model they come from."""


@dataclass(frozen=True)
class Wanted:
    """What to take from a forward pass."""

    layers: tuple[int, ...] = ()
    """1-based layers whose projections are taken, as the papers count."""
    hidden: tuple[int, ...] = ()
    """Hidden states taken: 0 is what the first layer reads, n the output of layer n."""
    logits: bool = False


@dataclass
class Seen:
    """What one model showed of one batch."""

    projections: dict[int, Projections] = field(default_factory=dict)
    hidden: dict[int, Float[Tensor, "batch seq hidden"]] = field(default_factory=dict)
    logits: Float[Tensor, "batch labels"] | Float[Tensor, "batch seq labels"] | None = None
    """Of texts; or of each token, where a head says something of tokens: of answers, begins here and ends here."""

    def detached(self) -> "Seen":
        """The same numbers, through which no gradient flows."""
        return Seen(
            {n: Projections(p.Q.detach(), p.K.detach(), p.V.detach(), p.heads) for n, p in self.projections.items()},
            {n: state.detach() for n, state in self.hidden.items()},
            None if self.logits is None else self.logits.detach(),
        )


Slot = tuple[str, int]
"""Q, K, V, QKV or hidden, and the layer."""


class _AllSeen(Exception):  # noqa: N818 - a signal, not an error
    """Leaves the forward pass once everything wanted was seen."""


def observe(model: PreTrainedModel, inputs: Mapping[str, Tensor], wanted: Wanted) -> Seen:
    """One forward pass of `model`, no further than `wanted` needs.

    Raises `ModelError` when a wanted layer does not exist.
    """
    seen = Seen()
    if wanted == Wanted():
        return seen
    with _hooks(model, wanted) as caught, contextlib.suppress(_AllSeen):
        taken = {name: tensor for name, tensor in inputs.items() if name != TYPES or _has_types(model)}
        output = model(**taken)
        seen.logits = _logits_of(output) if wanted.logits else None
    heads = model.config.num_attention_heads
    for layer in wanted.layers:
        query, key, value = (caught[name, layer] for name in "QKV")
        seen.projections[layer] = Projections(query, key, value, heads)
    seen.hidden = {layer: caught["hidden", layer] for layer in wanted.hidden}
    return seen


def _has_types(model: PreTrainedModel) -> bool:
    return TYPES in inspect.signature(model.forward).parameters


def _logits_of(output: Any) -> Tensor:
    if "start_logits" in output:
        return stack((output.start_logits, output.end_logits), dim=-1)
    logits: Tensor = output.logits
    return logits


@contextlib.contextmanager
def _hooks(model: PreTrainedModel, wanted: Wanted) -> Iterator[dict[Slot, Tensor]]:
    slots = {(name, layer) for layer in wanted.layers for name in "QKV"} | {("hidden", n) for n in wanted.hidden}
    caught: dict[Slot, Tensor] = {}

    def keep(slot: Slot, tensor: Tensor) -> None:
        caught[slot] = tensor
        if not wanted.logits and slots <= caught.keys():
            raise _AllSeen

    handles: list[Any] = []
    try:
        for layer in wanted.layers:
            handles += _projection_hooks(model, layer, caught, keep)
        for layer in wanted.hidden:
            handles.append(_hidden_hook(model, layer, keep))
        yield caught
    finally:
        for handle in handles:
            handle.remove()


Keep = Callable[[Slot, Tensor], None]


def _projection_hooks(model: PreTrainedModel, layer: int, caught: dict[Slot, Tensor], keep: Keep) -> list[Any]:
    row, (module, earlier) = architecture_of(model), layer_at(model, layer)
    if not row.fused:
        paths = {"Q": row.query, "K": row.key, "V": row.value}
        return [_after(module.get_submodule(path), earlier, keep, (name, layer)) for name, path in paths.items()]

    def turn(_module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        query, key, value = caught["QKV", layer].chunk(3, dim=-1)
        heads = model.config.num_attention_heads
        keep(("Q", layer), rotate(query, *output, heads))
        keep(("K", layer), rotate(key, *output, heads))
        keep(("V", layer), value)

    rotary = module.get_submodule(row.rotary).register_forward_hook(turn)
    return [_after(module.get_submodule(row.fused), earlier, keep, ("QKV", layer)), rotary]


def rotate(
    vectors: Float[Tensor, "batch seq hidden"],
    cosines: Float[Tensor, "#batch seq size"],
    sines: Float[Tensor, "#batch seq size"],
    heads: int,
) -> Float[Tensor, "batch seq hidden"]:
    """Each head's vector turned by its position, its halves paired (Su et al., arXiv 2104.09864, eq. 34)."""
    batch, seq, hidden = vectors.shape
    split = vectors.view(batch, seq, heads, hidden // heads)
    first, second = split.chunk(2, dim=-1)
    turned = split * cosines.unsqueeze(2) + cat((-second, first), dim=-1) * sines.unsqueeze(2)
    return turned.flatten(2)


def _hidden_hook(model: PreTrainedModel, layer: int, keep: Keep) -> Any:
    """State `layer` is what the next layer reads; the last is what the last layer, or the norm after it, gives."""
    row = architecture_of(model)
    if layer < depth_of(model):
        module, earlier = layer_at(model, layer + 1)
        return _before(module, earlier, keep, ("hidden", layer))
    if row.final_norm and layer == depth_of(model):
        return _after(model.base_model.get_submodule(row.final_norm), 0, keep, ("hidden", layer))
    return _after(*layer_at(model, layer), keep, ("hidden", layer))


def _after(module: nn.Module, earlier: int, keep: Keep, slot: Slot) -> Any:
    """Keep what `module` gives at its call number `earlier` (0-based) of the pass."""
    calls = itertools.count()

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if next(calls) == earlier:
            keep(slot, output[0] if isinstance(output, tuple) else output)

    return module.register_forward_hook(hook)


def _before(module: nn.Module, earlier: int, keep: Keep, slot: Slot) -> Any:
    """Keep what `module` is given at its call number `earlier` (0-based) of the pass."""
    calls = itertools.count()

    def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if next(calls) == earlier:
            keep(slot, inputs[0] if inputs else named["hidden_states"])

    return module.register_forward_pre_hook(hook, with_kwargs=True)
