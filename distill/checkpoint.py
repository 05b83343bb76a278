"""A checkpoint is one safetensors file, so that it is there whole or not at all.

It holds all that the next step depends on: weights, optimizer, random state, and, as metadata, the position.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from artifact.config import Config
from artifact.errors import TrainingError


class Position(Config):
    """Where a run stands: the next thing it does is step `step` of phase `phase`."""

    phase: int
    step: int
    seconds: float
    """Training time so far, of all attempts."""
    best: float | None = None
    """Best validation accuracy of this phase so far."""
    best_step: int = 0
    history: tuple[dict[str, Any], ...] = ()
    """Evaluations so far."""

    def history_of(self, phase: str) -> tuple[dict[str, Any], ...]:
        """The evaluations made in `phase`."""
        return tuple(entry for entry in self.history if entry["phase"] == phase)


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, position: Position) -> None:
    """Replace the checkpoint at `path` in one step; a full disk leaves the old one as it was (`TrainingError`)."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()} | {"random": torch.get_rng_state()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    write_tensors(path, tensors, {"position": position.model_dump_json()})


def load_checkpoint(path: Path, model: nn.Module) -> tuple[Position, dict[int, dict[str, Tensor]]]:
    """Put the weights and the random state back; returns the position and the optimizer's state by parameter."""
    tensors, metadata = read_tensors(path)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    torch.set_rng_state(tensors["random"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    return Position.model_validate(json.loads(metadata["position"])), state


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file through a temporary name, synced before it takes the place of the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file({k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        hint = "the last checkpoint is intact: make room and run the same command again"
        raise TrainingError(f"cannot write the checkpoint {path}: {error}", hint) from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file and its metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"cannot read the checkpoint {path}: {error}", f"remove {path.parent} to start over"
        ) from None
