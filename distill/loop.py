"""One loop for every phase: fine-tuning a teacher, matching its relations, matching its opinions.

Everything the next step depends on is in the checkpoint, so a killed run goes on to the very same weights.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from artifact.errors import TrainingError
from artifact.progress import progress
from distill.capture import Seen, Wanted, observe
from distill.checkpoint import Position, load_checkpoint, read_tensors, save_checkpoint, write_tensors
from distill.config import ModelConfig, Phase
from distill.config_objectives import Labels, Logits, Objective
from distill.journal import Journal
from distill.objectives import Depths, loss_of, wanted_of
from distill.schedule import freeze_all_but, make_optimizer, rate_at, set_dropout
from distill.text import Batch, Texts

STEPS_BETWEEN_LOGS = 20
EVALUATION_BATCH = 128
GRADIENT_NORM = 1.0
EVALUATIONS_PER_PHASE = 4


@dataclass(frozen=True)
class Run:
    """Everything a training run works with; `directory` is the artefact being made."""

    config: ModelConfig
    student: PreTrainedModel
    teacher: PreTrainedModel | None
    train: Texts
    validation: Texts
    depths: Depths
    directory: Path
    accelerator: Accelerator

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint."""
        return self.directory / "checkpoints" / "latest.safetensors"

    @property
    def best(self) -> Path:
        """The weights that were best on validation in the phase under way."""
        return self.directory / "checkpoints" / "best.safetensors"


def train(run: Run) -> dict[str, Any]:
    """All phases, from the last checkpoint on if there is one; returns what was measured.

    Raises `TrainingError` when a loss is not finite, naming phase and step; the last checkpoint is kept.
    """
    position, state = _where_to_begin(run)
    journal = Journal(run.directory / "records" / "log.jsonl", phase=position.phase, step=position.step)
    while position.phase < len(run.config.phases):
        position = _train_phase(run, position, state, journal)
        state = {}
    return {
        "steps": sum(_steps(run, phase) for phase in run.config.phases),
        "training_seconds": round(position.seconds, 1),
        "evaluations": list(position.history),
    }


def evaluate(run: Run, objectives: Sequence[Objective]) -> dict[str, float]:
    """Mean loss of `objectives` on the validation split and, where classes are learnt, the accuracy."""
    run.student.train(False)
    classes = _learns_classes(objectives)
    total, correct = 0.0, 0
    with torch.inference_mode():
        for batch in run.validation.in_order(EVALUATION_BATCH):
            on_device = batch.to(run.accelerator.device)
            losses, seen = _losses(run, objectives, on_device)
            total += sum(float(loss) for loss in losses.values()) * len(batch.labels)
            if classes and seen.logits is not None:
                correct += int((seen.logits.argmax(-1) == on_device.labels).sum())
    run.student.train()
    result = {"validation_loss": total / len(run.validation)}
    return result | ({"validation_accuracy": correct / len(run.validation)} if classes else {})


def _where_to_begin(run: Run) -> tuple[Position, dict[int, dict[str, Tensor]]]:
    if run.checkpoint.exists():
        return load_checkpoint(run.checkpoint, run.student)
    torch.manual_seed(run.config.seed)
    return Position(phase=0, step=0, seconds=0.0), {}


def _train_phase(run: Run, position: Position, state: dict[int, dict[str, Tensor]], journal: Journal) -> Position:
    phase, steps = run.config.phases[position.phase], _steps(run, run.config.phases[position.phase])
    optimizer = _prepare(run, phase, state)
    every = run.config.evaluate_every_steps or max(1, math.ceil(steps / EVALUATIONS_PER_PHASE))
    begun = time.monotonic() - position.seconds
    with progress(f"{run.directory.name}: {phase.name}", steps, done=position.step) as advance:
        for step in range(position.step, steps):
            if step == 0 and not position.history_of(phase.name):
                position = _evaluated(run, phase, position, journal)
            losses, tokens = _step(run, phase, optimizer, step, rate_at(step, steps, phase))
            position = position.model_copy(update={"step": step + 1, "seconds": time.monotonic() - begun})
            if (step + 1) % STEPS_BETWEEN_LOGS == 0 or step + 1 == steps:
                values = _checked(run, phase, step, losses)
                rate = rate_at(step, steps, phase)
                journal.write(position.phase, step, phase=phase.name, losses=values, learning_rate=rate, tokens=tokens)
                advance(0, ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
            if (step + 1) % every == 0 or step + 1 == steps:
                position = _evaluated(run, phase, position, journal)
            if (step + 1) % run.config.checkpoint_every_steps == 0 and step + 1 < steps:
                _save(run, optimizer, position)
            advance(1, "")
    return _finish(run, position, journal)


def _prepare(run: Run, phase: Phase, state: dict[int, dict[str, Tensor]]) -> torch.optim.Optimizer:
    freeze_all_but(run.student, phase.unfreeze)
    if phase.dropout is not None:
        set_dropout(run.student, phase.dropout)
    optimizer = make_optimizer(run.student, phase)
    if state:
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    run.student.train()
    return optimizer


def _step(
    run: Run, phase: Phase, optimizer: torch.optim.Optimizer, step: int, rate: float
) -> tuple[dict[str, Tensor], int]:
    batch = _batch_at(run, phase, step)
    with run.accelerator.autocast():
        losses, _ = _losses(run, phase.objectives, batch)
    run.accelerator.backward(torch.stack(list(losses.values())).sum())
    learning = [p for p in run.student.parameters() if p.grad is not None]
    if run.accelerator.num_processes > 1:
        for parameter in learning:
            parameter.grad = run.accelerator.reduce(parameter.grad, "mean")
    torch.nn.utils.clip_grad_norm_(learning, GRADIENT_NORM)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {name: loss.detach() for name, loss in losses.items()}, int(batch.mask.sum())


def _losses(run: Run, objectives: Sequence[Objective], batch: Batch) -> tuple[dict[str, Tensor], Seen]:
    """Weighted loss of each objective on one batch, and what the student showed."""
    teacher_wanted, student_wanted = wanted_of(objectives, run.depths)
    taught = Seen()
    if run.teacher is not None and teacher_wanted != Wanted():
        with torch.no_grad():
            taught = observe(run.teacher, batch.inputs, teacher_wanted)
    seen = observe(run.student, batch.inputs, student_wanted)
    losses: dict[str, Tensor] = {
        o.kind: o.weight * loss_of(o, taught, seen, mask=batch.mask, labels=batch.labels, depths=run.depths)
        for o in objectives
    }
    return losses, seen


def _batch_at(run: Run, phase: Phase, step: int) -> Batch:
    """The share of this process in the batch of `step`: every n-th text, so that lengths are spread evenly."""
    epoch, index = divmod(step, math.ceil(len(run.train) / phase.batch_size))
    indices = run.train.epoch(phase.batch_size, run.config.seed, epoch)[index]
    mine = indices[run.accelerator.process_index :: run.accelerator.num_processes] or indices[:1]
    batch = run.train.batch(mine)
    if phase.noise is not None:
        batch = run.train.noisy(batch, phase.noise.mask_share, phase.noise.exchange_share)
    return batch.to(run.accelerator.device)


def _evaluated(run: Run, phase: Phase, position: Position, journal: Journal) -> Position:
    """`position` after an evaluation; keeps the weights when they are the best so far."""
    result = evaluate(run, phase.objectives)
    journal.write(position.phase, position.step, phase=phase.name, **result)
    entry = {"phase": phase.name, "step": position.step, **{k: round(v, 5) for k, v in result.items()}}
    update: dict[str, Any] = {"history": (*position.history, entry)}
    accuracy = result.get("validation_accuracy")
    if accuracy is not None and run.config.keep_best and (position.best is None or accuracy > position.best):
        update |= {"best": accuracy, "best_step": position.step}
        if run.accelerator.is_main_process:
            write_tensors(run.best, dict(run.student.state_dict()), {"step": str(position.step)})
    return position.model_copy(update=update)


def _finish(run: Run, position: Position, journal: Journal) -> Position:
    """End a phase: its best weights, and a checkpoint that begins the next."""
    if position.best is not None:
        run.accelerator.wait_for_everyone()
        run.student.load_state_dict(read_tensors(run.best)[0])
        journal.write(position.phase, position.step, kept_step=position.best_step, validation_accuracy=position.best)
    after = position.model_copy(update={"phase": position.phase + 1, "step": 0, "best": None, "best_step": 0})
    _save(run, None, after)
    return after


def _save(run: Run, optimizer: torch.optim.Optimizer | None, position: Position) -> None:
    if run.accelerator.is_main_process:
        save_checkpoint(run.checkpoint, run.student, optimizer, position)
    run.accelerator.wait_for_everyone()


def _checked(run: Run, phase: Phase, step: int, losses: dict[str, Tensor]) -> dict[str, float]:
    values = {name: float(loss) for name, loss in losses.items()}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise TrainingError(
            f"{run.directory.name}: the {', '.join(wrong)} loss is not finite in phase {phase.name!r} at step {step}",
            "lower learning_rate; the last checkpoint before it is kept",
        )
    return values


def _learns_classes(objectives: Sequence[Objective]) -> bool:
    return any(isinstance(objective, Logits | Labels) for objective in objectives)


def _steps(run: Run, phase: Phase) -> int:
    return phase.steps or max(1, math.ceil((phase.epochs or 1) * math.ceil(len(run.train) / phase.batch_size)))
