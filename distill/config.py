"""What a recipe says about a model: where it starts, who teaches it, and the phases it goes through."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from artifact.config import Config
from distill.config_corpora import CodeSwitch, CorpusConfig, Mixture, TextFiles, TextHub
from distill.config_objectives import Objective
from distill.config_starts import Checkpoint, Scratch, Start, Transplant, Vocabulary

__all__ = ["CodeSwitch", "CorpusConfig", "Mixture", "ModelConfig", "Noise", "Phase", "TextFiles", "TextHub"]

Group = Annotated[tuple[str, ...], Field(min_length=1)]
"""Parts of a model that learn together."""
Share = Annotated[float, Field(ge=0, lt=1)]


class Noise(Config):
    """Words masked or exchanged in what teacher and student both read, in half of the texts (`distill/augment.py`); and
    words spelt out to the student alone (`distill/spelling.py`).
    """

    mask_share: Share = 0.1
    """Chance of each token to become the mask token."""
    exchange_share: Share = 0.1
    """Chance of each token to become a token of another text."""
    spell_share: Share | None = None
    """Chance of each token to become a piece that the student's smaller vocabulary lacks: the student reads it spelt
    out, and learns from the teacher what it means. Left out, none; for objectives of whole texts."""
    respell_share: Share | None = None
    """Chance of each token to be spelt out to the student though its smaller vocabulary has it, while the teacher reads
    it whole: words in their own places, as if they had been cut. Left out, none; for objectives of whole texts."""

    @property
    def spells(self) -> bool:
        """Whether teacher and student come to read other pieces."""
        return bool(self.spell_share or self.respell_share)


class Phase(Config):
    """Data, objectives, what is unfrozen, optimizer and length: one leg of a training run."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    objectives: tuple[Objective, ...] = Field(min_length=1)
    corpus: str | None = None
    """Name of one of the recipe's `corpora`; left out, the training split of the data set."""
    unfreeze: Group = ("all",)
    """Parts that learn: `all`, or any of `embeddings`, `layer.N`, `pooler`, `head`."""
    unfreeze_gradually: Annotated[tuple[Group, ...], Field(min_length=1)] | Literal["top-down"] | None = None
    """The phase is gone through once for each group of parts, which learns together with those before it;
    `top-down` is head, pooler, last layer, ..., first layer, embeddings (XtremeDistil). Overrides `unfreeze`."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training text; may be a fraction."""
    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps, instead of `epochs`; what a corpus needs, whose length nobody has counted."""
    patience: int | None = Field(default=None, gt=0)
    """End the phase after this many evaluations without a better validation result."""
    learning_rate: float = Field(gt=0)
    """Peak, after warm-up."""
    schedule: Literal["linear", "cosine", "constant"] | None = None
    """How the rate falls after the warm-up; left out, `linear`, to zero."""
    warmup_share: Share = 0.1
    """Share of the steps in which the rate rises linearly."""
    betas: tuple[Share, Share] | None = None
    """AdamW's; left out, 0.9 and 0.999."""
    batch_size: int = Field(default=32, gt=0)
    """Texts per step."""
    batch_tokens: int | None = Field(default=None, gt=0)
    """Tokens per step, padding included, instead of `batch_size`: short texts then come in larger batches."""
    packing: bool | None = None
    """Put several texts into a row of `max_tokens`, each seeing only itself; needs `batch_tokens` and no classes."""
    accumulate: int | None = Field(default=None, gt=0)
    """Parts a step's batch is computed in, one after the other, to save memory; the result is the same."""
    weight_decay: float = Field(default=0.01, ge=0)
    average_decay: float | None = Field(default=None, gt=0, lt=1)
    """Keep an exponential moving average of the weights, with this decay a step; the phase ends with it."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Overrides the model's own dropout in this phase, and in no later one."""
    noise: Noise | None = None
    """Damage to the texts; left out, none."""
    among_candidates: bool | None = None
    """Response selection: the right utterance is learnt among its query's own candidates, by a softmax over their
    scores, and not each for itself as right or wrong. That puts them in order, and leaves open whether any is right."""
    cache_teacher: bool | None = None
    """Compute what the teacher shows once, and read it from disk in later epochs."""

    @model_validator(mode="after")
    def _check(self) -> "Phase":
        kinds = [objective.kind for objective in self.objectives]
        faults = []
        if len(set(kinds)) != len(kinds):
            faults.append(f"has two objectives of one kind: {', '.join(kinds)}")
        if (self.epochs is None) == (self.steps is None):
            faults.append("needs either epochs or steps")
        if "ranking" in kinds and len(kinds) > 1:
            faults.append("ranks pairs, which no other objective reads")
        whole = {"logits", "labels", "embedding", "ranking", "contrastive"}
        if self.packing and (self.batch_tokens is None or set(kinds) & whole):
            faults.append("packs texts: that needs batch_tokens, and no objective of whole texts")
        if self.corpus is not None and "labels" in kinds:
            faults.append("learns labels, which a corpus has not")
        if self.corpus is not None and self.steps is None:
            faults.append("reads a corpus, which needs steps instead of epochs")
        if self.cache_teacher and (self.noise is not None or self.corpus is not None or self.packing):
            faults.append("caches the teacher: that needs the same texts in every epoch (no noise, corpus or packing)")
        if self.noise is not None and self.noise.spells and set(kinds) - {"logits", "labels"}:
            faults.append("spells pieces: its objectives must be of whole texts, logits or labels")
        if faults:
            raise ValueError("; ".join(f"phase {self.name!r} {fault}" for fault in faults))
        return self

    @model_validator(mode="after")
    def _check_candidates(self) -> "Phase":
        if not self.among_candidates:
            return self
        if self.corpus is not None or any(objective.kind not in ("logits", "labels") for objective in self.objectives):
            raise ValueError(
                f"phase {self.name!r} learns among candidates: those of a data set, by logits and labels alone"
            )
        if any(objective.kind == "labels" and objective.smoothing for objective in self.objectives):
            raise ValueError(f"phase {self.name!r} learns among candidates, which may be few: leave smoothing out")
        return self

    @model_validator(mode="after")
    def _check_words(self) -> "Phase":
        others = len(self.objectives) > 1 or self.noise is not None or self.cache_teacher
        if others and any(objective.kind == "mlm" for objective in self.objectives):
            raise ValueError(
                f"phase {self.name!r} masks words: that goes with no other objective, no noise and no cache_teacher"
            )
        return self


class ModelConfig(Config):
    """One model of a recipe. A teacher is one that starts from a checkpoint and learns from labels."""

    start: Start
    teacher: str | None = None
    """Name of the recipe's model to learn from; needed by every objective but `labels` and `mlm`."""
    assistant: Literal["auto"] | None = None
    """`auto` puts a teacher assistant, as deep as the teacher and as wide as the student, between the two where
    MiniLM's rule asks for one (arXiv 2002.10957, section 3.3). One of your own is a model like any other."""
    head: Literal["task", "none"] | None = None
    """`none` leaves an encoder, for others to start from or to embed texts with; left out, the data's task has one."""
    deploy: bool | None = None
    """Whether it is exported, measured and served. Left out: unless it is an encoder for others to start from."""
    vocabulary: Vocabulary | None = None
    """Left out: the start's whole vocabulary is kept."""
    phases: tuple[Phase, ...] = ()
    """In order; none takes the start as it is."""
    max_tokens: int = Field(default=64, gt=2, le=8192)
    """Longest input in tokens; longer texts are cut."""
    negatives: int | None = Field(default=None, gt=0)
    """Response selection: wrong utterances read beside each right one; left out, 4."""
    seed: int = Field(default=1, ge=0)
    checkpoint_every_steps: int | None = Field(default=None, gt=0)
    """Steps between checkpoints; left out, one every 30 seconds. One is also written at the end of each phase."""
    keep_best: bool = True
    """End each phase that learns classes or masked words with the weights that were best on validation."""
    evaluate_every_steps: int | None = Field(default=None, gt=0)
    """Steps between evaluations on the validation split; left out, four times a phase."""
    precision: Literal["float32", "bf16", "fp16"] | None = None
    """Of the matrix products in training; losses and weights stay float32. Left out: `float32`."""
    compile: bool | None = None
    """Run the student through `torch.compile`; needs a C++ compiler."""

    @property
    def predicts_words(self) -> bool:
        """Whether it ends as a masked language model: an encoder for others to start from, which knows no class."""
        return bool(self.phases) and any(objective.kind == "mlm" for objective in self.phases[-1].objectives)

    @property
    def has_head(self) -> bool:
        """Whether it answers what the data's task asks; else it embeds texts, or fills in words."""
        return self.head != "none" and not self.predicts_words

    def refers_to(self) -> tuple[str, ...]:
        """Names of the recipe's other models that this one is made from."""
        source = self.start.source if isinstance(self.start, Checkpoint | Transplant) else ""
        start = source.removeprefix("model:") if source.startswith("model:") else None
        return tuple(name for name in (self.teacher, start) if name is not None)

    @model_validator(mode="after")
    def _check_teacher(self) -> "ModelConfig":
        kinds = {o.kind for phase in self.phases for o in phase.objectives}
        needs = kinds - {"labels", "mlm", "contrastive"}
        if self.teacher is None and (needs or not isinstance(self.start, Checkpoint | Scratch | Transplant)):
            what = ", ".join(sorted(needs)) or f"start {self.start.kind!r}"
            raise ValueError(f"{what} needs a teacher: name one under `teacher`")
        if self.assistant is not None and self.start.kind not in ("random", "slice"):
            raise ValueError(f"assistant: auto needs a start with a width of its own, not {self.start.kind!r}")
        if self.head == "none" and kinds & {"labels", "logits"}:
            raise ValueError("labels and logits are learnt by a head, and head is none")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"two phases share a name: {', '.join(names)}")
        return self
