"""One loop for every phase: fine-tuning a teacher, matching its relations, matching its opinions.

Everything the next step depends on is in the checkpoint, so a killed run goes on to the very same weights.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object

from artifact.errors import TrainingError
from artifact.progress import Advance, progress
from distill.batch import Batch
from distill.batching import FeedPosition
from distill.checkpoint import (
    Position,
    State,
    load_checkpoint,
    random_state,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from distill.config import Phase
from distill.due import Due
from distill.evaluation import CALMER, check_spread, evaluate, reads_head, score_of
from distill.journal import Journal, Speed
from distill.schedule import Dropouts, dropouts_of, freeze_all_but, make_optimizer, rate_at, set_dropout
from distill.state import Run
from distill.step import Average, Outcome, take_step

STEPS_BETWEEN_LOGS = 20
EVALUATIONS_PER_PHASE = 4


def train(run: Run) -> dict[str, Any]:
    """All phases, from the last checkpoint on if there is one; returns what was measured.

    Raises `TrainingError` when a loss is not finite or the student collapses, naming phase and step; the last good
    checkpoint is kept.
    """
    position, state = _where_to_begin(run)
    journal = Journal(run.directory, position, write=run.accelerator.is_main_process)
    try:
        own = dropouts_of(run.student)
        while position.phase < len(run.phases):
            position = _Leg.begin(run, position, state, journal, own).finish()
            state = State()
    finally:
        journal.close()
    return {
        "steps": position.total_steps,
        "training_seconds": round(position.seconds, 1),
        "evaluations": list(position.history),
    }


def _where_to_begin(run: Run) -> tuple[Position, State]:
    if not run.checkpoint.exists():
        # Each process draws its own dropout and noise.
        torch.manual_seed(run.config.seed + run.accelerator.process_index)
        return Position(phase=0, step=0, seconds=0.0), State()
    position, state = load_checkpoint(run.checkpoint, run.learners(), run.accelerator.process_index)
    if position.processes != run.accelerator.num_processes:
        raise TrainingError(
            f"{run.directory} was begun by {position.processes} processes, found {run.accelerator.num_processes}",
            "go on with as many as before, or --force to start over",
        )
    return position, state


@dataclass
class _Leg:
    """A phase under way."""

    run: Run
    phase: Phase
    position: Position
    journal: Journal
    optimizer: torch.optim.Optimizer
    average: Average | None
    steps: int
    began: float

    @classmethod
    def begin(cls, run: Run, position: Position, state: State, journal: Journal, own: Dropouts) -> "_Leg":
        """Freeze, set dropout, make the optimizer, and put back what a checkpoint held.

        Nothing of an earlier phase but what a checkpoint holds may be left in the student: a run that goes on from one
        has not gone through that phase. Without an override its dropout is therefore its `own`.
        """
        phase = run.phases[position.phase]
        freeze_all_but(run.student, phase.unfreeze)
        set_dropout(run.student, own if phase.dropout is None else phase.dropout)
        optimizer = make_optimizer(run.learners(), phase)
        if state.optimizer:
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state.optimizer, "param_groups": groups})
        average = None
        if phase.average_decay is not None:
            device = run.accelerator.device
            average = Average(phase.average_decay, {name: x.to(device) for name, x in state.average.items()})
        if run.accelerator.scaler is not None and position.scaler:
            run.accelerator.scaler.load_state_dict(position.scaler)
        run.student.train()
        began = time.monotonic() - position.seconds
        return cls(run, phase, position, journal, optimizer, average, run.steps_of(phase), began)

    def finish(self) -> Position:
        """All steps that are left; returns the beginning of the next phase."""
        every = self.run.config.evaluate_every_steps or max(1, math.ceil(self.steps / EVALUATIONS_PER_PHASE))
        name = f"{self.run.directory.name}: {self.phase.name}"
        speed, due = Speed(), Due(self.run.config.checkpoint_every_steps, self.run.accelerator)
        shows = progress(name, self.steps, done=self.position.step)
        with shows if self.run.accelerator.is_main_process else nullcontext(_silent) as advance:
            if self.position.step == 0:
                self._evaluate()
            for parts, rate, feed in self._feed():
                outcome = take_step(self.run, self.phase, parts, self.optimizer, rate)
                self._moved(feed)
                speed.add(outcome.tokens)
                step, ends = self.position.step, self.position.step == self.steps
                saves = not ends and due.after(step)
                if step % STEPS_BETWEEN_LOGS == 0 or ends or saves:
                    self._log(outcome, rate, speed, advance)
                if step % every == 0 or ends:
                    self._evaluate()
                if saves:
                    with due.writing():
                        self._save()
                advance(1, "")
        return self._end()

    def _feed(self) -> Iterator[tuple[list[Batch], float, tuple[FeedPosition, ...]]]:
        run, process = self.run, self.run.accelerator.process_index
        here = self.position.feeds[process] if self.position.feeds else FeedPosition()
        steps = run.feed_of(self.phase).steps(run.plan_of(self.phase), here)
        for step in range(self.position.step, self.steps):
            if self._has_waited():  # asked before each step: a run that goes on from the last one must not take more
                return
            parts, after = next(steps)
            hidden = run.hide_words(self.phase, parts, self.position.total_steps)
            yield hidden, rate_at(step, self.steps, self.phase), (after,)

    def _moved(self, feed: tuple[FeedPosition, ...]) -> None:
        if self.average is not None:
            self.average.update(self.run.student)
        self.position = self.position.model_copy(update={
            "step": self.position.step + 1, "total_steps": self.position.total_steps + 1,
            "seconds": time.monotonic() - self.began, "feeds": feed,
        })  # fmt: skip

    def _log(self, outcome: Outcome, rate: float, speed: "Speed", advance: Advance) -> None:
        values = {name: float(loss) for name, loss in outcome.losses.items()}
        norm = float(outcome.gradient_norm)
        skips = self.run.accelerator.scaler is not None  # steps whose gradient is not finite
        self._check_finite(
            {f"{name} loss": value for name, value in values.items()} | ({} if skips else {"gradient": norm})
        )
        tokens_per_s = speed.take() * self.run.accelerator.num_processes
        self.journal.write(
            self.position, self.phase.name, losses=values, learning_rate=rate,
            gradient_norm=round(norm, 5), tokens_per_s=round(tokens_per_s),
        )  # fmt: skip
        losses = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        advance(0, f"{losses}, {tokens_per_s:,.0f} tokens/s")

    def _check_finite(self, values: Mapping[str, float]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            where = f"at step {self.position.step} of phase {self.phase.name!r}"
            raise TrainingError(f"{self.run.directory.name}: the {wrong[0]} is not finite {where}", CALMER)

    def _evaluate(self) -> None:
        """Look at the validation split; keep the weights when they are the best so far."""
        with self._averaged():
            result = evaluate(self.run, self.phase)
            self._check_finite({"validation loss": result["validation_loss"]})
            self._check_spread()
            score = score_of(result)
            better = self.position.best is None or score > self.position.best
            if better and self._keeps_best() and self.run.accelerator.is_main_process:
                write_tensors(self.run.best, self.run.student.state_dict(), {"step": str(self.position.step)})
        entry = {"phase": self.phase.name, "step": self.position.step, **{k: round(v, 5) for k, v in result.items()}}
        update: dict[str, Any] = {"history": (*self.position.history, entry)}
        update["evaluations_since_best"] = 0 if better else self.position.evaluations_since_best + 1
        if better:
            update |= {"best": score, "best_step": self.position.step}
        self.journal.write(self.position, self.phase.name, **result)
        self.position = self.position.model_copy(update=update)

    def _check_spread(self) -> None:
        share = check_spread(self.run, self.phase.objectives, self.position.healthy_share)
        self.position = self.position.model_copy(update={"healthy_share": share})

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.in_place(self.run.student) if self.average and self.average.values else nullcontext()

    def _keeps_best(self) -> bool:
        learns = reads_head(self.phase.objectives) or any(o.kind == "contrastive" for o in self.phase.objectives)
        watched = learns or self.phase.patience is not None
        return self.run.config.keep_best and watched

    def _has_waited(self) -> bool:
        return self.phase.patience is not None and self.position.evaluations_since_best >= self.phase.patience

    def _save(self, *, midway: bool = True) -> None:
        """Every process says where it stands, the main one writes; midway, only when the student is seen to be well."""
        if midway:
            self._check_spread()
        self._check_finite({name: float(p.detach().sum()) for name, p in self.run.learners().named_parameters()})
        accelerator = self.run.accelerator
        feeds, states = self.position.feeds, random_state(accelerator.process_index)
        if accelerator.num_processes > 1:
            feeds = tuple(gather_object(list(feeds)))
            states = {name: tensor for some in gather_object([states]) for name, tensor in some.items()}
        if accelerator.is_main_process:
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
            position = self.position.model_copy(update={
                "feeds": feeds, "scaler": scaler, "processes": accelerator.num_processes, "logged": self.journal.lines,
            })  # fmt: skip
            save_checkpoint(
                self.run.checkpoint, self.run.learners(), position, optimizer=self.optimizer if midway else None,
                average=self.average.values if self.average and midway else None, random_states=states,
            )  # fmt: skip
        accelerator.wait_for_everyone()

    def _end(self) -> Position:
        """The phase's best weights, or its averaged ones, and a checkpoint that begins the next phase."""
        self.run.accelerator.wait_for_everyone()
        if self._keeps_best() and self.position.best is not None:
            self.run.student.load_state_dict(read_tensors(self.run.best)[0])
            self.journal.write(
                self.position, self.phase.name, kept_step=self.position.best_step, best=self.position.best
            )
        elif self.average is not None:
            self.run.student.load_state_dict(self.average.values, strict=False)
        self.position = self.position.next_phase()
        self._save(midway=False)
        return self.position


def _silent(_units: int, _note: str) -> None:
    """The progress of every process but the main one."""
