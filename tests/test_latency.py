"""In-process measurement with engines whose behaviour is known."""

import itertools
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from artifact.errors import BenchError
from serve.latency.contestant import Contestant, child_environment, last_error
from serve.latency.in_process import measure
from serve.latency.memory import peak_memory_bytes
from serve.latency.placement import dealt
from serve.latency.plan import Workload
from serve.latency.timing import WarmUpLimits, is_flat, settle, warm_up
from serve.latency.turns import take_turns

WORKLOAD = Workload(
    settle_ms=0.0,
    openings=1,
    texts=("a", "bb", "ccc", "dddd", "eeeee"),
    rounds=4,
    calls_per_round=3,
    batch_size=2,
    batches_per_round=2,
    seed=7,
)
MIXED = Workload(
    texts=("a", "bb", "ccc", "dddd", "eeeee"), rounds=2, calls_per_round=2, batch_size=2, batches_per_round=1,
    settle_ms=0.0, openings=1, seed=7, streams=2, queries_per_round=2,
    by_length={4: ("w w", "x x", "y y"), 16: ("long",)}, calls_per_length=2,
)  # fmt: skip
SHORT = WarmUpLimits(calls_per_block=2, max_calls=6, max_seconds=0.5)


class Sleeper:
    """Writes each call to a file as `begun ended texts`, and takes 1 ms for it."""

    def __init__(self, log, dies_at=None):
        self.log, self.dies_at, self.calls = log, dies_at, 0
        with log.with_name("opened").open("a") as file:
            file.write(f"{log.stem} ")
        self.threads = int(os.environ["OMP_NUM_THREADS"])
        self.size_bytes = 123

    def run(self, texts):
        begun = time.perf_counter_ns()
        self.calls += 1
        if self.calls == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.001)
        with self.log.open("a") as file:
            file.write(f"{begun} {time.perf_counter_ns()} {' '.join(texts)}\n")


class Stubborn(Sleeper):
    """Runs on more threads than it is given."""

    def __init__(self, log):
        super().__init__(log)
        self.threads += 1


def refuse():
    raise ValueError("the graph has no outputs")


def open_once(mark, log):
    if mark.exists():
        raise ValueError("already open")
    mark.touch()
    return Sleeper(log)


def open_together(folder, name, other):
    (folder / f"{name}.opening").touch()
    until = time.monotonic() + 20
    while not (folder / f"{other}.opening").exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{other} is not being opened")
        time.sleep(0.01)
    return Sleeper(folder / f"{name}.log")


def contestants(folder, *names, **options):
    return [
        Contestant(name=name, factory=partial(Sleeper, folder / f"{name}.log", **options), threads=1) for name in names
    ]


def logged(folder, name):
    lines = (folder / f"{name}.log").read_text().splitlines()
    return [(int(begun), int(ended), texts) for begun, ended, texts in (line.split(" ", 2) for line in lines)]


def calls(folder, name):
    lines = (folder / f"{name}.log").read_text().splitlines()
    return [(int(begun), int(ended), texts) for begun, ended, *texts in map(str.split, lines)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder, kept = tmp_path_factory.mktemp("calls"), []
    rows = measure(
        contestants(folder, "one", "two", "three"),
        WORKLOAD,
        keep=lambda name, samples: kept.append((name, samples)),
        limits=SHORT,
    )
    return folder, rows, kept


def test_every_contestant_gets_every_round_and_every_sample(measured):
    """Oracle: the counts in the workload; a single call cannot be shorter than the engine's sleep."""
    _, rows, kept = measured
    assert [row.name for row in rows] == ["one", "two", "three"]
    for row in rows:
        assert [r.index for r in row.rounds] == [0, 1, 2, 3]
        assert all(len(r.single_ms) == 3 and min(r.single_ms) >= 1 for r in row.rounds)
        assert all(r.batch_texts == 4 and r.texts_per_second <= 2000 for r in row.rounds)
        assert tuple(samples for name, samples in kept if name == row.name) == row.rounds


def test_the_turns_follow_the_seeded_order(measured):
    """Oracle: `Workload.order`, which another instance with the same seed repeats and another seed does not."""
    _, _, kept = measured
    names = ["one", "two", "three"]
    orders = [WORKLOAD.order(names, index) for index in range(4)]
    assert [name for name, _ in kept] == [name for order in orders for name in order]
    assert all(sorted(order) == sorted(names) for order in orders)
    many = [tuple(WORKLOAD.order(names, index)) for index in range(100)]
    assert len(set(many)) == 6, "each of the 3! orders comes up"
    other = Workload(texts=("a",), rounds=1, calls_per_round=1, batch_size=1, seed=8)
    assert many != [tuple(other.order(names, index)) for index in range(100)]


def test_only_one_contestant_works_at_a_time(measured):
    """Oracle: the engines' own clocks, one for all processes: sorted by start, no call begins before the last ended."""
    folder, _, _ = measured
    intervals = sorted(call[:2] for name in ("one", "two", "three") for call in calls(folder, name))
    assert len(intervals) > 3 * 4 * 5
    assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(intervals))


def test_samples_are_of_the_same_texts_for_all(measured):
    """Oracle: the circular walk over the texts, written out by hand for round 1, untimed calls before it."""
    folder, rows, _ = measured
    for row in rows:
        turn = row.rounds[1]
        inside = [texts for begun, ended, texts in calls(folder, row.name) if turn.begun_ns <= begun < turn.ended_ns]
        assert inside == [["dddd"], ["eeeee"], ["a"], ["eeeee", "a"], ["bb", "ccc"]]


def test_reads_back_what_the_engine_says(measured):
    """Oracle: the engine's constants; the environment was set before the engine was made."""
    _, rows, _ = measured
    assert {(row.threads, row.size_bytes) for row in rows} == {(1, 123)}
    assert all(row.ready_seconds > 0 and row.warm_up.calls <= SHORT.max_calls for row in rows)


def test_peak_memory_is_the_childs_own(tmp_path):
    """Oracle: a parent that holds 400 MB more; `ru_maxrss` of its child would be at least that."""
    ballast = bytearray(400_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    (row,) = measure(contestants(tmp_path, "light"), WORKLOAD, limits=SHORT)
    assert peak_memory_bytes(os.getpid()) > 400_000_000
    assert 1_000_000 < row.peak_memory_bytes < 300_000_000


def test_a_contestant_that_is_killed_is_named_and_the_samples_so_far_are_kept(tmp_path):
    """Oracle: the signal the engine sends itself in its second turn; the other one lives."""
    kept = []
    healthy, doomed = contestants(tmp_path, "healthy"), contestants(tmp_path, "doomed", dies_at=16)
    with pytest.raises(BenchError, match="doomed died while it was measured: killed by SIGKILL"):
        measure(healthy + doomed, WORKLOAD, keep=lambda name, _: kept.append(name), limits=SHORT)
    assert kept.count("doomed") == 1
    assert kept.count("healthy") in (1, 2)


def test_a_contestant_that_does_not_open_says_why():
    """Oracle: the factory's own message."""
    broken = Contestant(name="student/int8", factory=refuse, threads=1)
    with pytest.raises(BenchError, match=r"student/int8 died .*exit code 1; ValueError: the graph has no outputs"):
        measure([broken], WORKLOAD, limits=SHORT)


def test_a_lost_contestant_is_borne_by_who_asks_for_it(tmp_path):
    """Oracle: the engine's own signal in its second turn, a factory that raises; the healthy one gets every round."""
    lost = {}
    healthy, doomed = contestants(tmp_path, "healthy"), contestants(tmp_path, "doomed", dies_at=16)
    broken = Contestant(name="broken", factory=refuse, threads=1)
    rows = measure([*doomed, broken, *healthy], WORKLOAD, limits=SHORT, lose=lost.__setitem__)
    assert [row.name for row in rows] == ["healthy"]
    assert [turn.index for turn in rows[0].rounds] == [0, 1, 2, 3]
    assert {name: error.problem.split(": ", 1)[1] for name, error in lost.items()} == {
        "broken": "exit code 1; ValueError: the graph has no outputs",
        "doomed": "killed by SIGKILL",
    }


def test_all_are_opened_anew_in_the_other_order(tmp_path, monkeypatch):
    """Oracle: the engines' own record of when they were made, one at a time; four further rounds are a stretch."""
    monkeypatch.setattr("serve.latency.in_process.available_cores", lambda: 1)
    asked = iter([4, 0])
    several = replace(WORKLOAD, openings=2)
    rows = measure(contestants(tmp_path, "one", "two"), several, limits=SHORT, more=lambda _taken: next(asked))
    assert (tmp_path / "opened").read_text().split() == ["one", "two", "two", "one"] * 2
    assert [[turn.index for turn in row.rounds] for row in rows] == [list(range(8))] * 2


def test_openings_come_again_when_rounds_have_doubled():
    """Oracle: stretches written out by hand."""
    several = replace(WORKLOAD, openings=2)
    assert [several.opening(index) for index in range(16)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5]
    assert [replace(several, rounds=5).opening(index) for index in range(10)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert [replace(several, rounds=1).opening(index) for index in range(4)] == [0, 2, 4, 5]


def test_as_many_are_opened_at_a_time_as_there_are_cores_and_warm_up_alone(tmp_path, monkeypatch):
    """Oracle: factories that wait for one another, which one at a time would wait in vain; the clocks of the calls."""
    monkeypatch.setattr("serve.latency.in_process.available_cores", lambda: 2)
    pair = [
        Contestant(name=name, factory=partial(open_together, tmp_path, name, other), threads=1)
        for name, other in (("one", "two"), ("two", "one"))
    ]
    measure(pair, WORKLOAD, limits=SHORT)
    spans = [[(begun, ended) for begun, ended, *_ in logged(tmp_path, name)] for name in ("one", "two")]
    merged = sorted(spans[0] + spans[1])
    assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(merged))


def test_one_that_does_not_open_again_is_lost_alone(tmp_path):
    """Oracle: a factory that works once; the other one has all rounds, and who asks for all hears why."""
    once, lost = tmp_path / "once", {}
    (healthy,) = contestants(tmp_path, "healthy")
    fickle = Contestant(name="fickle", factory=partial(open_once, once, tmp_path / "fickle.log"), threads=1)
    both, several = [healthy, fickle], replace(WORKLOAD, openings=2)
    rows = measure(both, several, limits=SHORT, lose=lost.__setitem__)
    assert [(row.name, len(row.rounds)) for row in rows] == [("healthy", 4)]
    assert "already open" in lost["fickle"].problem
    once.unlink()
    with pytest.raises(BenchError, match=r"fickle died .* already open"):
        measure(both, several, limits=SHORT)


def test_a_folder_of_the_same_name_is_not_imported(tmp_path, monkeypatch):
    """Oracle: a package `serve` where the command is given, which raises when it is imported."""
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "__init__.py").write_text("raise ImportError('somebody else')")
    monkeypatch.chdir(tmp_path)
    (row,) = measure(contestants(tmp_path, "one"), WORKLOAD, limits=SHORT)
    assert len(row.rounds) == WORKLOAD.rounds


def test_threads_that_were_not_asked_for(tmp_path):
    """Oracle: an engine that takes one more than its environment says."""
    stubborn = Contestant(name="stubborn", factory=partial(Stubborn, tmp_path / "log"), threads=1)
    with pytest.raises(BenchError, match="stubborn was given 1 threads and says that it runs on 2"):
        measure([stubborn], WORKLOAD, limits=SHORT)


def test_queries_and_lengths_are_timed_one_by_one(tmp_path):
    """Oracle: the engine's log against the walk written out by hand; a length beyond the longest input is not asked."""
    (short,) = contestants(tmp_path, "short")
    (row,) = measure([replace(short, max_tokens=15)], MIXED, limits=SHORT)
    turn = row.rounds[1]
    inside = [texts for begun, ended, *texts in logged(tmp_path, "short") if turn.begun_ns <= begun < turn.ended_ns]
    queries, lengths, batch = [["eeeee a"], ["bb ccc"]], [["y y"], ["w w"]], [["ccc dddd"]]
    assert inside == [["ccc"], ["dddd"], queries[0], *queries, lengths[0], *lengths, *batch], "each first untimed"
    assert (len(turn.single_ms), len(turn.multi_ms)) == (2, 2)
    assert {tokens: len(calls) for tokens, calls in turn.by_length_ms.items()} == {4: 2}
    assert min(*turn.multi_ms, *turn.by_length_ms[4]) >= 1


def test_a_round_in_parts_is_of_the_same_texts(tmp_path):
    """Oracles: the round in one part, and the engines' clocks: within a round the contestants change places."""
    whole = replace(WORKLOAD, calls_per_round=5)
    parted = replace(whole, parts=3)
    assert [len(task.singles) for task in parted.tasks(1)] == [1, 2, 2]
    assert sum((task.singles for task in parted.tasks(1)), ()) == whole.task(1).singles
    assert [bool(task.batches) for task in parted.tasks(1)] == [False, False, True]
    assert parted.tasks(1)[-1].batches == whole.task(1).batches
    assert [len(task.singles) for task in replace(whole, parts=9).tasks(1)] == [1] * 5, "no part without a text"
    rows = measure(contestants(tmp_path, "one", "two"), parted, limits=SHORT)
    for row in rows:
        assert [turn.index for turn in row.rounds] == list(range(parted.rounds))
        assert all(len(turn.single_ms) == 5 and turn.batch_texts for turn in row.rounds)
    one, two = (row.rounds[0] for row in rows)
    assert one.begun_ns < two.ended_ns
    assert two.begun_ns < one.ended_ns
    orders = {tuple(parted.order(["one", "two"], 0, part)) for part in range(20)}
    assert len(orders) == 2
    with pytest.raises(ValueError, match="too many values"):
        take_turns(["one"], parted, lambda _name, task: task, lambda _name, _turn: None, "unjoined")


def test_a_contestant_settles_before_it_is_timed(monkeypatch):
    """Oracle: a clock that calls move on, counted by hand; eight calls, in a circle, but no more than fit 60 ms."""
    now, asked = [0], []

    def call(text, took_ms):
        asked.append(text)
        now[0] += 1_000_000 * took_ms

    monkeypatch.setattr("serve.latency.timing.time.perf_counter_ns", lambda: now[0])
    for took_ms, settle_ms, calls in ((3, 10.0, 8), (1, 10.0, 10), (13, 10.0, 5), (90, 10.0, 1), (3, 0.0, 1)):
        asked.clear()
        settle(partial(call, took_ms=took_ms), ["a", "b"], settle_ms)
        assert asked == ["a", "b"] * (calls // 2) + ["a"] * (calls % 2)
    assert [task.settle_ms for task in replace(WORKLOAD, parts=2, settle_ms=7.0).tasks(0)] == [7.0, 7.0]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_threads_are_dealt_to_cores_anew_and_set_free():
    """Oracle: what the kernel says of each thread's cores, before, meanwhile and after."""
    cores, ends = os.sched_getaffinity(0), threading.Event()
    threads = [threading.Thread(target=ends.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    own, one, other, bound = threading.get_native_id(), *(thread.native_id for thread in threads)
    os.sched_setaffinity(bound, {max(cores)})
    seen = []
    try:
        for hand in [*range(20), 0]:
            with dealt(hand):
                seen.append(tuple(tuple(os.sched_getaffinity(thread)) for thread in (own, one, other)))
                late = threading.Thread(target=ends.wait)
                late.start()
                threads.append(late)
            assert all(os.sched_getaffinity(thread) == cores for thread in (own, one, other, late.native_id))
            assert os.sched_getaffinity(bound) == {max(cores)}
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    assert seen[0] == seen[-1], "one hand, one deal"
    assert {mine for mine, *_ in seen} == {(core,) for core in cores}, "all cores have their turn"
    assert all(len(mine) == 1 and mine not in others for mine, *others in seen)


def test_all_contestants_begin_a_part_on_the_same_cores():
    """Oracle: counted by hand: of a round of two parts each has a hand of its own, and no two rounds share one."""
    hands = [task.hand for index in range(3) for task in replace(WORKLOAD, parts=2).tasks(index)]
    assert hands == [0, 1, 2, 3, 4, 5]


def test_more_rounds_while_they_are_asked_for(tmp_path, monkeypatch):
    """Oracle: counts by hand: two, then four, then one, the later ones of texts and batches alone."""
    monkeypatch.setattr("serve.latency.in_process.available_cores", lambda: 1)
    shown, kept = [], []

    def more(taken):
        shown.append({name: len(turns) for name, turns in taken.items()})
        return {2: 4, 6: 1}.get(len(taken["one"]), 0)

    rows = measure(
        contestants(tmp_path, "one", "two"), MIXED, limits=SHORT, more=more, keep=lambda *turn: kept.append(turn)
    )
    assert shown == [{"one": count, "two": count} for count in (2, 6, 7)]
    assert len(kept) == 14
    for row in rows:
        assert [turn.index for turn in row.rounds] == [*range(7)]
        assert [len(turn.multi_ms) for turn in row.rounds] == [2, 2, *[0] * 5]
        assert [sorted(turn.by_length_ms) for turn in row.rounds] == [[4, 16]] * 2 + [[]] * 5
        assert all((len(turn.single_ms), turn.batch_texts) == (2, 2) for turn in row.rounds)
    opened = (tmp_path / "opened").read_text().split()
    assert opened == ["one", "two", "two", "one", "one", "two"], "for two rounds, for two more, for the rest of four"


def test_last_error_keeps_the_lines_below_the_message():
    """Oracle: a traceback of our own error tree, whose hint is indented."""
    log = 'Traceback (most recent call last):\n  File "x"\nartifact.errors.ServeError: no graph\n  export it first\n'
    assert last_error(log) == "artifact.errors.ServeError: no graph\n  export it first"
    assert last_error("") == ""


def test_flat_means_the_last_blocks_agree():
    """Oracle: recorded block medians of a cold start (ms), and the 3 % rule by hand."""
    limits = WarmUpLimits()
    cold_start = [9.8, 6.1, 5.42, 5.08, 5.02, 4.97]
    assert [is_flat(cold_start[:n], limits) for n in range(7)] == [False] * 6 + [True]
    assert not is_flat([5.0, 5.0], limits), "three blocks are needed"
    assert not is_flat([5.0, 5.2, 5.0], limits)
    assert not is_flat([5.0, 5.0, 5.0, 5.0, 6.0], limits), "only the last blocks count"


def test_warm_up_ends_at_its_limit_and_says_so():
    """Oracle: a callable that gets slower with every call, so that no blocks agree; calls counted by hand."""
    made = []

    def slower(text):
        made.append(text)
        time.sleep(0.0005 * len(made))

    warmed = warm_up(slower, ["a", "b", "c"], WarmUpLimits(calls_per_block=2, max_calls=9, max_seconds=60))
    assert made == ["a", "b"] * 4
    assert (warmed.flat, warmed.calls) == (False, 8)
    assert warmed.first_ms >= 0.5


def test_the_child_environment_holds_every_pool(monkeypatch):
    """Oracle: the variables' documented names; how threads wait is the library's own choice."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "10")
    environment = child_environment(2)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "2"
    assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(environment)
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
