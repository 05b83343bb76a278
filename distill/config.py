"""What a recipe says about a model: where it starts, who teaches it, and the phases it goes through."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from artifact.config import Config

RelationName = Literal["QQ", "QK", "QV", "KQ", "KK", "KV", "VQ", "VK", "VV"]


class Relations(Config):
    """Self-attention relations of one teacher layer, matched by the student's last layer (MiniLM, MiniLMv2)."""

    kind: Literal["relations"]
    weight: float = Field(default=1.0, gt=0)
    pairs: dict[RelationName, float] = {"QQ": 1.0, "KK": 1.0, "VV": 1.0}
    """Relation to weight. MiniLMv2: QQ, KK, VV. MiniLM: QK, VV."""
    relation_heads: int | None = Field(default=None, gt=0)
    """A_r, into which the concatenated vectors are split (MiniLMv2); left out, the models' own heads (MiniLM)."""
    teacher_layer: int | None = Field(default=None, gt=0)
    """1-based; left out, the papers' choice for the teacher's depth."""


class Logits(Config):
    """Kullback-Leibler divergence to the teacher's softened class probabilities, times temperature squared."""

    kind: Literal["logits"]
    weight: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0)


class Labels(Config):
    """Cross-entropy with the labels of the data set."""

    kind: Literal["labels"]
    weight: float = Field(default=1.0, gt=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target mass spread over all labels."""


Objective = Annotated[Relations | Logits | Labels, Field(discriminator="kind")]


class Noise(Config):
    """Words masked or exchanged in what teacher and student both read, in half of the texts (`distill/augment.py`)."""

    mask_share: float = Field(default=0.1, ge=0, lt=1)
    """Chance of each token to become the mask token."""
    exchange_share: float = Field(default=0.1, ge=0, lt=1)
    """Chance of each token to become a token of another text."""


class Phase(Config):
    """Data, objectives, what is unfrozen, optimizer and length: one leg of a training run."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    objectives: tuple[Objective, ...] = Field(min_length=1)
    unfreeze: tuple[str, ...] = ("all",)
    """Parts that learn: `all`, or any of `embeddings`, `layer.N`, `pooler`, `head`."""
    epochs: float = Field(gt=0)
    """Passes over the training text; may be a fraction."""
    learning_rate: float = Field(gt=0)
    """Peak, after warm-up."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises linearly; it falls linearly to zero in the rest."""
    batch_size: int = Field(default=32, gt=0)
    """Texts per step."""
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Overrides the model's own dropout in this phase."""
    noise: Noise | None = None
    """Damage to the texts; left out, none."""

    @model_validator(mode="after")
    def _check_objectives(self) -> "Phase":
        kinds = [objective.kind for objective in self.objectives]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"phase {self.name!r} has two objectives of one kind: {', '.join(kinds)}")
        return self


class Checkpoint(Config):
    """Start from a whole model: a pretrained teacher, or a model of this recipe to train on."""

    kind: Literal["checkpoint"]
    source: str
    """`package:NAME/path`, a local directory, a Hub id, or `model:NAME` for a model of the same recipe."""
    trust_remote_code: bool = False
    """Run the Python files that come with the checkpoint. Only for authors you trust."""


class Layers(Config):
    """Start from some layers of the teacher, with its embeddings and head (DistilBERT's way, by index)."""

    kind: Literal["layers"]
    layers: tuple[int, ...] = Field(min_length=1)
    """0-based indices of the teacher's layers, in the student's order."""


class Random(Config):
    """Start from random weights of the given shape (MiniLM's way)."""

    kind: Literal["random"]
    layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    heads: int = Field(gt=0)
    intermediate_size: int | None = Field(default=None, gt=0)
    """Left out: 4 x hidden_size, as in the papers."""

    @model_validator(mode="after")
    def _check_heads(self) -> "Random":
        if self.hidden_size % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the hidden size {self.hidden_size}")
        return self


Start = Annotated[Checkpoint | Layers | Random, Field(discriminator="kind")]


class ModelConfig(Config):
    """One model of a recipe. A teacher is one that starts from a checkpoint and learns from labels."""

    start: Start
    teacher: str | None = None
    """Name of the recipe's model to learn from; needed by every objective but `labels`."""
    phases: tuple[Phase, ...] = ()
    """In order; none takes the start as it is."""
    max_tokens: int = Field(default=64, gt=2, le=8192)
    """Longest input in tokens; longer texts are cut."""
    seed: int = Field(default=1, ge=0)
    checkpoint_every_steps: int = Field(default=200, gt=0)
    """Steps between checkpoints; one is also written at the end of each phase."""
    keep_best: bool = True
    """End each phase that learns classes with the weights that were best on validation, not the last ones."""
    evaluate_every_steps: int | None = Field(default=None, gt=0)
    """Steps between evaluations on the validation split; left out, four times a phase."""

    def refers_to(self) -> tuple[str, ...]:
        """Names of the recipe's other models that this one is made from."""
        source = self.start.source if isinstance(self.start, Checkpoint) else ""
        start = source.removeprefix("model:") if source.startswith("model:") else None
        return tuple(name for name in (self.teacher, start) if name is not None)

    @model_validator(mode="after")
    def _check_teacher(self) -> "ModelConfig":
        needs = {o.kind for phase in self.phases for o in phase.objectives} - {"labels"}
        if self.teacher is None and (needs or not isinstance(self.start, Checkpoint)):
            what = ", ".join(sorted(needs)) or f"start {self.start.kind!r}"
            raise ValueError(f"{what} needs a teacher: name one under `teacher`")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"two phases share a name: {', '.join(names)}")
        return self
