"""What the recipe commands do once their options are parsed."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from artifact.progress import console, say
from pipeline.plan import make_plan, plan_steps
from pipeline.recipe import Recipe, load_recipe
from pipeline.runner import plan_lines, run_steps
from pipeline.stages import Step, bundle_paths, model_paths, service_path, steps_of
from pipeline.team import check_command


def run_recipe(path: Path, overrides: Sequence[str], command: str, *, out: Path | None, force: bool, plan: bool) -> int:
    """Run one stage of a recipe, or all for `run`; returns the exit code, after `run` the gate's."""
    check_command(command)
    recipe = load_recipe(path, overrides)
    root = out or Path("out") / recipe.name
    steps = _steps(recipe, root, command)
    if plan:
        sys.stdout.write(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        sys.stdout.write("\n" + "".join(f"# {line}\n" for line in plan_lines(steps)))
        return 0
    if command == "run":
        return _run_all(recipe, root, force=force)
    if command == "plan":
        sys.stdout.write(json.dumps(make_plan(recipe, root, force=force)) + "\n")
        return 0
    manifests = run_steps(steps, force=force)
    if command in ("evaluate", "bench"):
        sys.stdout.write(json.dumps(manifests[-1].facts) + "\n")
    return 0


def _steps(recipe: Recipe, root: Path, command: str) -> list[Step]:
    if command == "plan":
        return plan_steps(recipe, root)
    steps = steps_of(recipe, root)
    if command == "run":
        return steps
    # Data, vocabularies and what rows are made of are no commands of their own: whoever first reads them makes them.
    before = {"distill": ("data", "vocabulary"), "evaluate": ("rows",), "bench": ("rows",)}
    wanted = (*before.get(command, ()), command)
    return [step for step in steps if step.command in wanted]


def _run_all(recipe: Recipe, root: Path, *, force: bool) -> int:
    """Everything; a failed gate builds no Bento."""
    from pipeline.gate import EXIT_CODES, read_report
    from pipeline.table import terminal_table

    steps = steps_of(recipe, root)
    run_steps([step for step in steps if step.command != "package"], force=force)
    if not recipe.deployed():
        models = {name: str(path) for name, path in model_paths(recipe, root).items()}
        sys.stdout.write(json.dumps({"models": models}) + "\n")
        return 0
    report = read_report(root / "report")
    if report.verdict != "fail":
        run_steps([step for step in steps if step.command == "package"], force=force)
    console.print(terminal_table(report))
    say(f"page     {root / 'report' / 'report.html'}")
    if report.verdict != "fail":
        bundles = " ".join(str(bundle) for bundle in bundle_paths(recipe, root).values())
        service = service_path(recipe, root)
        config = f" --config {service / 'service.yaml'}" if service is not None else ""
        say(f"next     understudy serve {bundles} --default {recipe.candidate}{config}")
    sys.stdout.write(json.dumps({"verdict": report.verdict, "report": str(root / "report" / "report.json")}) + "\n")
    return EXIT_CODES[report.verdict]
