"""Runs steps in order, says what it does and how long it took, and stops at the first fault."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifact.errors import ArtifactError
from artifact.manifest import Manifest
from artifact.progress import say
from artifact.stage import Stage, State, find_state, request_of, run_stage
from pipeline.stages import Step
from pipeline.team import agree, help_train, is_helper


def run_steps(steps: Sequence[Step], *, force: bool) -> list[Manifest]:
    """The manifests of all steps, each skipped when fresh; whatever a step raises is raised. A helper has none."""
    if is_helper():
        for step in steps:
            help_train(step)
        return []
    return [run_step(step, force=force) for step in steps]


def run_step(step: Step, *, force: bool) -> Manifest:
    """The sealed output of one step."""
    begun = time.monotonic()
    stage, work = step.make()
    states: list[State] = []

    def announce(state: State) -> None:
        states.append(state)
        if state is not State.FRESH:
            say(f"· {_title(step)} {_verb(state, stage)}")
        elif step.command == "distill":
            agree(trains=False)

    def lead(directory: Path) -> Mapping[str, Any]:
        if step.command == "distill":
            agree(trains=True)
        return work(directory)

    manifest = run_stage(stage, lead, force=force, announce=announce)
    done = "fresh" if states == [State.FRESH] else f"{time.monotonic() - begun:.1f} s"
    say(f"✓ {_title(step)}  {done}  {manifest.digest[:12]}")
    return manifest


def plan_lines(steps: Sequence[Step]) -> list[str]:
    """What would run, a line a step: its state, or what it waits for."""
    lines, stale = [], set()
    for step in steps:
        waits = [need for need in step.needs if need in stale]
        state = "after the steps above" if waits else _state_of(step)
        if state != State.FRESH.value:
            stale.add(step.out)
        lines.append(f"{step.command:10} {step.out}  {state}")
    return lines


def _verb(state: State, stage: Stage) -> str:
    if state is not State.INTERRUPTED:
        return "begins"
    return "goes on" if stage.can_go_on else "begins again: what was interrupted had nothing yet to go on from"


def _state_of(step: Step) -> str:
    try:
        stage, _ = step.make()
        request, _ = request_of(stage)
        return find_state(step.out, request).value
    except ArtifactError as error:
        return error.problem.splitlines()[0]


def _title(step: Step) -> str:
    return f"{step.command:11}{step.out}"
