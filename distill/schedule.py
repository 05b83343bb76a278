"""What a phase does to a model before its first step, and to the learning rate at every step."""

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from artifact.errors import ModelError
from distill.architectures import embeddings_of, layers_of
from distill.config import Phase


def rate_at(step: int, steps: int, phase: Phase) -> float:
    """Learning rate of the 0-based `step`: a linear rise over the warm-up share, then as the phase's schedule falls."""
    warmup = int(steps * phase.warmup_share)
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    left = (steps - step) / max(steps - warmup, 1)
    match phase.schedule:
        case "constant":
            return phase.learning_rate
        case "cosine":
            return phase.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
        case _:
            return phase.learning_rate * left


def freeze_all_but(model: PreTrainedModel, parts: Iterable[str]) -> None:
    """Let only the named parts learn: `all`, `embeddings`, `layer.N` (0-based), `pooler`, `head`."""
    parameters = parts_of(model)
    chosen: set[nn.Parameter] = set()
    for part in parts:
        if part != "all" and part not in parameters:
            raise ModelError(f"there is no part {part!r} to unfreeze, expected all, {', '.join(parameters)}")
        chosen |= set(model.parameters()) if part == "all" else set(parameters[part])
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in chosen)


def parts_of(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """The model's parameters by named part, bottom to top; every parameter is in exactly one."""
    base = model.base_model
    parts = {"embeddings": list(embeddings_of(model).parameters())}
    parts |= {f"layer.{index}": list(layer.parameters()) for index, layer in enumerate(layers_of(model))}
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Module):
        parts["pooler"] = list(pooler.parameters())
    taken = {id(parameter) for group in parts.values() for parameter in group}
    parts["head"] = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    return parts


Dropouts: TypeAlias = Mapping[tuple[str, str], float]
"""Probabilities of a model, by the name of a module and of the number that it keeps there."""


def dropouts_of(model: nn.Module) -> Dropouts:
    """Every dropout of `model`, also the one that fused attention keeps as a number."""
    return {
        (name, number): getattr(module, number)
        for name, module in model.named_modules()
        for number, keeps in (("p", isinstance(module, nn.Dropout)), ("dropout_prob", hasattr(module, "dropout_prob")))
        if keeps
    }


def set_dropout(model: nn.Module, probability: float | Dropouts) -> None:
    """Set every dropout of `model`: all to one probability, or each to what `dropouts_of` said of it."""
    modules = dict(model.named_modules())
    for name, number in dropouts_of(model):
        setattr(modules[name], number, probability[name, number] if isinstance(probability, Mapping) else probability)


def make_optimizer(model: nn.Module, phase: Phase) -> torch.optim.AdamW:
    """AdamW over what learns of `model`; biases and normalisation weights do not decay."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": phase.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=phase.learning_rate, betas=phase.betas or (0.9, 0.999), eps=1e-6, fused=True)
