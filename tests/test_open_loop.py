"""The load generator: its client on sockets, its loops and sweeps against a queue on a simulated clock, exactly."""

import asyncio
import gc
from collections.abc import Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from simulated import Queue, SimulatedLoop, simulate

from artifact.errors import BenchError
from serve.load.client import (
    BROKEN,
    Address,
    Line,
    Reply,
    ask_once,
    dial,
    make_request,
    read_head,
    take_body,
)
from serve.load.clock import run_on_time
from serve.load.histogram import count_buckets
from serve.load.loops import Arrived, Pool, closed_loop, closed_loop_for, open_loop, poisson_schedule
from serve.load.rate import INTERRUPTED, TOO_FEW, Limits, Point
from serve.load.sweep import SweepConfig, choose_rate, judge, sweep_rates
from serve.load.texts import WORDS, draw_lengths, make_plain_texts

SOMEWHERE = Address(1)
REQUEST = make_request("/embed", {"inputs": "a"})


class Sink(asyncio.Transport):
    """A connection whose other end is the test."""

    def write(self, data):
        self.written = data

    def close(self):
        pass


class Echo(asyncio.Protocol):
    """Answers each request with its own body; after so many it hangs up."""

    def __init__(self, answers):
        self.answers, self.received = answers, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            length = read_head(b"X 200 \r\n" + head).length_bytes
            if len(rest) < length:
                return
            self.received = rest[length:]
            self.transport.write(answer_of(rest[:length]))
            self.answers -= 1
            if not self.answers:
                self.transport.close()
                return


def answer_of(body):
    return b"HTTP/1.1 200 OK\r\nX-Model: one\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def echoing(answers=0):
    """The port of such a service."""
    server = await asyncio.get_running_loop().create_server(lambda: Echo(answers), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("piece", [1000, 1, 7])
def test_the_client_reads_an_answer_however_it_arrives(piece):
    """Oracle: the bodies of the answers, over one connection, by bytes, in pieces, and whole."""
    bodies = [b"", b"{}", b"x" * 300, b"\r\n\r\n"]

    async def ask() -> list[Reply]:
        line, replies = Line(), []
        line.connection_made(Sink())
        for body in bodies:
            coming, answer = line.ask(b"question"), answer_of(body)
            for start in range(0, len(answer), piece):
                assert not coming.done()
                line.data_received(answer[start : start + piece])
            replies.append(await coming)
        return replies

    replies = asyncio.run(ask())
    assert [reply.body for reply in replies] == bodies
    assert {reply.status for reply in replies} == {200}
    assert {reply.header("x-model") for reply in replies} == {"one"}
    assert all(reply.sent <= reply.ended for reply in replies)


def test_a_connection_that_ends_is_told_from_an_answer():
    """Oracle: a service that hangs up after two answers, and a port that nobody listens on any more."""

    async def ask() -> list[int]:
        async with echoing(answers=2) as port, dial(Address(port), 1) as (line,):
            statuses = [(await line.ask(make_request("/", b"a"))).status for _ in range(3)]
        return [*statuses, (await ask_once(Address(port), make_request("/", b"a"))).status]

    assert asyncio.run(ask()) == [200, 200, BROKEN, BROKEN]


def test_an_answer_without_an_end_is_refused():
    """Oracle: HTTP, which lets it end with the connection; 204 has no body and ends at once."""
    with pytest.raises(BenchError, match="Content-Length"):
        read_head(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain")
    assert read_head(b"HTTP/1.1 204 No Content").length_bytes == 0
    assert read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close").closes
    assert read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked").length_bytes is None


def test_chunks_are_put_together_however_they_arrive():
    """Oracle: the example of RFC 9112 section 7.1, with an extension and a trailer; what comes after is left."""
    sent = b"4;name=value\r\nWiki\r\n6\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX-Last: yes\r\n\r\n"
    assert take_body(sent + b"HTTP", None) == (b"Wikipedia in \r\n\r\nchunks.", b"HTTP")
    assert all(take_body(sent[:length], None) is None for length in range(len(sent)))
    with pytest.raises(ValueError, match="invalid literal"):
        take_body(b"no number\r\n", None)


def test_loops_give_each_request_its_own_answer():
    """Oracle: the requests' own numbers, echoed; in the open loop no latency is shorter than the request's own."""
    bodies = [str(number).encode() for number in range(60)]
    requests = [make_request("/", body) for body in bodies]

    async def ask() -> tuple[list[Reply], list[Arrived]]:
        async with echoing() as port, dial(Address(port), 5) as lines:
            closed = await closed_loop(lines, requests)
            opened = await open_loop(Address(port), requests, [0.0] * 40 + [0.01] * 50, ready=2, most=3)
        return closed.replies, opened.arrived

    replies, arrived = asyncio.run(ask())
    assert [reply.body for reply in replies] == bodies
    assert [each.reply.body for each in arrived] == [bodies[number % 60] for number in range(90)]
    assert all(each.milliseconds >= each.reply.milliseconds for each in arrived)


def test_arrivals_are_those_of_a_poisson_process():
    """Oracle: its count has the mean of its variance, and gaps are exponential: mean as large as their deviation."""
    schedules = [poisson_schedule(50, 10, seed) for seed in range(200)]
    counts = np.array([len(schedule) for schedule in schedules])
    assert counts.mean() == pytest.approx(500, rel=0.02)
    assert counts.var() == pytest.approx(500, rel=0.3)
    gaps = np.concatenate([np.diff(schedule) for schedule in schedules])
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert all(schedule == sorted(schedule) and schedule[-1] < 10 for schedule in schedules)
    assert poisson_schedule(50, 10, 3) == schedules[3]


def test_lengths_are_those_asked_for():
    """Oracle: the median and 99th percentile of the issue, before the longest are cut."""
    lengths = np.array(draw_lengths(40_000, 1, longest=10_000))
    assert np.median(lengths) == pytest.approx(20, abs=1)
    assert np.quantile(lengths, 0.99) == pytest.approx(200, rel=0.06)
    assert max(draw_lengths(1000, 1, longest=100)) == 100


def waits(schedule: Sequence[float], seconds: float, stall: tuple[float, float] = (1e9, 0.0)) -> list[float]:
    """Milliseconds in a queue of one server, by Lindley's recursion: it starts when it came, or when it is free."""
    free, found = 0.0, []
    for at in schedule:
        start = max(at, free)
        if stall[0] <= start < sum(stall):
            start = sum(stall)
        free = start + seconds
        found.append((free - at) * 1e3)
    return found


def open_at(rate: float, seconds: float, queue: Queue, **options) -> list[Arrived]:
    schedule = poisson_schedule(rate, seconds, seed=3)
    return simulate(open_loop(SOMEWHERE, [REQUEST], schedule, **options), queue).arrived


def sweep_of(queue: Queue, keep=lambda _point: None, on_write=lambda _loop: None, **options):
    """Simulated time has no processor: its share is not judged, unless a test sets a limit."""
    config = SweepConfig(**{"limits": Limits(most_cpu_share=1e9), **options})
    return simulate(sweep_rates(SOMEWHERE, [REQUEST], config, keep), queue, on_write)


def test_an_open_loop_waits_as_queueing_says():
    """Oracle: Lindley's recursion of the same arrivals, near capacity, to a microsecond."""
    arrived = open_at(450, 4, Queue(0.002))
    assert [one.milliseconds for one in arrived] == pytest.approx(waits(poisson_schedule(450, 4, 3), 0.002), abs=1e-3)
    assert max(one.late_ms for one in arrived) < 1e-3


@pytest.mark.parametrize("most", [1, 4, 512])
def test_a_latency_counts_from_the_schedule_however_few_connections(most):
    """Oracle: the same recursion: one server does not care where its queue stands."""
    arrived = open_at(450, 2, Queue(0.002), most=most, ready=2)
    assert [one.milliseconds for one in arrived] == pytest.approx(waits(poisson_schedule(450, 2, 3), 0.002), abs=1e-3)


def test_a_stall_shows_in_the_open_loop_and_not_in_the_closed_one():
    """Oracle: Lindley's recursion; and the closed loop asks once during the stall, whatever came meanwhile."""
    schedule = poisson_schedule(50, 10, seed=3)
    arrived = open_at(50, 10, Queue(0.002, stall_at=5.0, stall_seconds=1.0))
    expected = waits(schedule, 0.002, (schedule[0] + 5.0, 1.0))
    assert [one.milliseconds for one in arrived] == pytest.approx(expected, abs=1e-3)
    slow = sum(one.milliseconds > 100 for one in arrived)
    assert 0.5 * 45 < slow < 1.5 * 45
    assert np.quantile([one.milliseconds for one in arrived], 0.99) > 700

    queue = Queue(0.002, stall_at=5.0, stall_seconds=1.0)
    closed = simulate(closed_loop_for(SOMEWHERE, [REQUEST], 1, 10.0), queue)
    assert len(closed.replies) == pytest.approx(4500, abs=3)
    assert sum(reply.milliseconds > 100 for reply in closed.replies) == 1
    assert np.quantile([reply.milliseconds for reply in closed.replies], 0.99) == pytest.approx(2.0)


@pytest.mark.parametrize("collects", [True, False])
def test_an_open_loop_is_not_stopped_by_the_search_for_cycles(monkeypatch, collects):
    """Oracle: whether Python would collect, asked at each arrival, and how it was left."""
    seen = []
    ask = Pool.ask
    monkeypatch.setattr(Pool, "ask", lambda pool, request: (seen.append(gc.isenabled()), ask(pool, request))[1])
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        open_at(200.0, 0.1, Queue(0.001))
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()
    assert len(seen) > 5
    assert not any(seen)


def test_a_connection_that_idled_is_not_used_again():
    """Oracle: the number of connections made: one beforehand, and one more after three seconds of silence."""
    made = []

    class Counting(SimulatedLoop):
        async def create_connection(self, *args, **kwargs):
            made.append(self.time())
            return await super().create_connection(*args, **kwargs)

    with asyncio.Runner(loop_factory=lambda: Counting(Queue(0.001))) as runner:
        runner.run(open_loop(SOMEWHERE, [REQUEST], [0.0, 0.5, 1.0, 4.0, 4.5], ready=1))
    assert len(made) == 2


def test_what_is_not_answered_in_time_has_failed():
    """Oracle: a queue that stands still from its first second on; patience ends the wait, not the service."""
    arrived = open_at(100, 2, Queue(0.001, stall_at=1.0, stall_seconds=1e6), patience_seconds=3.0)
    lost = [one for one in arrived if one.reply.status == BROKEN]
    first = arrived[0].scheduled
    assert len(lost) == sum(one.scheduled - first >= 0.999 for one in arrived) > 50
    assert {round(one.reply.ended - first, 2) for one in lost} == {round(arrived[-1].scheduled - first + 3.0, 2)}


def test_a_sweep_finds_the_knee_of_a_queue():
    """Oracle: at every rate it tried, Lindley's recursion of the same arrivals says whether the objective was kept."""
    kept: list[Point] = []
    found = sweep_of(Queue(0.008), keep=kept.append, objective_p99_ms=80.0, seconds=8.0, seed=7)
    assert tuple(kept) == found.points
    good = {}
    for number, point in enumerate(found.points):
        expected = waits(poisson_schedule(point.rate_per_second, 8.0, 7 + number), 0.008)
        assert point.latency_ms == pytest.approx(expected, abs=1e-3)
        good[point.rate_per_second] = sum(ms > 80 for ms in expected) <= len(expected) // 100
    assert found.knee_per_second == max(rate for rate, kept in good.items() if kept)
    assert found.bounded
    assert min(rate for rate, kept in good.items() if not kept) / found.knee_per_second < 1.11
    assert 60 < found.knee_per_second < 125


def test_one_hiccup_does_not_halve_a_knee():
    """Oracle: a stall of 0.6 s in the first rate, which a second measurement of it does not meet."""
    found = sweep_of(Queue(0.008, stall_at=3.0, stall_seconds=0.6), seconds=8.0)
    assert [point.rate_per_second for point in found.points[:3]] == [31.2, 31.2, 62.4]
    assert [point.keeps(100.0) for point in found.points[:2]] == [False, True]
    assert found.knee_per_second > 60


def test_refusals_are_slower_than_everything():
    """Oracle: a queue that turns away what finds three inside: all it answers is fast, and its knee is still low."""
    found = sweep_of(Queue(0.008, most=3), objective_p99_ms=80.0, seconds=8.0)
    missed = [point for point in found.points if not point.keeps(80.0)]
    assert all(max(point.latency_ms) < 80 and set(point.failures) == {"429"} for point in missed)
    assert found.knee_per_second < 60
    assert found.bounded


def test_given_rates_are_all_measured():
    """Oracle: the list, in its order; without a rate that misses, the knee is only the highest tried."""
    found = sweep_of(Queue(0.001), rates=(50.0, 20.0, 80.0), seconds=2.0)
    assert [point.rate_per_second for point in found.points] == [50, 20, 80]
    assert (found.knee_per_second, found.bounded) == (80, False)


def test_no_knee_is_called_where_the_client_was_late():
    """Oracle: a client that needs 10 ms to send can send 100 a second: no rate from there on says anything."""

    def work(loop: SimulatedLoop) -> None:
        loop.clock.now += 0.010

    found = sweep_of(Queue(0.0001), on_write=work, rates=(20.0, 40.0, 200.0), seconds=5.0, objective_p99_ms=20.0)
    assert [point.valid for point in found.points] == [False, False, False]
    assert "late (p99)" in found.points[-1].fault
    assert (found.knee_per_second, found.bounded) == (None, False)
    relaxed = sweep_of(
        Queue(0.0001), on_write=work, rates=(20.0, 40.0, 200.0), seconds=5.0,
        limits=Limits(most_late_ms=60.0, most_cpu_share=1e9),
    )  # fmt: skip
    assert [point.valid for point in relaxed.points] == [True, True, False]
    assert (relaxed.knee_per_second, relaxed.bounded) == (40, False)


def test_a_client_that_is_late_whatever_the_rate_gives_up():
    """Oracle: the rates tried: the first, and once more, since a lower one would be no better."""

    def work(loop: SimulatedLoop) -> None:
        loop.clock.now += 0.080

    found = sweep_of(Queue(0.0001), on_write=work, seconds=20.0)
    assert len(found.points) == 2
    assert found.points[0].rate_per_second == found.points[1].rate_per_second
    assert found.knee_per_second is None


def test_no_knee_is_called_where_the_client_was_busy():
    """Oracle: a limit below nothing, which every client exceeds."""
    few = sweep_of(Queue(0.001), rates=(50.0, 1.0), seconds=2.0)
    assert few.points[1].fault == TOO_FEW
    assert (few.knee_per_second, few.bounded) == (50, False)  # too few say nothing, not even of the client
    found = sweep_of(Queue(0.001), rates=(50.0,), seconds=2.0, limits=Limits(most_cpu_share=-1.0))
    assert "of a core" in found.points[0].fault
    assert (found.knee_per_second, found.bounded) == (None, False)


def test_a_sweep_that_is_interrupted_has_what_came():
    """Oracle: the recursion of the first rate, and of what the second had until it was cancelled."""
    kept: list[Point] = []

    async def work():
        task = asyncio.create_task(
            sweep_rates(
                SOMEWHERE,
                [REQUEST],
                SweepConfig(rates=(50.0, 60.0), seconds=5.0, seed=7, limits=Limits(most_cpu_share=1e9)),
                kept.append,
            )
        )
        await asyncio.sleep(8.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    simulate(work(), Queue(0.002))
    assert [point.fault for point in kept] == ["", INTERRUPTED]
    expected = waits(poisson_schedule(60, 5, 8), 0.002)
    assert 100 < len(kept[1].latency_ms) < len(expected)
    assert kept[1].latency_ms == pytest.approx(expected[: len(kept[1].latency_ms)], abs=1e-3)
    assert judge(kept, 100.0).knee_per_second == 50


def test_a_service_that_dies_between_two_rates_ends_the_sweep():
    """Oracle: the points that were kept before it did."""
    kept: list[Point] = []
    queue = Queue(0.002)

    def keep(point: Point) -> None:
        kept.append(point)
        queue.dead = len(kept) >= 2

    with pytest.raises(BenchError, match="no longer answers"):
        sweep_of(queue, keep=keep, rates=(50.0, 60.0, 70.0, 80.0), seconds=3.0)
    assert [point.valid for point in kept] == [True] * len(kept)
    assert len(kept[1].latency_ms) > 100
    assert set(kept[-1].failures) == {"0"}


def test_rates_are_doubled_then_halved_in_between():
    """Oracle: by hand."""
    assert choose_rate({}, 12.0, 1.0) == 12
    assert choose_rate({12.0: True}, 12.0, 1.0) == 24
    assert choose_rate({12.0: True, 24.0: False}, 12.0, 1.0) == 17
    assert choose_rate({12.0: True, 24.0: False, 17.0: False}, 12.0, 1.0) == 14.3
    assert choose_rate({12.0: True, 13.0: False}, 12.0, 1.0) is None
    assert choose_rate({12.0: False}, 12.0, 1.0) == 6
    assert choose_rate({12.0: False, 1.5: False}, 12.0, 1.0) is None
    assert choose_rate({12.0: True, 24.0: False, 48.0: True}, 12.0, 1.0) == 17


def point_of(latency_ms, failed=0) -> Point:
    failures = {"503": failed} if failed else {}
    return Point(rate_per_second=1, seconds=1, latency_ms=tuple(latency_ms), failures=failures, client_cpu_share=0,
                 late_p99_ms=0)  # fmt: skip


def test_one_in_a_hundred_may_be_slower():
    """Oracle: counts by hand; of fewer than a hundred none may, and of none nothing is known."""
    assert point_of([1.0] * 99 + [500.0]).keeps(100)
    assert not point_of([1.0] * 98 + [500.0] * 2).keeps(100)
    assert not point_of([1.0] * 98 + [500.0]).keeps(100)
    assert point_of([1.0] * 99, failed=1).keeps(100)
    assert not point_of([1.0] * 98, failed=1).keeps(100)
    assert not point_of([]).keeps(100)


def test_a_histogram_loses_six_per_cent_at_most():
    """Oracle: the samples: each bucket holds those it counts, and is a sixteenth of its bound wide at most."""
    samples = [0.0, 0.0005, 0.001, 1.0, 1.024, 3.14159, 999.9, 60_000.0, *np.random.default_rng(1).exponential(20, 500)]
    buckets = count_buckets(samples)
    assert sum(bucket.requests for bucket in buckets) == len(samples)
    assert list(buckets) == sorted(buckets)
    for bucket in buckets:
        inside = sum(bucket.from_ms <= max(ms, 0.001) < bucket.to_ms for ms in samples)
        assert inside == bucket.requests > 0
        assert bucket.to_ms / bucket.from_ms <= 1 + 1 / 16 + 1e-9


def test_made_texts_have_the_words_asked_for():
    """Oracle: lengths less the two special tokens; the same seed gives the same texts."""
    texts = make_plain_texts([4, 20, 1], seed=5)
    assert [len(text.split()) for text in texts] == [2, 18, 1]
    assert set(" ".join(texts).split()) <= set(WORDS)
    assert texts == make_plain_texts([4, 20, 1], seed=5)


def test_the_punctual_loop_runs_what_it_is_given():
    """Oracle: asyncio's own loop: a timer, a socket and a reader all work on it."""

    async def ask() -> int:
        await asyncio.sleep(0.0003)
        async with echoing() as port:
            return (await ask_once(Address(port), make_request("/", b"a"))).status

    assert run_on_time(ask()) == 200
