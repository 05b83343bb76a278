"""Many requests in few runs: every answer is its own, whoever shares the run, whatever fails or hangs up."""

import asyncio
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_bundles import make_bundle

from serve.batching.crew import Crew
from serve.batching.cut import RUN_TOKENS, cut
from serve.batching.lane import ModelLane
from serve.batching.pace import FEW_RUNS
from serve.batching.schedule import AGE_SECONDS, WINDOW_ROWS, Schedule
from serve.batching.ticket import Ticket
from serve.engine import Computed, Tokens
from serve.limits import Limits
from serve.metrics import Metrics
from serve.problem import Problem
from serve.runtime import Runtime

LIMITS = Limits(queue_tokens=100_000, queue_seconds=1000)
FIXED = settings(deadline=None, derandomize=True, max_examples=60)


def cost_of(lengths: Sequence[int], runs: Sequence[range], run_tokens: int = RUN_TOKENS) -> int:
    return sum(len(run) * max(lengths[place] for place in run) + run_tokens for run in runs)


@FIXED
@given(st.lists(st.integers(1, 40), max_size=9).map(sorted), st.integers(1, 80), st.integers(0, 30))
def test_the_cut_costs_least(lengths, budget, run_tokens):
    """Oracle: every way to cut a list, tried."""
    runs = cut(lengths, budget, run_tokens)
    assert [place for run in runs for place in run] == list(range(len(lengths)))
    assert all(len(run) * lengths[run[-1]] <= budget or len(run) == 1 for run in runs)
    if not lengths:
        return
    ways = []
    for marks in itertools.product((False, True), repeat=len(lengths) - 1):
        edges = [0, *(place for place, mark in enumerate(marks, start=1) if mark), len(lengths)]
        way = [range(*pair) for pair in itertools.pairwise(edges)]
        if all(len(run) * lengths[run[-1]] <= budget or len(run) == 1 for run in way):
            ways.append(cost_of(lengths, way, run_tokens))
    assert cost_of(lengths, runs, run_tokens) == min(ways)


def ticket_of(lengths: Sequence[int], arrived: float = 0.0) -> Ticket:
    none = np.zeros(len(lengths), dtype=bool)
    return Ticket(Tokens(encodings=[], lengths=np.array(lengths), truncated=none, seconds=0.0), arrived)


@FIXED
@given(st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=80), min_size=1, max_size=8), st.integers(1, 3))
def test_every_row_is_dealt_once(requests, threads):
    """Oracle: the rows themselves; no run over the budget but for a row that is longer alone."""
    schedule, dealt = Schedule(512), []
    tickets = [ticket_of(lengths, float(number)) for number, lengths in enumerate(requests)]
    for ticket in tickets:
        schedule.add(ticket)
    while places := schedule.take(100.0, threads):
        widest = max(place.tokens for place in places)
        assert len(places) == 1 or len(places) * widest <= 512
        assert len(places) <= WINDOW_ROWS
        dealt += [(id(place.ticket), place.row) for place in places]
    assert sorted(dealt) == sorted((id(t), row) for t in tickets for row in range(len(t.tokens.lengths)))


def test_short_texts_go_first_until_a_long_one_has_waited():
    """Oracle: the rule. Before its age the long text is overtaken, after it it is not."""
    for now, first in ((AGE_SECONDS / 2, 5), (AGE_SECONDS, 300)):
        schedule = Schedule(512)
        schedule.add(ticket_of([300], 0.0))
        schedule.add(ticket_of([5], 0.001))
        assert [place.tokens for place in schedule.take(now, 1)] == [first]


def test_a_large_request_does_not_shut_out_a_small_one():
    """Oracle: the small request, which came later, is in the first run beside a share of the large one."""
    schedule = Schedule(512)
    schedule.add(ticket_of([20] * 500))
    small = ticket_of([20])
    schedule.add(small)
    assert small in [place.ticket for place in schedule.take(0.0, 1)]


def test_threads_share_the_rows():
    """Oracle: four texts that would fit one run, two threads and then one: two runs of two."""
    schedule = Schedule(512)
    schedule.add(ticket_of([60] * 4))
    assert [len(schedule.take(0.0, idle)) for idle in (2, 1)] == [2, 2]


@dataclass
class Sums:
    """An engine whose answer is the sum of a text's code points; a text with `!` fails, `?` holds it until released."""

    name: str = "sums/float32"
    labels: Sequence[str] = ("sum",)
    embedding_size: int = 0
    problem: str | None = "regression"
    max_tokens: int = 100
    pooling: str = "mean"
    batch_tokens: int = 64
    release: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    runs: list[list[str]] = field(default_factory=list)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        lengths = np.array([max(1, len(text)) for text in texts], dtype=np.int64)
        return Tokens(encodings=texts, lengths=lengths, truncated=np.zeros(len(texts), dtype=bool), seconds=0.0)

    def compute(self, encodings: Sequence[str], *, wide: bool) -> Computed:  # noqa: ARG002
        self.runs.append(list(encodings))
        self.started.set()
        if any("?" in text for text in encodings):
            self.release.wait(20)
        if any("!" in text for text in encodings):
            raise ArithmeticError("no sum")
        return {"logits": [np.array([sum(map(ord, text))], dtype=np.float32) for text in encodings]}

    def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[object]]:  # noqa: ARG002
        return [[] for _ in texts]


async def with_lane(engine, threads: int, work):
    crew = Crew(threads)
    try:
        return await work(ModelLane(engine, crew, LIMITS, Metrics()))
    finally:
        await asyncio.to_thread(crew.close)


TEXT = st.text(alphabet="abcdefgh", max_size=30)


@st.composite
def request(draw):
    texts = draw(st.lists(TEXT, min_size=1, max_size=12))
    if fault := draw(st.booleans()) and draw(st.integers(0, 3)) == 0:
        texts[draw(st.integers(0, len(texts) - 1))] = "!"
    return texts, bool(fault), draw(st.integers(0, 4)) == 0, draw(st.integers(0, 3))


@FIXED
@given(st.lists(request(), min_size=1, max_size=15), st.integers(1, 3))
def test_every_answer_is_its_own(requests, threads):
    """Oracle: each text's sum. Arrivals are spread, some requests fail, some are cancelled; nobody else notices."""

    async def work(lane):
        async def ask(texts, turns):
            for _ in range(turns):
                await asyncio.sleep(0)
            return await lane.run(texts)

        tasks = [asyncio.create_task(ask(texts, turns)) for texts, _, _, turns in requests]
        await asyncio.sleep(0)
        for task, (_, _, cancelled, _) in zip(tasks, requests, strict=True):
            if cancelled:
                task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert lane.queued_tokens == 0
        return answers

    answers = asyncio.run(with_lane(Sums(), threads, work))
    for answer, (texts, fault, cancelled, _) in zip(answers, requests, strict=True):
        if cancelled:
            assert isinstance(answer, asyncio.CancelledError)
        elif fault:
            assert isinstance(answer, ArithmeticError)
        else:
            assert answer.outputs.logits[:, 0].tolist() == [sum(map(ord, text)) for text in texts]
            assert answer.outputs.tokens.tolist() == [max(1, len(text)) for text in texts]


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.lists(st.lists(st.sampled_from(["wake me", "play some jazz", "", "will it rain at seven " * 4]), min_size=1,
                         max_size=6), min_size=1, max_size=10))  # fmt: skip
def test_answers_of_a_model_do_not_depend_on_company(runtime, requests):
    """Oracle: the runtime, one text at a time, within float32's rounding."""

    async def work(lane):
        return await asyncio.gather(*(lane.run(texts) for texts in requests))

    for answer, texts in zip(asyncio.run(with_lane(runtime, 2, work)), requests, strict=True):
        alone = np.concatenate([runtime.run([text]).logits for text in texts])
        np.testing.assert_allclose(answer.outputs.logits, alone, atol=1e-5)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Runtime:
    return Runtime.open(make_bundle(tmp_path_factory.mktemp("batching") / "b"), "float32", threads=1)


def test_requests_that_wait_share_runs():
    """Oracle: while one text is held on the only thread, ten others come, and all go in one run after it."""
    engine = Sums()

    async def work(lane):
        held = asyncio.create_task(lane.run(["?"]))
        await asyncio.to_thread(engine.started.wait, 20)
        others = [asyncio.create_task(lane.run(["ab"])) for _ in range(10)]
        await asyncio.sleep(0)
        engine.release.set()
        await asyncio.gather(held, *others)

    asyncio.run(with_lane(engine, 1, work))
    assert engine.runs == [["?"], ["ab"] * 10]


def test_cancelled_requests_are_never_run():
    """Oracle: the engine's own record of what it ran."""
    engine = Sums()

    async def work(lane):
        held = asyncio.create_task(lane.run(["?"]))
        await asyncio.to_thread(engine.started.wait, 20)
        unwanted = asyncio.create_task(lane.run(["unwanted"]))
        await asyncio.sleep(0)
        unwanted.cancel()
        await asyncio.gather(unwanted, return_exceptions=True)
        engine.release.set()
        await held
        await lane.run(["after"])

    asyncio.run(with_lane(engine, 1, work))
    assert engine.runs == [["?"], ["after"]]


def test_what_waits_is_bounded_in_seconds():
    """Oracle: a lane that learnt a second a token refuses what would wait longer, and says how long to stay away."""
    engine, limits = Sums(), Limits(queue_tokens=100_000, queue_seconds=5)

    async def work(lane):
        lane._limits = limits
        for _ in range(FEW_RUNS):
            lane.pace.learn(1.0, 1)
        held = asyncio.create_task(lane.run(["?" * 12]))
        await asyncio.to_thread(engine.started.wait, 20)
        with pytest.raises(Problem, match="overloaded") as refused:
            await lane.run(["more"])
        engine.release.set()
        await held
        assert (await lane.run(["after"])).outputs.tokens.tolist() == [5]
        return refused.value

    refused = asyncio.run(with_lane(engine, 1, work))
    assert (refused.status, refused.headers) == (429, {"Retry-After": "12"})
