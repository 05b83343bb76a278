"""Candidates against the clock and on the scales: rounds in one process, memory in one each."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from pipeline.plan_config import PlanConfig
from pipeline.plan_engine import Opening, measure_memory, staying, take_turn
from pipeline.processes import own_processes, work_all
from pipeline.recipe import BenchConfig
from serve.measure_plan import Round, Workload, take_turns
from serve.threads import available_cores


def make_plan_workload(config: PlanConfig, texts: list[str]) -> Workload:
    """The texts of a plan and their rounds, one batch in each; `DataError` when there is no text."""
    from pipeline.bench import make_workload

    shared = BenchConfig.model_fields.keys() & PlanConfig.model_fields.keys() - {"threads"}
    return replace(make_workload(BenchConfig(**config.model_dump(include=shared)), texts), batches_per_round=1)


def race_all(openings: Mapping[str, Opening], workload: Workload) -> dict[str, tuple[Round, ...]]:
    """Every round of each opening: all in one process, one at a time, in random order in every round."""
    stays = staying({name: opening.size_bytes for name, opening in openings.items()})
    with own_processes(1) as pool:
        return take_turns(
            list(openings),
            workload,
            lambda name, task: pool.submit(take_turn, openings[name], task, stays=name in stays).result(),
            lambda _name, _round: None,  # nothing to go on from: a plan that was cut short begins anew
            "measure candidates",
        )


def weigh_all(openings: Mapping[str, Opening], workload: Workload) -> dict[str, int]:
    """Peak resident bytes of each opening, alone in a process that takes one turn.

    As many at a time as there are cores: memory, unlike time, does not depend on who else is at work.
    """
    peaks = work_all(
        partial(measure_memory, task=workload.task(0)), list(openings.values()),
        processes=available_cores(), description="weigh candidates", lives=1,
    )  # fmt: skip
    return dict(zip(openings, peaks, strict=True))
