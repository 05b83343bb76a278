"""Query, key and value vectors and logits of one forward pass, by hooks on the projection modules.

No `output_attentions`, no second projection: the hook sees the very tensors that the model's own attention uses.
Where nothing above the highest captured layer is wanted, nothing above it is computed.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from artifact.errors import ModelError
from distill.architectures import architecture_of, layers_of


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
    logits: bool = False


@dataclass
class Seen:
    """What one model showed of one batch."""

    projections: dict[int, Projections] = field(default_factory=dict)
    logits: Float[Tensor, "batch labels"] | None = None


class _AllSeen(Exception):  # noqa: N818 - a signal, not an error
    """Leaves the forward pass once everything wanted was seen."""


def observe(model: PreTrainedModel, inputs: Mapping[str, Tensor], wanted: Wanted) -> Seen:
    """One forward pass of `model`, no further than `wanted` needs.

    Raises `ModelError` when a wanted layer does not exist.
    """
    seen = Seen()
    with _hooks(model, wanted) as caught:
        try:
            output = model(**inputs)
            seen.logits = output.logits if wanted.logits else None
        except _AllSeen:
            pass
    heads = model.config.num_attention_heads
    seen.projections = {layer: Projections(**caught[layer], heads=heads) for layer in wanted.layers}
    return seen


@contextlib.contextmanager
def _hooks(model: PreTrainedModel, wanted: Wanted) -> Iterator[dict[int, dict[str, Tensor]]]:
    architecture, layers = architecture_of(model), layers_of(model)
    caught: dict[int, dict[str, Tensor]] = {layer: {} for layer in wanted.layers}
    handles = []
    for layer in wanted.layers:
        if not 1 <= layer <= len(layers):
            raise ModelError(f"layer {layer} was asked of a model with layers 1 to {len(layers)}")
        for name in ("Q", "K", "V"):
            path = {"Q": architecture.query, "K": architecture.key, "V": architecture.value}[name]
            hook = _Catch(caught, layer, name, stop=not wanted.logits)
            handles.append(layers[layer - 1].get_submodule(path).register_forward_hook(hook))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Catch:
    """Keeps one projection's output, and ends the pass when it is the last one wanted."""

    caught: dict[int, dict[str, Tensor]]
    layer: int
    name: str
    stop: bool

    def __call__(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.caught[self.layer][self.name] = output
        if self.stop and all(len(found) == 3 for found in self.caught.values()):
            raise _AllSeen
