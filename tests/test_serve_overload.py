"""An overload: what waits is cut short, what comes finds a short queue, and it ends when few are sent away."""

import asyncio

import pytest
from test_serve_batching import Sums

from serve.batching.crew import Crew
from serve.batching.lane import ModelLane
from serve.batching.overload import FIRST_TRIAL_SECONDS, WATCHED_SECONDS, Overload
from serve.batching.pace import FEW_RUNS, Pace
from serve.limits import Limits
from serve.metrics import Metrics
from serve.problem import Problem


class Clock:
    """Goes on only when told."""

    def __init__(self) -> None:
        self.seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


LIMITS = Limits(queue_tokens=100_000, queue_seconds=20, overload_seconds=4)
SHORT, TRIED, LONG = 4, 5, 20
"""Seconds that may wait: in an overload, when a longer queue is tried, and else."""


def see(overload: Overload, clock: Clock, *, seconds: float, refused_of_ten: int) -> list[float]:
    """A hundred requests a second, of each ten the first so many refused; what might wait, at each, without repeats."""
    waits: list[float] = []
    for number in range(round(100 * seconds)):
        clock.seconds += 0.01
        if (wait := overload.longest_wait(LIMITS)) not in waits[-1:]:
            waits.append(wait)
        overload.refuse() if wait != LONG and number % 10 < refused_of_ten else overload.admit()
    return waits


def test_an_overload_lasts_while_many_are_refused():
    """Oracle: the rule; nothing is counted before the first refusal."""
    clock = Clock()
    overload = Overload(clock)
    assert see(overload, clock, seconds=3, refused_of_ten=9) == [LONG]
    assert overload.refuse()
    assert not overload.refuse()
    assert see(overload, clock, seconds=5, refused_of_ten=5) == [SHORT]
    assert see(overload, clock, seconds=2 * WATCHED_SECONDS, refused_of_ten=2) == [SHORT, LONG]
    assert overload.refuse()


def test_an_overload_nobody_asks_in_is_over():
    """Oracle: the rule again; a refusal long ago says nothing."""
    clock = Clock()
    overload = Overload(clock)
    overload.refuse()
    clock.seconds += WATCHED_SECONDS * 0.9
    assert overload.longest_wait(LIMITS) == SHORT
    clock.seconds += WATCHED_SECONDS
    assert overload.longest_wait(LIMITS) == LONG


def test_a_longer_queue_is_tried_ever_more_seldom():
    """Oracle: trials after 10, 20, 40, … 300 s, each ended by the first refusal, which cuts short what waits."""
    clock = Clock()
    overload = Overload(clock)
    begun, end = clock.seconds, clock.seconds + 2000
    assert overload.refuse()
    trials: list[float] = []
    while clock.seconds < end:
        clock.seconds += 0.05
        tried = overload.longest_wait(LIMITS) == TRIED
        assert overload.refuse() is tried
        if tried:
            trials.append(clock.seconds - begun)
            begun = clock.seconds
    assert trials == pytest.approx([10, 20, 40, 80, 160, 300, 300, 300, 300, 300], abs=0.2)


def test_few_who_do_not_wait_are_let_in_by_the_trial():
    """Oracle: refused without end until the longer queue holds them all; then none is, and the next overload is new."""
    clock = Clock()
    overload = Overload(clock)
    overload.refuse()
    assert see(overload, clock, seconds=FIRST_TRIAL_SECONDS - 0.05, refused_of_ten=9) == [SHORT]
    assert see(overload, clock, seconds=WATCHED_SECONDS + 0.2, refused_of_ten=0) == [SHORT, TRIED, LONG]
    assert overload.refuse()
    assert see(overload, clock, seconds=FIRST_TRIAL_SECONDS - 0.05, refused_of_ten=9) == [SHORT]


@pytest.mark.parametrize(("runs", "expected"), [(FEW_RUNS - 1, 0.0), (FEW_RUNS, 0.5), (200, 0.5)])
def test_a_pace_is_known_after_some_runs(runs, expected):
    pace = Pace()
    for number in range(runs):
        pace.learn(0.5 * (number % 7 + 1), number % 7 + 1)
    assert pace.seconds_per_token == pytest.approx(expected)


def test_one_short_run_that_was_held_up_counts_for_little():
    """Oracle: nine runs of 100 tokens at 1 ms each and one token that took 50: 95 of 901 tokens' time, and no 6 ms."""
    pace = Pace()
    pace.learn(0.05, 1)
    for _ in range(9):
        pace.learn(0.1, 100)
    assert pace.seconds_per_token < 0.0012


async def overloaded(engine: Sums, clock: Clock):
    """A lane that learnt a second a token, its one thread held by a text of three, with others of six waiting."""
    crew = Crew(1)
    crew.overload = Overload(clock)
    lane = ModelLane(engine, crew, LIMITS, Metrics())
    for _ in range(FEW_RUNS):
        lane.pace.learn(1.0, 1)
    held = asyncio.create_task(lane.run(["???"]))
    await asyncio.to_thread(engine.started.wait, 20)
    waiting = [asyncio.create_task(lane.run([letter * 6])) for letter in "abc"]
    await asyncio.sleep(0)
    return crew, lane, held, waiting


def run(work) -> Sums:
    """`work` with an engine, a clock, and what `overloaded` makes; the crew is closed whatever happens."""

    async def main() -> Sums:
        engine, clock = Sums(), Clock()
        crew, lane, held, waiting = await overloaded(engine, clock)
        try:
            await work(engine, clock, lane, held, waiting)
        finally:
            engine.release.set()
            await asyncio.to_thread(crew.close)
        return engine

    return asyncio.run(main())


async def refused(task) -> Problem:
    with pytest.raises(Problem, match="overloaded") as problem:
        await task
    assert problem.value.status == 429
    assert problem.value.headers == {"Retry-After": problem.value.headers["Retry-After"]}
    return problem.value


def test_what_waits_is_cut_short_when_an_overload_begins():
    """Oracle: 21 s wait where 20 may: the latest go until 4 are left, the one that runs and those begun stay."""

    async def work(engine, _clock, lane, held, waiting):
        assert lane.queued_tokens == 21
        await refused(lane.run(["more"]))
        done, _ = await asyncio.wait(waiting, timeout=0.1)
        assert done == set(waiting)  # 17 of 18 s had to go: that is all three
        for task in waiting:
            await refused(task)
        engine.release.set()
        assert (await held).outputs.logits.tolist() == [[3 * ord("?")]]

    assert run(work).runs == [["???"]]


def test_in_an_overload_little_may_wait_and_the_threads_stay_busy():
    """Oracle: one request computed and one waiting, whatever they cost; no third; once it is over, as before."""

    async def work(engine, clock, lane, held, waiting):
        await refused(lane.run(["more"]))
        await asyncio.gather(*waiting, return_exceptions=True)
        kept = asyncio.create_task(lane.run(["x" * 7]))  # one for the thread to go on with, dear as it is
        await asyncio.sleep(0)
        await refused(lane.run(["y"]))
        with pytest.raises(Problem):
            lane.refuse_when_full()  # before a body is read
        engine.release.set()
        await asyncio.gather(held, kept)
        assert (await lane.run(["z"])).outputs.tokens.tolist() == [1]
        clock.seconds += 2 * WATCHED_SECONDS
        engine.release.clear()
        engine.started.clear()
        again = asyncio.create_task(lane.run(["??"]))
        await asyncio.to_thread(engine.started.wait, 20)
        after = [asyncio.create_task(lane.run([letter * 6])) for letter in "de"]
        await asyncio.sleep(0)
        engine.release.set()
        await asyncio.gather(again, *after)

    assert run(work).runs[:3] == [["???"], ["x" * 7], ["z"]]


def test_a_model_that_is_gone_sheds_nothing():
    """Oracle: a lane that was swapped for another leaves the crew's other posts to be asked."""

    async def work(_engine, _clock, lane, _held, waiting):
        other = ModelLane(Sums(), lane._crew, LIMITS, Metrics())
        del other
        await refused(lane.run(["more"]))
        assert all(isinstance(each, Problem) for each in await asyncio.gather(*waiting, return_exceptions=True))

    run(work)
