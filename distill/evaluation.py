"""What a run looks at while it learns: the validation split, and whether the student still tells texts apart."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from artifact.errors import TrainingError
from distill.capture import Wanted, observe
from distill.config import Phase
from distill.config_objectives import Embedding, Hidden, Labels, Logits, Objective, Ranking
from distill.memory import enough_memory
from distill.objectives.embedding import pool
from distill.state import Run
from distill.step import losses_of, student_inputs

EVALUATION_BATCH = 128
"""Texts at a time, and never more than a part of a step of the phase, so that what can be trained can be evaluated."""
ALARM_TEXTS = 64
COLLAPSED_SHARE = 1e-4
"""Of the embeddings' second moment that differs between texts; below it, all texts look the same."""

CALMER = "lower learning_rate or raise warmup_share; the last good checkpoint is kept"


def learns_classes(objectives: Sequence[Objective]) -> bool:
    """Whether there is an accuracy to watch."""
    return any(isinstance(objective, Logits | Labels) for objective in objectives)


def evaluate(run: Run, phase: Phase) -> dict[str, float]:
    """Mean loss of the phase on the validation split and, where classes are learnt, the accuracy."""
    run.student.train(False)
    classes = learns_classes(phase.objectives)
    total, correct = 0.0, 0
    with torch.inference_mode(), run.accelerator.autocast():
        for batch in run.validation.in_order(_texts_at_a_time(run, phase)):
            on_device = batch.to(run.accelerator.device)
            with enough_memory(run, phase, batch):
                losses, seen = losses_of(run, phase.objectives, on_device)
            total += sum(float(loss) for loss in losses.values()) * len(batch.labels)
            if classes and seen.logits is not None:
                correct += int((seen.logits.argmax(-1) == on_device.labels).sum())
    run.student.train()
    result = {"validation_loss": total / len(run.validation)}
    return result | ({"validation_accuracy": correct / len(run.validation)} if classes else {})


def _texts_at_a_time(run: Run, phase: Phase) -> int:
    parts: int = (phase.accumulate or 1) * run.accelerator.num_processes
    if phase.batch_tokens is None:
        return min(EVALUATION_BATCH, math.ceil(phase.batch_size / parts))
    return max(1, min(EVALUATION_BATCH, phase.batch_tokens // parts // max(run.validation.lengths)))


def variance_share(embeddings: Float[Tensor, "texts width"]) -> float:
    """Share of the embeddings' second moment that differs between texts: about 1 minus their mean cosine."""
    moment = embeddings.square().sum(1).mean()
    return float((embeddings - embeddings.mean(0)).square().sum(1).mean() / moment.clamp(min=1e-30))


def check_spread(run: Run, objectives: Sequence[Objective], healthy: float | None) -> float | None:
    """The variance share of some validation texts; `TrainingError` when it was healthy once and has collapsed.

    Looked at where the objectives reach: what the last layer reads when only relations learn, since nothing above the
    last layer's queries, keys and values is trained then. Of a single text there is nothing to see but whether its
    embedding is finite.
    """
    reaches_top = any(isinstance(o, Hidden | Logits | Labels | Embedding | Ranking) for o in objectives)
    layer = run.models.student_depth - (not reaches_top)
    batch = run.validation.batch(range(min(ALARM_TEXTS, len(run.validation)))).to(run.accelerator.device)
    run.student.train(False)
    with torch.inference_mode():
        states = observe(run.student, student_inputs(run, batch), Wanted(hidden=(layer,))).hidden[layer]
    run.student.train()
    share = variance_share(pool(states, batch.mask, "mean"))
    if not math.isfinite(share):
        raise TrainingError(f"{run.directory.name}: the student's embeddings are not finite", CALMER)
    if healthy is not None and share < COLLAPSED_SHARE < healthy:
        raise TrainingError(
            f"{run.directory.name}: the student's embeddings have collapsed: only {share:.1g} of them differs between "
            f"texts, it was {healthy:.2g}",
            CALMER,
        )
    return share if healthy is None else max(share, healthy)
