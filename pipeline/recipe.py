"""A recipe: one YAML file, one experiment, from data to gate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from artifact.config import Config, load_config
from distill.assistant import with_assistants
from distill.config import CorpusConfig, ModelConfig
from export.config import ExportConfig
from pipeline.plan_config import Budget, PlanConfig


class Generator(Config):
    """Data that the project generates itself from a grammar; the same seed gives the same bytes."""

    kind: Literal["generator"]
    grammar: Path
    """YAML grammar, such as `recipes/data/intents.yaml`."""
    seed: int = Field(default=1, ge=0)


class Files(Config):
    """Local files: JSON lines, CSV or Parquet, compressed or not."""

    kind: Literal["files"]
    directory: Path = Path()
    """Folder that the other paths are relative to: the one thing to override on another machine."""
    train: Path
    validation: Path
    test: Path


class Hub(Config):
    """A data set of the Hugging Face Hub."""

    kind: Literal["hub"]
    name: str
    configuration: str | None = None
    revision: str | None = None
    """Commit, for a result that can be had again."""
    train: str = "train"
    validation: str = "validation"
    test: str = "test"


Source = Annotated[Generator | Files | Hub, Field(discriminator="kind")]


class DataConfig(Config):
    """Where texts and labels come from."""

    source: Source
    text_field: str = "text"
    label_field: str = "label"
    labels: tuple[str, ...] | None = None
    """The label list, in order; left out, the sorted labels of the training split."""
    out_of_domain_labels: tuple[str, ...] = ()
    """Rows with these labels are no class: they leave the three splits and form the out-of-domain text."""


class BenchConfig(Config):
    """What is measured: single texts, one after the other (SingleStream) and full batches (Offline)."""

    threads: int = Field(default=2, gt=0)
    """Intra-op threads of every contestant; never more than the cores this process may use."""
    rounds: int = Field(default=10, gt=1)
    """Rounds in which every contestant takes its turn, in random order."""
    calls_per_round: int = Field(default=40, gt=0)
    """Single texts per contestant and round."""
    batch_size: int = Field(default=32, gt=0)
    """Texts per batch of the throughput measurement."""
    texts: int = Field(default=256, gt=0)
    """Test texts measured, drawn once with the seed, the same for every contestant."""
    http: bool = True
    """Also measure through the service, over loopback."""
    seed: int = Field(default=1, ge=0)


class Gate(Config):
    """One condition on the candidate row against the reference row of the report."""

    metric: Literal["quality", "latency_p50", "throughput", "size"]
    reference: str
    """Row it is compared with, such as `teacher/float32` or `teacher/pytorch`."""
    min_ratio: float | None = Field(default=None, gt=0)
    """Pass when candidate / reference is surely at least this (speed counts as reference / candidate time)."""
    max_ratio: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_bound(self) -> "Gate":
        if (self.min_ratio is None) == (self.max_ratio is None):
            raise ValueError("give either min_ratio or max_ratio")
        return self


class Recipe(Config):
    """Everything one experiment needs."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    data: DataConfig
    corpora: dict[str, CorpusConfig] = {}
    """Unlabelled text by name, for phases that name it under `corpus`."""
    models: dict[str, ModelConfig] = Field(min_length=1)
    """By name, in the order of training; `teacher` and `student` by custom."""
    export: ExportConfig = ExportConfig()
    bench: BenchConfig = BenchConfig()
    candidate: str
    """Row that the gate judges and the service answers with by default, such as `student/int8`."""
    gates: dict[str, Gate] = {}
    plan: PlanConfig = PlanConfig()
    """Shapes that `understudy plan` measures before any training."""
    budget: Budget = Budget()
    """What the student may cost, for `understudy plan`."""

    @model_validator(mode="after")
    def _check_names(self) -> "Recipe":
        rows = self.rows()
        earlier: set[str] = set()
        for name, model in self.models.items():
            for other in model.refers_to():
                if other not in earlier:
                    raise ValueError(f"models.{name} refers to {other!r}, which is not a model above it")
            unknown = {phase.corpus for phase in model.phases if phase.corpus is not None} - self.corpora.keys()
            if unknown:
                raise ValueError(f"models.{name} reads {', '.join(sorted(unknown))}, which corpora does not name")
            for phase in model.phases:
                ranks = any(objective.kind == "ranking" for objective in phase.objectives)
                if ranks and self.corpora[phase.corpus or ""].source.pair_field is None:
                    raise ValueError(
                        f"models.{name}: phase {phase.name!r} ranks pairs, {phase.corpus} has no pair_field"
                    )
            earlier.add(name)
        for where, row in [
            ("candidate", self.candidate),
            *((f"gates.{n}.reference", g.reference) for n, g in self.gates.items()),
        ]:
            if row not in rows:
                raise ValueError(f"{where} is {row!r}, expected one of {', '.join(rows)}")
        return self

    def rows(self) -> list[str]:
        """Names of the rows of the report: `model/precision`, and the first model as people run it in PyTorch."""
        first = next(iter(self.models))
        exported = [f"{model}/{precision}" for model in self.models for precision in self.export.precisions]
        return [f"{first}/pytorch", *exported]


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path`, teacher assistants written out; every fault in it is in one `ConfigError`."""
    recipe = load_config(Recipe, path, overrides)
    return recipe.model_copy(update={"models": with_assistants(recipe.models)})
