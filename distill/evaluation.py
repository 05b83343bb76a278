"""What a run looks at while it learns: the validation split, and whether the student still tells texts apart."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from artifact.errors import TrainingError
from distill.capture import Wanted, observe
from distill.config_objectives import Embedding, Labels, Logits, Objective, Ranking
from distill.objectives.embedding import pool
from distill.state import Run
from distill.step import losses_of, student_inputs

EVALUATION_BATCH = 128
ALARM_TEXTS = 64
COLLAPSED_SHARE = 1e-4
"""Of the embeddings' second moment that differs between texts; below it, all texts look the same."""


def learns_classes(objectives: Sequence[Objective]) -> bool:
    """Whether there is an accuracy to watch."""
    return any(isinstance(objective, Logits | Labels) for objective in objectives)


def evaluate(run: Run, objectives: Sequence[Objective]) -> dict[str, float]:
    """Mean loss of `objectives` on the validation split and, where classes are learnt, the accuracy."""
    run.student.train(False)
    classes = learns_classes(objectives)
    total, correct = 0.0, 0
    with torch.inference_mode(), run.accelerator.autocast():
        for batch in run.validation.in_order(EVALUATION_BATCH):
            on_device = batch.to(run.accelerator.device)
            losses, seen = losses_of(run, objectives, on_device)
            total += sum(float(loss) for loss in losses.values()) * len(batch.labels)
            if classes and seen.logits is not None:
                correct += int((seen.logits.argmax(-1) == on_device.labels).sum())
    run.student.train()
    result = {"validation_loss": total / len(run.validation)}
    return result | ({"validation_accuracy": correct / len(run.validation)} if classes else {})


def variance_share(embeddings: Float[Tensor, "texts width"]) -> float:
    """Share of the embeddings' second moment that differs between texts: about 1 minus their mean cosine."""
    moment = embeddings.square().sum(1).mean()
    return float((embeddings - embeddings.mean(0)).square().sum(1).mean() / moment.clamp(min=1e-30))


def check_spread(run: Run, objectives: Sequence[Objective], healthy: float | None) -> float | None:
    """The variance share of some validation texts; `TrainingError` when it was healthy once and has collapsed.

    Looked at where the objectives reach: what the last layer reads when only relations learn, since nothing above the
    last layer's queries, keys and values is trained then.
    """
    if len(run.validation) < 2:
        return healthy
    reaches_top = any(isinstance(o, Logits | Labels | Embedding | Ranking) for o in objectives)
    layer = run.models.student_depth - (not reaches_top)
    batch = run.validation.batch(range(min(ALARM_TEXTS, len(run.validation)))).to(run.accelerator.device)
    run.student.train(False)
    with torch.inference_mode():
        states = observe(run.student, student_inputs(run, batch), Wanted(hidden=(layer,))).hidden[layer]
    run.student.train()
    share = variance_share(pool(states, batch.mask, "mean"))
    if not math.isfinite(share) or (healthy is not None and share < COLLAPSED_SHARE < healthy):
        before = "" if healthy is None else f", it was {healthy:.2g}"
        raise TrainingError(
            f"{run.directory.name}: the student's embeddings have collapsed: only {share:.1g} of them differs between "
            f"texts{before}",
            "lower learning_rate or raise warmup_share; the last good checkpoint is kept",
        )
    return share if healthy is None else max(share, healthy)
