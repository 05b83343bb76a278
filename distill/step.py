"""One optimizer step: teacher and student read the same texts, losses are summed, gradients too.

Every objective is a mean over texts, or over hidden words. A part of a step counts by its share of the step's,
whichever process computes it, so that neither `accumulate` nor the number of processes changes the result.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from distill.batch import Batch
from distill.capture import TYPES, Projections, Seen, Wanted, observe
from distill.config import Phase
from distill.config_objectives import Objective
from distill.judging import Judged, judged
from distill.memory import enough_memory
from distill.objectives import loss_of, read_whole, reads_words, wanted_of
from distill.state import Run
from distill.word_head import score_pieces

GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a step showed, over all processes; tensors, so that nothing waits for them."""

    losses: dict[str, Tensor]
    """Weighted loss of each objective."""
    gradient_norm: Tensor
    """Before clipping."""
    tokens: int
    """Real tokens that this process read."""


@dataclass
class Average:
    """An exponential moving average of the weights that learn (Polyak and Juditsky), with `decay` a step."""

    decay: float
    values: dict[str, Tensor] = field(default_factory=dict)

    def update(self, model: nn.Module) -> None:
        """Move towards the present weights."""
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                mean = self.values.setdefault(name, parameter.detach().clone())
                mean.lerp_(parameter.detach(), 1 - self.decay)

    @contextlib.contextmanager
    def in_place(self, model: nn.Module):  # type: ignore[no-untyped-def]  # noqa: ANN201 - a context
        """`model` with the averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if name in self.values}
        self._write(model, self.values)
        try:
            yield
        finally:
            self._write(model, own)

    def _write(self, model: nn.Module, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in values:
                    parameter.copy_(values[name])


def take_step(run: Run, phase: Phase, parts: Sequence[Batch], optimizer: torch.optim.Optimizer, rate: float) -> Outcome:
    """Forward, backward, clip, update; the parts' noise is drawn here."""
    counted = _total(run, sum(batch.counted for batch in parts))
    totals: dict[str, Tensor] = {o.kind: torch.zeros((), device=run.accelerator.device) for o in phase.objectives}
    for part in parts:
        share = part.counted / max(counted, 1)  # a step of a few short texts may hide no word
        with enough_memory(run, phase, part):
            batch = _ready(run, phase, part)
            with run.accelerator.autocast():
                losses, _ = losses_of(
                    run, phase.objectives, batch, cached=bool(phase.cache_teacher),
                    respell_share=(phase.noise and phase.noise.respell_share) or 0.0,
                )  # fmt: skip
            run.accelerator.backward(share * torch.stack(list(losses.values())).sum())
        for name, loss in losses.items():
            totals[name] += share * loss.detach()
    norm = _update(run, optimizer, rate)
    if run.accelerator.num_processes > 1:
        totals = {name: run.accelerator.reduce(loss, "sum") for name, loss in totals.items()}
    return Outcome(totals, norm, sum(int(batch.mask.sum()) for batch in parts))


def losses_of(
    run: Run, objectives: Sequence[Objective], batch: Batch, *, cached: bool = False, respell_share: float = 0.0
) -> tuple[dict[str, Tensor], Judged]:
    """Weighted loss of each objective on one batch, and what the student said, row by row.

    Where nothing compares token with token, a student with fewer pieces reads the texts spelt out, as it will be
    served; a `respell_share` of the pieces that it has, too.
    """
    theirs, ours = wanted_of(objectives, run.models)
    if run.spelling is not None and read_whole(objectives) and not run.head.is_per_token and TYPES not in batch.inputs:
        inputs = run.spelling.spelt_out(batch, run.config.max_tokens, respell_share)
    else:
        inputs = student_inputs(run, batch)
    seen = _unpacked(observe(run.student, inputs, ours), batch)
    taught = _taught(run, batch, theirs, cached=cached)
    rows = _found_words(run, seen, batch) if reads_words(objectives) else judged(run.head, taught, seen, batch)
    losses: dict[str, Tensor] = {
        o.kind: o.weight * loss_of(
            o, rows.teacher, rows.student, mask=batch.mask, labels=rows.labels, models=run.models,
            projections=run.projections, answers=rows.answers, weights=rows.weights,
        )
        for o in objectives
    }  # fmt: skip
    return losses, rows


def _found_words(run: Run, seen: Seen, batch: Batch) -> Judged:
    """Scores of pieces in the places of hidden words, and the pieces that stood there."""
    if batch.targets is None:
        raise RuntimeError("no words were hidden; `Run.hide_words` and the phase disagree")
    hidden = batch.targets >= 0
    seen.logits = score_pieces(run.student, seen.hidden[run.models.student_depth][hidden])
    return Judged(Seen(), seen, batch.targets[hidden])


def student_inputs(run: Run, batch: Batch) -> dict[str, Tensor]:
    """What the student reads of a batch, token by token in its own vocabulary."""
    return batch.inputs if run.spelling is None else run.spelling.side_by_side(batch)


def _taught(run: Run, batch: Batch, wanted: Wanted, *, cached: bool) -> Seen:
    if run.teacher is None or wanted == Wanted():
        return Seen()
    if cached and run.cache is not None:
        return run.cache.seen(batch, wanted)
    with torch.no_grad():
        return _unpacked(observe(run.teacher, batch.inputs, wanted), batch)


def _unpacked(seen: Seen, batch: Batch) -> Seen:
    if batch.where is None:
        return seen
    rows = {
        layer: Projections(batch.unpack(p.Q), batch.unpack(p.K), batch.unpack(p.V), p.heads)
        for layer, p in seen.projections.items()
    }
    return Seen(rows, {layer: batch.unpack(state) for layer, state in seen.hidden.items()}, seen.logits)


def _ready(run: Run, phase: Phase, part: Batch) -> Batch:
    if phase.noise is not None:
        lacking = None if run.spelling is None else run.spelling.lacking
        part = run.feed_of(phase).noisy(part, phase.noise, lacking)
    return part.to(run.accelerator.device)


def _total(run: Run, count: int) -> int:
    if run.accelerator.num_processes == 1:
        return count
    return int(run.accelerator.reduce(torch.tensor(count, device=run.accelerator.device), "sum"))


def _update(run: Run, optimizer: torch.optim.Optimizer, rate: float) -> Tensor:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    scaler = run.accelerator.scaler
    if run.accelerator.num_processes > 1:  # before the scaler looks, so that all processes skip the same steps
        _sum_gradients(run, parameters)
    if scaler is not None:
        scaler.scale(torch.zeros((), device=run.accelerator.device))  # a process without a text has not used it yet
        scaler.unscale_(optimizer)
    learning = [p for p in parameters if p.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(learning, GRADIENT_NORM)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _sum_gradients(run: Run, parameters: Sequence[nn.Parameter]) -> None:
    """Sum over processes, as one buffer. What no process has a gradient for keeps none, and does not decay."""
    device = run.accelerator.device
    have = run.accelerator.reduce(torch.tensor([float(p.grad is not None) for p in parameters], device=device), "sum")
    shared = [p for p, count in zip(parameters, have.tolist(), strict=True) if count]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in shared])
    flat = run.accelerator.reduce(flat, "sum")
    for parameter, total in zip(shared, flat.split([p.numel() for p in shared]), strict=True):
        parameter.grad = total.view_as(parameter)
