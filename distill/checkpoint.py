"""A checkpoint is one safetensors file, so that it is there whole or not at all.

It holds all that the next step depends on: weights, optimizer, averages, random states, and, as metadata, the position.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from artifact.config import Config
from artifact.errors import TrainingError
from distill.batching import FeedPosition


class Position(Config):
    """Where a run stands: the next thing it does is step `step` of phase `phase`."""

    phase: int
    step: int
    total_steps: int = 0
    """Optimizer steps of all phases so far."""
    seconds: float
    """Training time so far, of all attempts."""
    feeds: tuple[FeedPosition, ...] = ()
    """Where each process stands in the text of the phase; empty at its beginning."""
    best: float | None = None
    """Best validation score of this phase so far: the accuracy, or minus the loss."""
    best_step: int = 0
    evaluations_since_best: int = 0
    healthy_share: float | None = None
    """Largest variance share seen in this phase of the student's embeddings."""
    processes: int = 1
    """That train together; a run goes on with as many as it began with."""
    logged: int = 0
    """Lines of the log; what stands below them was not checkpointed, and is done again."""
    scaler: dict[str, float] = {}
    """State of the fp16 loss scale."""
    history: tuple[dict[str, Any], ...] = ()
    """Evaluations so far."""

    def next_phase(self) -> "Position":
        """The beginning of the phase after this one."""
        return self.model_copy(update={
            "phase": self.phase + 1, "step": 0, "feeds": (), "best": None, "best_step": 0, "evaluations_since_best": 0,
            "healthy_share": None,
        })  # fmt: skip


@dataclass(frozen=True)
class State:
    """What is put back into a phase under way."""

    optimizer: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """By parameter."""
    average: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    learners: nn.Module,
    position: Position,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    average: Mapping[str, Tensor] | None = None,
    random_states: Mapping[str, Tensor] | None = None,
) -> None:
    """Replace the checkpoint at `path` in one step; a full disk leaves the old one as it was (`TrainingError`).

    `random_states` names the states of every process; left out, that of this one.
    """
    tensors = {f"learners.{k}": v for k, v in learners.state_dict().items()}
    tensors |= {f"random.{k}": v for k, v in (random_states or random_state(0)).items()}
    tensors |= {f"average.{k}": v for k, v in (average or {}).items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    write_tensors(path, tensors, {"position": position.model_dump_json()})


def load_checkpoint(path: Path, learners: nn.Module, process: int = 0) -> tuple[Position, State]:
    """Put weights and the random state of this process back; returns the position, and what its phase goes on with."""
    tensors, metadata = read_tensors(path)
    learners.load_state_dict(_below("learners.", tensors))
    for name, tensor in _below(f"random.{process}.", tensors).items():
        torch.set_rng_state(tensor) if name == "cpu" else torch.cuda.set_rng_state(tensor)
    optimizer: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, key = name.split(".")
        optimizer.setdefault(int(index), {})[key] = tensor
    position = Position.model_validate(json.loads(metadata["position"]))
    return position, State(optimizer, _below("average.", tensors))


def random_state(process: int) -> dict[str, Tensor]:
    """The state of the random generators of this process, by name."""
    states = {f"{process}.cpu": torch.get_rng_state()}
    return states | ({f"{process}.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file through a temporary name, synced before it takes the place of the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file(_apart(tensors), temporary, metadata)
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


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that safetensors accepts: on the CPU, contiguous, and none sharing memory with another (tied weights)."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        apart[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    return apart
