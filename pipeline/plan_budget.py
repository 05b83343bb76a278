"""Which candidates fit the budget, which is the largest that does, and how far the nearest is from fitting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from artifact.errors import ConfigError
from pipeline.plan_config import Budget
from pipeline.plan_records import Measurements, Plan, PlanRow
from pipeline.plan_shapes import start_block
from pipeline.results import Interval, Verdict
from pipeline.statistics import median_of_rounds
from pipeline.table import exact

RESAMPLES = 2_000
"""Draws for each interval: there are hundreds, and the end of one moves by less than a fiftieth of its width."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One number that a budget can limit."""

    field: Literal["p50_ms", "texts_per_s", "size_mb", "peak_rss_mb"]
    words: str
    at_least: bool
    read: Callable[[PlanRow], Interval]


LIMITS = (
    Limit(field="p50_ms", words="p50 in ms", at_least=False, read=lambda row: row.p50_ms),
    Limit(field="texts_per_s", words="texts/s", at_least=True, read=lambda row: row.texts_per_s),
    Limit(field="size_mb", words="size in MB", at_least=False, read=lambda row: exact(row.size_mb)),
    Limit(field="peak_rss_mb", words="memory in MB", at_least=False, read=lambda row: exact(row.peak_rss_mb)),
)


@dataclass(frozen=True)
class Excess:
    """A number as a multiple of its limit, above 1 when it breaks it: at the good and the bad end of its interval."""

    limit: Limit
    bound: float
    best: float
    worst: float


def conclude(measured: Measurements, budget: Budget, recipe: str) -> Plan:
    """The plan: a row for each candidate and precision, the largest first, and the largest that fits."""
    precisions = list(dict.fromkeys(name.partition("/")[2] for name in measured.rows))
    rows = [_row(measured, budget, name) for name in measured.rows]
    rows.sort(key=lambda row: (-row.transformer, -row.embedding, precisions.index(row.precision)))
    largest = next((row for row in rows if row.verdict == "pass"), None)
    return Plan(
        recipe=recipe,
        budget=budget,
        rows=tuple(rows),
        largest=largest and largest.row,
        start=largest and start_block(largest.candidate, measured.teacher),
        measured=measured,
    )


def excesses(row: PlanRow, budget: Budget) -> list[Excess]:
    """`row` against each limit that the budget sets."""
    found = []
    for limit in LIMITS:
        bound = getattr(budget, limit.field)
        if bound is not None:
            value = limit.read(row)
            ends = (
                (bound / value.high, bound / value.low) if limit.at_least else (value.low / bound, value.high / bound)
            )
            found.append(Excess(limit, bound, *ends))
    return found


def judge_row(row: PlanRow, budget: Budget) -> Verdict | None:
    """Pass when the whole interval of every number keeps its limit, fail when that of any breaks it."""
    found = excesses(row, budget)
    if not found:
        return None
    if any(excess.best > 1 for excess in found):
        return "fail"
    return "inconclusive" if any(excess.worst > 1 for excess in found) else "pass"


def check_budget(plan: Plan, where: str) -> None:
    """`ConfigError` when there is a budget that no row surely fits, naming the nearest row and what it misses."""
    if plan.largest is not None or not any(row.verdict for row in plan.rows):
        return
    row = nearest(plan.rows, plan.budget)
    misses = "; ".join(_miss(row, excess) for excess in excesses(row, plan.budget) if excess.worst > 1)
    surely = "surely " if any(row.verdict == "inconclusive" for row in plan.rows) else ""
    raise ConfigError(
        f"no shape {surely}fits the budget; nearest is {row.row}: {misses}",
        f"allow more under `budget`, or plan smaller shapes under `plan`; all {len(plan.rows)} rows are in {where}",
    )


def nearest(rows: Sequence[PlanRow], budget: Budget) -> PlanRow:
    """The row whose worst number is least beyond its limit."""
    return min(rows, key=lambda row: max(excess.worst for excess in excesses(row, budget)))


def _miss(row: PlanRow, excess: Excess) -> str:
    limit = excess.limit
    value = limit.read(row)
    spread = f" [{value.low:.3g}, {value.high:.3g}]" if value.low < value.high else ""
    beyond = 100 * (excess.worst - 1)
    by = f"{beyond:.1f}" if beyond < 10 else f"{beyond:,.0f}"
    return f"{limit.words} {value.value:.3g}{spread}, wanted {words_of(limit, excess.bound)}, {by} % beyond"


def words_of(limit: Limit, bound: float) -> str:
    """A limit as it reads: `at most 3`."""
    return f"{'at least' if limit.at_least else 'at most'} {bound:g}"


def _row(measured: Measurements, budget: Budget, name: str) -> PlanRow:
    shape, _, precision = name.partition("/")
    speed, counts = measured.rows[name], measured.parameters[shape]
    row = PlanRow.model_validate({
        "row": name,
        "candidate": next(candidate for candidate in measured.candidates if candidate.name == shape),
        "precision": precision,
        "form": measured.forms[name]["chosen"],
        "transformer": counts["transformer"],
        "embedding": counts["embedding"],
        "p50_ms": median_of_rounds(speed.single_ms, seed=1, resamples=RESAMPLES),
        "texts_per_s": median_of_rounds(speed.batch_texts_per_second, seed=1, resamples=RESAMPLES),
        "size_mb": speed.size_bytes / 1e6,
        "peak_rss_mb": speed.peak_memory_bytes / 1e6,
        "verdict": None,
    })  # fmt: skip
    return row.model_copy(update={"verdict": judge_row(row, budget)})
