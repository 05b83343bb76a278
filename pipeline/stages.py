"""A recipe as a list of steps: which directories each reads, and which one it seals.

    out/demo/   data/  vocabularies/NAME/  models/NAME/  unguarded/NAME/  bundles/NAME/  floors/NAME/  calibration/
                baseline/  evaluation/  benchmark/  report/  selection/  package/

A step is made only when its turn comes, since its request holds the digests of what the steps before it sealed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from artifact.stage import Stage
from distill.config_starts import Scratch, Transplant
from pipeline.recipe import Recipe
from pipeline.rows import CALIBRATION, SELECTION, measured_inputs, row_inputs
from pipeline.rows_config import Floor

UNGUARDED = "unguarded"
"""Folder of the bundles before they get their gate, where the recipe has them guarded."""

Command = Literal["data", "vocabulary", "distill", "export", "rows", "evaluate", "bench", "report", "package", "plan"]
Work = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Step:
    """One directory to make."""

    command: Command
    """Command that runs it on its own; `data` and `rows` are run by those that need them."""
    out: Path
    needs: tuple[Path, ...]
    """Directories that must be sealed before."""
    make: Callable[[], tuple[Stage, Work]]
    """The stage and its work; opens the inputs' manifests."""


def steps_of(recipe: Recipe, root: Path) -> list[Step]:
    """All steps of `recipe` below `root`, in an order in which each finds its inputs; no more than models, where none
    is deployed.
    """
    trained = [
        _data_step(recipe, root),
        *(_vocabulary_step(recipe, root, name) for name in recipe.vocabularies),
        *(_distill_step(recipe, root, name) for name in recipe.models),
    ]
    if not recipe.deployed():
        return trained
    return [
        *trained,
        *(step for name in recipe.deployed() for step in _export_steps(recipe, root, name)),
        *_row_steps(recipe, root),
        _evaluate_step(recipe, root),
        _bench_step(recipe, root),
        _report_step(recipe, root),
        *_selection_steps(recipe, root),
        _package_step(recipe, root),
    ]


def service_path(recipe: Recipe, root: Path) -> Path | None:
    """Folder of the `service.yaml` by which the recipe's bundles are served; None where they need none."""
    if recipe.cascade is not None:
        return root / CALIBRATION
    return root / SELECTION if recipe.data.task == "response-selection" else None


def model_paths(recipe: Recipe, root: Path) -> dict[str, Path]:
    """Directory of each model of the recipe."""
    return {name: root / "models" / name for name in recipe.models}


def bundle_paths(recipe: Recipe, root: Path) -> dict[str, Path]:
    """Directory of the bundle of each model that has one."""
    return {name: root / "bundles" / name for name in recipe.deployed()}


def vocabulary_paths(recipe: Recipe, root: Path) -> dict[str, Path]:
    """Directory of each vocabulary that the recipe trains."""
    return {name: root / "vocabularies" / name for name in recipe.vocabularies}


def _data_step(recipe: Recipe, root: Path) -> Step:
    def make() -> tuple[Stage, Work]:
        from pipeline.data import data_stage

        return data_stage(recipe.data, root / "data")

    return Step("data", root / "data", (), make)


def _vocabulary_step(recipe: Recipe, root: Path, name: str) -> Step:
    config, out, data = recipe.vocabularies[name], vocabulary_paths(recipe, root)[name], root / "data"

    def make() -> tuple[Stage, Work]:
        from distill.vocabulary_run import vocabulary_stage

        return vocabulary_stage(name, config, data=data, out=out, corpora=recipe.corpora)

    return Step("vocabulary", out, () if config.corpora else (data,), make)


def _distill_step(recipe: Recipe, root: Path, name: str) -> Step:
    models, config, vocabularies = model_paths(recipe, root), recipe.models[name], vocabulary_paths(recipe, root)

    def make() -> tuple[Stage, Work]:
        from distill.run import distill_stage

        return distill_stage(
            name, config, data=root / "data", out=models[name], models=models, corpora=recipe.corpora,
            vocabularies=vocabularies,
        )  # fmt: skip

    read = [vocabularies[config.start.vocabulary]] if isinstance(config.start, Scratch | Transplant) else []
    needed = (root / "data", *read, *(models[other] for other in config.refers_to()))
    return Step("distill", models[name], needed, make)


def _export_steps(recipe: Recipe, root: Path, name: str) -> list[Step]:
    """The bundle, or where it gets a gate, the bundle before and the one with it."""
    model, bundle, data = model_paths(recipe, root)[name], bundle_paths(recipe, root)[name], root / "data"
    guarding = recipe.guarding()
    plain = bundle if guarding is None else root / UNGUARDED / name

    def make() -> tuple[Stage, Work]:
        from export.run import export_stage

        return export_stage(model, plain, recipe.export, name, data=data)

    exported = Step("export", plain, (data, model), make)
    if guarding is None:
        return [exported]

    def guard() -> tuple[Stage, Work]:
        from pipeline.guard import guard_stage

        texts, held_out = (data / f"{split}.jsonl" for split in ("train", "validation"))
        return guard_stage(plain, texts, bundle, held_out=held_out, **guarding.model_dump())

    return [exported, Step("export", bundle, (data, plain), guard)]


def _row_steps(recipe: Recipe, root: Path) -> list[Step]:
    """What rows need beside models and bundles: fitted floors, the cascade's threshold, the baseline's bundle."""
    made, bundles, data = row_inputs(recipe, root), bundle_paths(recipe, root), root / "data"
    steps = [_floor_step(recipe, root, floor) for floor in recipe.floors()]
    if cascade := recipe.cascade:

        def calibration() -> tuple[Stage, Work]:
            from pipeline.calibration import calibration_stage

            return calibration_stage(cascade, root)

        steps.append(Step("rows", made["calibration"], (data, *bundles.values()), calibration))
    if earlier := recipe.baseline:

        def baseline() -> tuple[Stage, Work]:
            from pipeline.baseline import baseline_stage

            return baseline_stage(earlier, root)

        steps.append(Step("rows", made["baseline"], (data,), baseline))
    return steps


def _floor_step(recipe: Recipe, root: Path, floor: Floor) -> Step:
    first = next(iter(model_paths(recipe, root).values()))

    def make() -> tuple[Stage, Work]:
        from pipeline.floor_fit import floor_stage

        return floor_stage(floor, recipe, root)

    return Step("rows", row_inputs(recipe, root)[f"floor:{floor}"], (root / "data", first), make)


def _evaluate_step(recipe: Recipe, root: Path) -> Step:
    def make() -> tuple[Stage, Work]:
        from pipeline.evaluate import evaluate_stage

        return evaluate_stage(recipe, root)

    return Step("evaluate", root / "evaluation", _measured(recipe, root), make)


def _bench_step(recipe: Recipe, root: Path) -> Step:
    def make() -> tuple[Stage, Work]:
        from pipeline.bench import bench_stage

        return bench_stage(recipe, root)

    return Step("bench", root / "benchmark", _measured(recipe, root), make)


def _report_step(recipe: Recipe, root: Path) -> Step:
    def make() -> tuple[Stage, Work]:
        from pipeline.report import report_stage

        return report_stage(recipe, root)

    return Step("report", root / "report", (root / "evaluation", root / "benchmark"), make)


def _selection_steps(recipe: Recipe, root: Path) -> list[Step]:
    def make() -> tuple[Stage, Work]:
        from pipeline.selection import selection_stage

        return selection_stage(recipe, root)

    chooses = service_path(recipe, root) == root / SELECTION
    return [Step("package", root / SELECTION, (root / "evaluation",), make)] if chooses else []


def _package_step(recipe: Recipe, root: Path) -> Step:
    bundles, service = bundle_paths(recipe, root), service_path(recipe, root)

    def make() -> tuple[Stage, Work]:
        from serve.package import package_stage

        return package_stage(bundles, recipe.candidate, root / "package", service=service)

    needed = (*bundles.values(), *([service] if service else []))
    return Step("package", root / "package", needed, make)


def _measured(recipe: Recipe, root: Path) -> tuple[Path, ...]:
    return tuple(measured_inputs(recipe, root).values())
