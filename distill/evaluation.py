"""What a run looks at while it learns: the validation split, and whether the student still tells texts apart."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from artifact.errors import TrainingError
from distill.batch import Batch
from distill.capture import Wanted, observe
from distill.config import Phase
from distill.config_objectives import Contrastive, Embedding, Hidden, Labels, Logits, MaskedLanguage, Objective, Ranking
from distill.memory import enough_memory
from distill.objectives import reads_words
from distill.objectives.embedding import pool
from distill.state import Run
from distill.step import losses_of, student_inputs
from distill.text import Texts

EVALUATION_BATCH = 128
"""Texts at a time, and never more than a part of a step of the phase, so that what can be trained can be evaluated."""
LARGEST_LOSS = 700.0
"""Whose exponential is still a number."""
ALARM_TEXTS = 64
COLLAPSED_SHARE = 1e-4
"""Of the embeddings' second moment that differs between texts; below it, all texts look the same."""

CALMER = "lower learning_rate or raise warmup_share; the last good checkpoint is kept"


def learns_classes(objectives: Sequence[Objective]) -> bool:
    """Whether there is an accuracy to watch."""
    return any(isinstance(objective, Logits | Labels) for objective in objectives)


def reads_head(objectives: Sequence[Objective]) -> bool:
    """Whether there is a head above the encoder to learn: of classes, or of the vocabulary."""
    return learns_classes(objectives) or reads_words(objectives)


def evaluate(run: Run, phase: Phase) -> dict[str, float]:
    """Mean loss of the phase on its validation texts and, where classes or words are learnt, how many are found.

    Of tagged words, the share of the words and, where most are part of no name, F1 of those that are: their number with
    the right label, over the mean of how many there are and were said. Of answers, the share of beginnings and ends. A
    quantity has no accuracy, and neither has an utterance that is judged for itself, since most are wrong: there the
    loss says which weights are best. Among its query's candidates, it is the share of those that are put first.

    The words hidden are the same at each evaluation, whatever the seed; `perplexity` is the exponential of their loss.
    """
    run.student.train(False)
    total, correct, count, answered, words = 0.0, 0, 0, 0, reads_words(phase.objectives)
    names = Names(None if words else run.head.outside)
    with torch.inference_mode(), run.accelerator.autocast():
        for batch in validation_batches(run, phase):
            on_device = batch.to(run.accelerator.device)
            with enough_memory(run, phase, batch):
                losses, rows = losses_of(run, phase.objectives, on_device)
            total += sum(float(loss) for loss in losses.values()) * batch.counted
            count += batch.counted
            if rows.student.logits is not None and rows.answers == "rivals":
                said = rows.student.logits.argmax(-1)
                correct += int((said == rows.labels).sum())
                answered += len(rows.labels)
                names.add(said, rows.labels)
    run.student.train()
    loss, found = total / max(count, 1), correct / max(answered, 1)
    if words:
        return {"validation_loss": loss, "masked_accuracy": found, "perplexity": math.exp(min(loss, LARGEST_LOSS))}
    return {"validation_loss": loss} | ({"validation_accuracy": found} if answered else {}) | names.f1()


def score_of(result: Mapping[str, float]) -> float:
    """What says which weights are best: F1 of names, accuracy, or how small the loss is, the first of them there is."""
    known = [result[name] for name in ("validation_f1", "validation_accuracy") if name in result]
    return known[0] if known else -result["validation_loss"]


@dataclass
class Names:
    """Counts of words that are part of a name, or were said to be."""

    outside: int | None
    right: int = 0
    there: int = 0
    said: int = 0

    def add(self, said: Int[Tensor, "rows"], labels: Int[Tensor, "rows"]) -> None:
        """Count the rows that somebody labelled."""
        if self.outside is None:
            return
        inside = (labels >= 0) & (labels != self.outside)
        self.right += int((inside & (said == labels)).sum())
        self.there += int(inside.sum())
        self.said += int(((labels >= 0) & (said != self.outside)).sum())

    def f1(self) -> dict[str, float]:
        """Nothing where nothing is a name."""
        both = self.there + self.said
        return {"validation_f1": 2 * self.right / both} if self.there else {}


def validation_batches(run: Run, phase: Phase) -> Iterator[Batch]:
    """What `phase` is evaluated on, its words hidden if it learns them."""
    texts = run.validation_of(phase)
    for batch in texts.in_order(_texts_at_a_time(run, phase, texts), among_candidates=bool(phase.among_candidates)):
        (hidden,) = run.hide_words(phase, [batch], None)
        yield hidden


def word_floor(run: Run, phase: Phase) -> dict[str, float]:
    """What knowing no context can reach on the words that `phase` is evaluated on, and how many they are.

    The best that one guess for all of them can, and the perplexity of their own frequencies: no unigram model has less.
    """
    found = [batch.targets for batch in validation_batches(run, phase)]
    counts = torch.cat([targets[targets >= 0] for targets in found if targets is not None]).bincount().double()
    shares = counts[counts > 0] / counts.sum().clamp(min=1)
    return {
        "texts": len(run.validation_of(phase)), "masked_tokens": int(counts.sum()),
        "unigram_accuracy": round(float(shares.max()) if len(shares) else 0.0, 5),
        "unigram_perplexity": round(math.exp(-float((shares * shares.log()).sum())), 5),
    }  # fmt: skip


def _texts_at_a_time(run: Run, phase: Phase, texts: Texts) -> int:
    parts: int = (phase.accumulate or 1) * run.accelerator.num_processes
    if phase.batch_tokens is None:
        return min(EVALUATION_BATCH, math.ceil(phase.batch_size / parts))
    return max(1, min(EVALUATION_BATCH, phase.batch_tokens // parts // max(texts.lengths)))


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
    top = Hidden | Logits | Labels | Embedding | Ranking | Contrastive | MaskedLanguage
    reaches_top = any(isinstance(objective, top) for objective in objectives)
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
