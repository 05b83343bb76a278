"""Everything a training run works with."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from accelerate import Accelerator
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill.batch import Batch
from distill.batching import FeedPosition, Plan
from distill.cache import TeacherCache
from distill.config import ModelConfig, Noise, Phase
from distill.config_objectives import MaskedLanguage
from distill.heads import NO_HEAD, Head
from distill.masking import Masker
from distill.objectives.layers import Models
from distill.spelling import Spelling
from distill.text import Texts


class Feed(Protocol):
    """Where training text comes from: a split in memory, or a corpus read as a stream."""

    def steps(self, plan: Plan, position: FeedPosition) -> Iterator[tuple[list[Batch], FeedPosition]]:
        """Parts for this process of each step from `position` on, without end, and the position after the step."""

    def noisy(self, batch: Batch, noise: Noise, lacking: Int[Tensor, "lacking"] | None = None) -> Batch:
        """`batch` with words masked and exchanged, also for one of the pieces `lacking`."""


@dataclass(frozen=True)
class Run:
    """A student, who teaches it, what they read, and where the artefact is made."""

    config: ModelConfig
    phases: tuple[Phase, ...]
    """The recipe's, with gradual unfreezing written out."""
    student: PreTrainedModel
    teacher: PreTrainedModel | None
    models: Models
    projections: nn.ModuleDict
    """Learnt maps to the teacher's width, by name; dropped after training."""
    spelling: Spelling | None
    """What the student makes of the teacher's ids, where its vocabulary is smaller."""
    texts: Texts
    """The training split."""
    corpora: Mapping[str, Feed]
    validation: Texts
    first_position: int
    """Of packed texts."""
    directory: Path
    accelerator: Accelerator
    cache: TeacherCache | None = None
    """What the teacher shows of the training split, for the phases that ask for it."""
    masker: Masker | None = None
    """Of the phases that learn masked words."""
    head: Head = NO_HEAD
    """What the student has above its encoder."""
    held_out: Mapping[str, Texts] = field(default_factory=dict)
    """Texts of a corpus that phases of masked words do not read, but are evaluated on."""

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint."""
        return self.directory / "checkpoints" / "latest.safetensors"

    @property
    def best(self) -> Path:
        """The weights that were best on validation in the phase under way."""
        return self.directory / "checkpoints" / "best.safetensors"

    def feed_of(self, phase: Phase) -> Feed:
        """The text that `phase` reads."""
        return self.texts if phase.corpus is None else self.corpora[phase.corpus]

    def plan_of(self, phase: Phase) -> Plan:
        """How `phase` wants its batches."""
        return Plan(
            batch_size=phase.batch_size, batch_tokens=phase.batch_tokens, packing=bool(phase.packing),
            accumulate=phase.accumulate or 1, seed=self.config.seed, rank=self.accelerator.process_index,
            world=self.accelerator.num_processes, first_position=self.first_position,
            among_candidates=bool(phase.among_candidates),
        )  # fmt: skip

    def steps_of(self, phase: Phase) -> int:
        """How many `phase` takes: as it says, or as its epochs come to."""
        if phase.steps is not None:
            return phase.steps
        return max(1, math.ceil((phase.epochs or 1) * self.texts.steps_per_epoch(self.plan_of(phase))))

    def hide_words(self, phase: Phase, parts: Sequence[Batch], step: int | None) -> list[Batch]:
        """`parts` with words hidden, where `phase` learns to find them.

        Which ones depends on the seed, the `step` of the whole run, and each text; without a step, on the text alone.
        """
        (objective, *_) = phase.objectives
        if not isinstance(objective, MaskedLanguage) or self.masker is None:
            return list(parts)
        seed, number = (0, -1) if step is None else (self.config.seed, step)
        return [self.masker.hide(part, objective, seed, number) for part in parts]

    def validation_of(self, phase: Phase) -> Texts:
        """The texts that `phase` is evaluated on: the validation split, unless its corpus holds some out."""
        return self.held_out.get(phase.corpus or "", self.validation)

    def learners(self) -> nn.ModuleDict:
        """What learns: the student, and the maps that only training needs."""
        return nn.ModuleDict({"model": self.student, "projections": self.projections})
