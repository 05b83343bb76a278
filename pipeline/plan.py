"""`understudy plan RECIPE`: which student shapes fit the budget on this machine, before any training.

    out/demo/   data/  candidates/ (every sample)  plan/ (the conclusion: plan.json, plan.html, summary.md)

Samples and conclusion are two artefacts, so that another budget is answered at once, from the samples there are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from artifact.config import Config
from artifact.errors import ArtifactError
from artifact.manifest import write_json
from artifact.progress import console, say
from artifact.stage import Stage, Work
from pipeline.plan_config import Budget
from pipeline.plan_records import Measurements, Plan
from pipeline.recipe import Recipe
from pipeline.runner import run_step
from pipeline.stages import Step, steps_of

VERSION = 1

Record = TypeVar("Record", bound=Config)


class PlanRequest(Config):
    """What is concluded from the samples."""

    recipe: str
    budget: Budget


def plan_steps(recipe: Recipe, root: Path) -> list[Step]:
    """Data, candidates, plan: what each reads is what the one before it sealed."""
    data = [step for step in steps_of(recipe, root) if step.command == "data"]
    return [*data, _candidates_step(recipe, root), _plan_step(recipe, root)]


def make_plan(recipe: Recipe, root: Path, *, force: bool) -> dict[str, Any]:
    """Run what is not fresh, show the table on stderr, and return the conclusion for stdout.

    Raises `ConfigError` when there is a budget that no shape fits; the plan is sealed all the same.
    """
    from pipeline.plan_budget import check_budget
    from pipeline.plan_table import plan_table

    *before, last = plan_steps(recipe, root)
    for step in before:
        run_step(step, force=force)
    run_step(last, force=True)  # a conclusion costs a second: one from another budget is not worth keeping
    plan = read_plan(root / "plan")
    console.print(plan_table(plan))
    if plan.start is not None:
        say(plan.start.rstrip())  # not in the table, which would wrap it
    say(f"page     {root / 'plan' / 'plan.html'}")
    check_budget(plan, str(root / "plan" / "summary.md"))
    rows = [row.model_dump(mode="json", exclude={"candidate"}) | row.candidate.model_dump() for row in plan.rows]
    return {
        "plan": str(root / "plan" / "plan.json"),
        "budget": plan.budget.model_dump(exclude_none=True),
        "largest": plan.largest,
        "start": plan.start,
        "fits": [row.row for row in plan.rows if row.verdict == "pass"],
        "rows": rows,
        "machine": plan.measured.machine,
    }


def read_plan(directory: Path) -> Plan:
    """The plan in `directory`; `ArtifactError` when it does not read."""
    return _read(Plan, directory / "plan.json")


def run_plan(config: PlanRequest, samples: Path, out: Path) -> Mapping[str, Any]:
    """Write `plan.json`, `plan.html` and `summary.md` to `out` from the samples; returns what was concluded."""
    from pipeline.plan_budget import conclude
    from pipeline.plan_measure import FILE
    from pipeline.plan_page import render_page, render_summary

    plan = conclude(_read(Measurements, samples / FILE), config.budget, config.recipe)
    write_json(out / "plan.json", plan.model_dump(mode="json"))
    (out / "plan.html").write_text(render_page(plan), encoding="utf-8")
    (out / "summary.md").write_text(render_summary(plan), encoding="utf-8")
    verdicts = [row.verdict for row in plan.rows if row.verdict is not None]
    return {
        "largest": plan.largest,
        "verdicts": {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)},
    }


def _candidates_step(recipe: Recipe, root: Path) -> Step:
    def make() -> tuple[Stage, Work]:
        from pipeline.plan_measure import candidates_stage

        return candidates_stage(recipe, root)

    return Step("plan", root / "candidates", (root / "data",), make)


def _plan_step(recipe: Recipe, root: Path) -> Step:
    def make() -> tuple[Stage, Work]:
        config, samples = PlanRequest(recipe=recipe.name, budget=recipe.budget), root / "candidates"
        stage = Stage(
            name="plan", version=VERSION, kind="plan", out=root / "plan", config=config, inputs={"candidates": samples}
        )
        return stage, lambda out: run_plan(config, samples, out)

    return Step("plan", root / "plan", (root / "candidates",), make)


def _read(kind: type[Record], path: Path) -> Record:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} cannot be read: {str(error).splitlines()[0]}", "plan again with --force") from None
