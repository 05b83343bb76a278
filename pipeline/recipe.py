"""A recipe: one YAML file, one experiment, from data to gate."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, model_validator

from artifact.config import Config, load_config
from artifact.dataset import DETECTION, WITHOUT_HEAD
from distill.assistant import with_assistants
from distill.config import CorpusConfig, ModelConfig
from distill.config_corpora import with_parts
from distill.config_starts import Scratch, Transplant
from distill.config_vocabularies import TrainedVocabulary
from export.config import ExportConfig
from pipeline.bench_config import BenchConfig
from pipeline.data_config import DataConfig
from pipeline.gate_config import Gate
from pipeline.guard_config import RecipeGuard, guard_faults
from pipeline.plan_config import Budget, PlanConfig
from pipeline.rows_config import (
    BASELINE,
    CASCADE,
    CascadeConfig,
    Floor,
    RowsConfig,
    cascade_faults,
    floors_of,
    pytorch_row,
    task_faults,
)


class Recipe(Config):
    """Everything one experiment needs."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    data: DataConfig
    corpora: dict[str, CorpusConfig] = {}
    """Unlabelled text by name, for phases that name it under `corpus`."""
    vocabularies: dict[str, TrainedVocabulary] = {}
    """Vocabularies to train, by name, for models that start from scratch."""
    models: dict[str, ModelConfig] = Field(min_length=1)
    """By name, in the order of training; `teacher` and `student` by custom."""
    export: ExportConfig = ExportConfig()
    guard: RecipeGuard | None = None
    """A gate in every bundle's graphs that flags texts unlike the training texts; left out, none, but where the task is
    to tell them apart."""
    rows: RowsConfig = RowsConfig()
    """What is measured beside the models in their precisions."""
    cascade: CascadeConfig | None = None
    """A student that asks its teacher when it is unsure, as a row of its own."""
    baseline: Path | None = None
    """Output folder of an earlier run, such as the base branch's: its candidate's bundle becomes the row `baseline`."""
    bench: BenchConfig = BenchConfig()
    candidate: str = ""
    """Row that the gate judges and the service answers with by default, such as `student/int8`; needed unless the
    recipe only trains encoders for others to start from."""
    gates: dict[str, Gate] = {}
    plan: PlanConfig = PlanConfig()
    """Shapes that `understudy plan` measures before any training."""
    budget: Budget = Budget()
    """What the student may cost, for `understudy plan`."""

    @model_validator(mode="after")
    def _check_vocabularies(self) -> "Recipe":
        with_parts(self.corpora)
        for name, vocabulary in self.vocabularies.items():
            if strange := set(vocabulary.corpora) - self.corpora.keys():
                raise ValueError(f"vocabularies.{name} reads {', '.join(sorted(strange))}, which corpora does not name")
        for name, model in self.models.items():
            if isinstance(model.start, Scratch | Transplant) and model.start.vocabulary not in self.vocabularies:
                raise ValueError(f"models.{name} starts with {model.start.vocabulary!r}, not one of the vocabularies")
            parallel = model.start.parallel if isinstance(model.start, Transplant) else ()
            if strange := set(parallel) - self.corpora.keys():
                raise ValueError(f"models.{name} reads {', '.join(sorted(strange))}, which corpora does not name")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> "Recipe":
        rows = [
            *cascade_faults(self.cascade, self.exported_rows()),
            *task_faults(self.rows, self.cascade, self.data.task),
        ]
        gates = guard_faults(self.data) if self.guard is not None else ()
        faults = [*self._model_faults(), *rows, *self._row_faults(), *gates]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def row_names(self) -> list[str]:
        """Rows of the report: the first model in PyTorch, `model/precision`, `cascade`, `baseline`, the floors."""
        if not self.deployed():
            return []
        more = [CASCADE] * (self.cascade is not None) + [BASELINE] * (self.baseline is not None)
        return list(dict.fromkeys([*self._pytorch_rows(), *self.exported_rows(), *more, *self.floors()]))

    def _pytorch_rows(self) -> list[str]:
        first = next(iter(self.deployed()))
        return [pytorch_row(first, form) for form in self.rows.pytorch]

    def answering_rows(self) -> list[str]:
        """Those that are asked the test split: all but PyTorch's where it takes a guard, which only graphs hold."""
        silent = self._pytorch_rows() if self.data.task == DETECTION else []
        return [row for row in self.row_names() if row not in silent]

    def floors(self) -> tuple[Floor, ...]:
        """The quality floors that are fitted and measured."""
        return floors_of(self.rows, self.data.task)

    def exported_rows(self) -> list[str]:
        """`model/precision` of every bundle."""
        return [f"{model}/{precision}" for model in self.deployed() for precision in self.export.precisions]

    def _model_faults(self) -> Iterator[str]:
        earlier: set[str] = set()
        for name, model in self.models.items():
            if model.predicts_words and model.deploy:
                yield f"models.{name} ends as a masked language model, which cannot be deployed"
            if name in (CASCADE, BASELINE):
                yield f"models.{name} has the name of a row of its own: choose another"
            yield from self._head_faults(name, model)
            for other in model.refers_to():
                if other not in earlier:
                    yield f"models.{name} refers to {other!r}, which is not a model above it"
            unknown = {phase.corpus for phase in model.phases if phase.corpus is not None} - self.corpora.keys()
            if unknown:
                yield f"models.{name} reads {', '.join(sorted(unknown))}, which corpora does not name"
            for phase in model.phases:
                ranks = any(objective.kind == "ranking" for objective in phase.objectives)
                corpus = self.corpora.get(phase.corpus or "")
                if ranks and corpus is not None and corpus.source.pair_field is None:
                    yield f"models.{name}: phase {phase.name!r} ranks pairs, {phase.corpus} has no pair_field"
            earlier.add(name)

    def _head_faults(self, name: str, model: ModelConfig) -> Iterator[str]:
        if self.data.task in WITHOUT_HEAD and model.has_head:
            what = "bare text" if self.data.task == "text" else f"the task {self.data.task}"
            yield f"models.{name} has a head, and {what} has nothing to teach it: set head: none"
        teacher = self.models.get(model.teacher or "")
        reads_logits = any(objective.kind == "logits" for phase in model.phases for objective in phase.objectives)
        if reads_logits and teacher is not None and not teacher.has_head:
            yield f"models.{name} learns the logits of {model.teacher!r}, which has no head"

    def _row_faults(self) -> Iterator[str]:
        if not self.deployed():
            if self.candidate or self.gates:
                yield "no model is deployed, so there is no candidate to name and none to gate"
            return
        if not self.candidate:
            yield f"candidate is missing, expected one of {', '.join(self.exported_rows())}"
            return
        rows = self.row_names()
        named = {"candidate": self.candidate, **{f"gates.{n}.reference": g.reference for n, g in self.gates.items()}}
        for where, row in named.items():
            spared = where != "candidate" and row == BASELINE  # its gates apply where there is one
            if row is not None and row not in rows and not spared:
                yield f"{where} is {row!r}, expected one of {', '.join(rows)}"
        yield from self._detector_faults()

    def _detector_faults(self) -> Iterator[str]:
        """Gates that a detector's report could not judge, named before anything is trained."""
        if self.data.task != DETECTION:
            return
        for name, gate in self.gates.items():
            if gate.metric == "out_of_domain_auroc":
                yield f"gates.{name} is on out_of_domain_auroc, which of the task {DETECTION} is the quality"
            if gate.metric == "quality" and gate.reference in self._pytorch_rows():
                yield f"gates.{name}.reference is {gate.reference!r}, which has no gate in its graph and no quality"

    def deployed(self) -> dict[str, ModelConfig]:
        """The models that are exported, measured and served: not the encoders that others start from."""
        return {name: model for name, model in self.models.items() if self._is_deployed(model)}

    def _is_deployed(self, model: ModelConfig) -> bool:
        if model.deploy is not None:
            return model.deploy
        asks_vectors = self.data.task in ("response-selection", DETECTION)
        return not model.predicts_words and (model.has_head or asks_vectors)

    def guarding(self) -> RecipeGuard | None:
        """How bundles are guarded; None where they are not."""
        return RecipeGuard() if self.guard is None and self.data.task == DETECTION else self.guard


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path`, teacher assistants written out; every fault in it is in one `ConfigError`."""
    recipe = load_config(Recipe, path, overrides)
    return recipe.model_copy(update={"models": with_assistants(recipe.models), "corpora": with_parts(recipe.corpora)})
