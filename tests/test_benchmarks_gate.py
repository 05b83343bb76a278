"""The proof of the gates: differences that are known by construction, and pages that say what was counted."""

import itertools
import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest
from serve_bundles import LABELS, WORDS, make_bundle

from artifact.dataset import Example, write_dataset
from artifact.errors import BenchError
from benchmarks.gate import answers, page, simulate, speed
from benchmarks.gate.__main__ import main
from benchmarks.gate.neighbour import burning
from benchmarks.gate.raw import Run, open_writer, read_runs
from benchmarks.gate.rules import Outcome, Plan, look, run_memory_gate, run_quality_gate, run_speed_gate, summarize
from benchmarks.gate.slowed import Slowed
from serve.latency.plan import Round

PLAN = Plan(rounds=8, max_rounds=16, calls=10)
SETUP = {"model": "tiny", "plan": asdict(PLAN)}


class Engine:
    """Takes 1000 ticks of a clock that all reads move on by one."""

    threads, size_bytes = 2, 3

    def __init__(self):
        self.now = 0

    def read(self):
        self.now += 1
        return self.now

    def run(self, texts):
        self.now += 1000
        return texts


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_the_slowed_engine_takes_its_share_longer(share):
    """Oracle: arithmetic on a clock of ticks; 1001 pass between the reads around a call, and each read is one."""
    engine = Engine()
    slowed = Slowed(engine, share, engine.read)
    assert slowed.run(["a"]) == ["a"]
    assert engine.now == pytest.approx(1 + 1001 * (1 + share), abs=2)
    assert (slowed.threads, slowed.size_bytes) == (2, 3)


def test_a_gate_run_ends_at_the_look_that_decides():
    """Oracle: a candidate twice as slow is decided at the first look; half of the rounds are not read at all."""
    reference = np.tile(np.linspace(1, 1.1, PLAN.calls), (PLAN.max_rounds, 1))
    assert run_speed_gate(reference, reference, PLAN).verdict == "pass"
    found = run_speed_gate(reference, 2 * reference, PLAN)
    assert (found.verdict, found.value, found.rounds) == ("fail", 0.5, PLAN.rounds)
    spoiled = reference.copy()
    spoiled[PLAN.rounds :] *= 100
    assert run_speed_gate(reference, spoiled, PLAN).verdict == "pass"


def test_no_gate_wants_more_than_the_plan_has():
    """Oracle: at the last round a gate that cannot decide has to leave it at that."""
    random = np.random.default_rng(1)
    reference = np.tile(np.linspace(1, 1.1, PLAN.calls), (PLAN.max_rounds, 1))
    at_the_bound = reference / 0.95 * random.lognormal(0, 0.1, (PLAN.max_rounds, 1))
    outcome, more = look(reference, at_the_bound, PLAN)
    assert (outcome.verdict, more) == ("inconclusive", False)


def test_a_simulation_is_its_seed():
    """Oracle: identity for one seed, and other latencies for another; equal contestants differ by noise alone."""
    noise = simulate.NOISES["a neighbour that stays"]
    draws = [simulate.draw_turns(noise, PLAN, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert simulate.simulate_speed(noise, 1.1, PLAN, (1, 2)) == simulate.simulate_speed(noise, 1.1, PLAN, (1, 2))
    silent = replace(noise, drift=0, turn=0, call=0, outliers=0, neighbour=0)
    first, second = simulate.draw_turns(silent, PLAN, np.random.default_rng(1))
    assert np.array_equal(first, second)


def test_a_neighbour_is_there_for_its_share_and_stays():
    """Oracle: counting over many turns; the share, and turns met divided by the times that it came."""
    noise = replace(simulate.NOISES["a neighbour that stays"], slows=(2.0, 2.0))
    slowed = simulate._neighbour(noise, 20_000, np.random.default_rng(3)).ravel() > 1
    assert slowed.mean() == pytest.approx(noise.neighbour, abs=0.03)
    came = np.sum(slowed[1:] & ~slowed[:-1])
    assert slowed.sum() / came == pytest.approx(noise.stay, rel=0.1)


@pytest.mark.parametrize("name", list(simulate.DIFFERENCES))
def test_simulated_answers_differ_as_they_should(name):
    """Oracle: the shares of a sample of 4,500 lie within four standard errors of the truth."""
    difference = simulate.DIFFERENCES[name]
    reference, candidate = simulate.draw_answers(difference, np.random.default_rng(5))
    near = 4 * np.sqrt(0.25 / simulate.EXAMPLES)
    assert len(reference) == len(candidate) == simulate.EXAMPLES
    assert reference.mean() == pytest.approx(simulate.ACCURACY, abs=near)
    assert reference.mean() - candidate.mean() == pytest.approx(difference.loss, abs=near)
    assert (reference != candidate).mean() == pytest.approx(difference.discordance, abs=near)


def test_identical_answers_pass_and_a_large_loss_fails():
    """Oracle: no discordance at all on 4,500 examples, and a loss of five points."""
    right = np.arange(4500) % 20 > 0
    assert run_quality_gate(right, right).verdict == "pass"
    assert run_quality_gate(right, answers.spoil(right, 0.05, np.random.default_rng(1))).verdict == "fail"


def test_answers_are_spoiled_and_balanced_as_told():
    """Oracle: counting. Ten of a thousand are lost, right ones only; balanced rows are right equally often."""
    random = np.random.default_rng(2)
    reference, other = random.random((2, 1000)) < np.array([[0.9], [0.8]])
    spoiled = answers.spoil(reference, 0.01, random)
    assert (reference & ~spoiled).sum() == 10
    assert not (spoiled & ~reference).any()
    for first, second in itertools.permutations((reference, other)):
        balanced = answers.balance(first, second, random)
        assert balanced.sum() == first.sum()
        assert (balanced != first).sum() == 2 * min((first & ~second).sum(), (second & ~first).sum())


def test_verdicts_are_counted():
    """Oracle: counting by hand."""
    outcomes = [Outcome(verdict=v, value=1, low=0.9, high=1.1, rounds=r) for v, r in (("pass", 8), ("fail", 16))]
    found = summarize(outcomes)
    assert found == {"runs": 2, "pass": 1, "fail": 1, "inconclusive": 0, "mean_rounds": 12, "mean_width": 0.2}


@pytest.mark.parametrize(
    ("fails", "runs", "identical", "word"),
    [(1, 100, True, "holds"), (2, 100, True, "missed"), (95, 100, False, "holds"), (94, 100, False, "missed"),
     (10, 10, False, "too few runs")],
)  # fmt: skip
def test_a_bar_counts_fails(fails, runs, identical, word):
    """Oracle: the bars of the issue, at and beside them."""
    assert word in page.judge_bar({"runs": runs, "fail": fails}, identical=identical)


def test_turns_survive_what_comes_after(tmp_path):
    """Oracle: two whole runs, then one cut off in a line; the whole ones are read, and a third is added."""
    path = tmp_path / "raw" / "quiet.jsonl"
    with open_writer(path, SETUP) as writer:
        for number in range(2):
            writer.begin(number)
            writer.turn("reference", 0, (1.0, 2.00004))
            writer.end({"seconds": 1})
        writer.begin(2)
        writer.turn("reference", 0, (9.0,))
    with path.open("a") as file:
        file.write('{"row": "refer')
    assert [run.single_ms for run in read_runs(path, SETUP)] == [{"reference": [[1.0, 2.0]]}] * 2
    with open_writer(path, SETUP) as writer:
        writer.begin(2)
        writer.turn("reference", 0, (3.0,))
        writer.end({"seconds": 2})
    assert [run.single_ms["reference"] for run in read_runs(path, SETUP)][2] == [[3.0]]
    with pytest.raises(BenchError, match="another setup\n  name another folder"):
        read_runs(path, SETUP | {"model": "other"})


def test_nothing_was_measured_yet(tmp_path):
    """Oracle: no file, no runs."""
    assert read_runs(tmp_path / "none.jsonl", SETUP) == []


def test_a_run_goes_on_until_both_gates_are_decided():
    """Oracle: the plan's looks longhand; steady turns decide at once, rounds that contradict each other never do."""

    def turns(*rounds_ms):
        return [
            Round(index=0, begun_ns=0, ended_ns=1, single_ms=(ms, ms), batch_texts=0, batch_seconds=0.0)
            for ms in rounds_ms
        ]

    steady, slow, torn = [1.0] * 8, [2.0] * 8, [0.5, 1.7] * 4
    decided = {speed.REFERENCE: turns(*steady), speed.SAME: turns(*steady), speed.SLOWED: turns(*slow)}
    assert speed.rounds_wanted(decided, PLAN) == 0
    assert speed.rounds_wanted(decided | {speed.SAME: turns(*torn)}, PLAN) == 8
    twice = {row: 2 * each for row, each in (decided | {speed.SAME: turns(*torn)}).items()}
    assert speed.rounds_wanted(twice, PLAN) == 0


def test_the_spread_of_a_round():
    """Oracle: ratios of a normal sample in logarithms, whose standard deviation is known; a drift of both cancels."""
    random = np.random.default_rng(8)
    drift, noise = random.normal(0, 0.5, 4000), random.normal(0, 0.03, 4000)
    rows = {speed.REFERENCE: np.exp(drift + noise), speed.SAME: np.exp(drift)}
    run = Run({}, {name: [[float(one)] for one in values] for name, values in rows.items()})
    assert speed.measure_spread([run]) == pytest.approx(0.03, rel=0.05)


def test_a_neighbour_ends_with_us():
    """Oracle: the process is there inside and gone after; and one whose time is over ends of its own accord."""
    with burning(60) as number:
        os.kill(number, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with burning(0) as number:
        os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)


def outcomes(verdict, count, value):
    one = Outcome(verdict=verdict, value=value, low=value - 0.01, high=value + 0.01, rounds=10)
    return [asdict(one)] * count


def test_the_gate_on_memory_is_the_pipelines():
    """Oracle: arithmetic: 5 % more is allowed, and no interval stands around what was measured once."""
    assert [run_memory_gate(100_000_000, more).verdict for more in (100_000_000, 104_900_000, 106_000_000)] == [
        "pass", "pass", "fail",
    ]  # fmt: skip
    assert run_memory_gate(100_000_000, 104_900_000).value == pytest.approx(1.049)


def write_results(folder):
    folder.mkdir()
    condition = {
        "outcomes": {
            speed.SAME: outcomes("pass", 99, 1.0) + outcomes("inconclusive", 1, 0.95),
            speed.SLOWED: outcomes("fail", 94, 0.909) + outcomes("inconclusive", 6, 0.945),
        },
        "memory": outcomes("pass", 98, 1.01) + outcomes("fail", 2, 1.3),
        "p50_ms": 0.65,
        "round_spread": 0.012,
        "seconds": [3.0] * 100,
        "load_average": [1.9] + [0.1] * 99,
    }
    uneven = condition["outcomes"] | {speed.SAME: outcomes("pass", 51, 1.02) + outcomes("pass", 49, 0.9)}
    machine = {"processor": "one", "usable_cores": 2}
    found = {
        "speed": {"model": "tiny", "precision": "int8", "threads": 2, "share": 0.1, "plan": asdict(Plan()),
                  "machine": machine,
                  "conditions": {"quiet": condition, "neighbour": condition | {"outcomes": uneven}}},
        "answers": {"accuracies": {"float32": 0.96, "int8": 0.95}, "pool": 4500, "examples": 4500,
                    "cases": {"the same answers": {"loss": 0.0, "discordance": 0.0,
                                                   "outcomes": outcomes("pass", 100, 1.0)}}},
        "simulate": {"examples": 4500, "accuracy": 0.96,
                     "speed": {"quiet": {name: summarize([Outcome(**each) for each in outcomes("fail", 1000, 0.95)])
                                         for name in simulate.SLOWER}},
                     "quality": {"x": {"loss": 0.01, "discordance": 0.04, "runs": 1000, "pass": 0, "fail": 900,
                                       "inconclusive": 100}}},
    }  # fmt: skip
    for name, about in found.items():
        (folder / f"{name}.json").write_text(json.dumps(about))


def test_the_page_says_what_was_counted(tmp_path):
    """Oracle: results written by hand; each table has its line, and what misses its bar is said to."""
    write_results(tmp_path / "results")
    page.write_page(tmp_path / "results", tmp_path / "gates.md")
    text = (tmp_path / "gates.md").read_text()
    assert (
        "| quiet | identical | 100 | 99 | 0 | 1 | fails ≤ 1%: **holds** (0.0% to 3.7%) | 10 | 1.000 (1.000 to 1.000) |"
        in text
    )
    assert "* quiet: identical ones are found 1.0000 times as fast, at most 1% off: **holds**." in text
    assert "* neighbour: identical ones are found 1.0200 times as fast, at most 1% off: **missed**." in text
    assert "caught ≥ 95%: **missed** (87.5% to 97.2%) | 10 | 0.909 (0.909 to 0.945) |" in text
    assert "| the same answers | 0.00% | 0.00% | 100 | 100 | 0 | 0 | fails ≤ 1%: **holds** (0.0% to 3.7%) |" in text
    assert "| 1% | 4% | 1,000 | 0 | 900 | 100 | caught ≥ 95%: **missed**" in text
    assert "| quiet | exactly at the bound | 1,000 | 0 | 1,000 | 0 | decided 100.0%" in text
    assert "| quiet | identical | 100 | 98 | 2 | 0 | fails ≤ 1%: **missed** (0.6% to 7.0%) | 1.010 to 1.300 |" in text
    assert "**Not quiet**: the load average was 1.9" in text
    assert (tmp_path / "gates-runs.svg").stat().st_size > 1000


def test_the_page_of_nothing_is_its_head(tmp_path):
    """Oracle: a folder without results."""
    page.write_page(tmp_path, tmp_path / "gates.md")
    assert (tmp_path / "gates.md").read_text() == page.HEADER


def test_one_run_of_every_simulation(tmp_path):
    """Oracle: a line for every noise and candidate, and for every difference, each of one run."""
    main(["simulate", "--runs", "1", "--results", str(tmp_path / "r"), "--page", str(tmp_path / "p.md"),
          "--rounds", "6", "--max-rounds", "6", "--calls", "4"])  # fmt: skip
    found = json.loads((tmp_path / "r" / "simulate.json").read_text())
    assert {noise: set(cases) for noise, cases in found["speed"].items()} == {
        noise: set(simulate.SLOWER) for noise in simulate.NOISES
    }
    assert all(summary["runs"] == 1 for summary in found["quality"].values())
    assert (tmp_path / "p.md").read_text().count("too few runs") == 14 + 7


def make_data(folder):
    random = np.random.default_rng(5)
    texts = [" ".join(random.choice(WORDS, size=4)) for _ in range(60)]
    examples = [Example(text=text, label=int(random.integers(len(LABELS)))) for text in texts]
    folder.mkdir()
    write_dataset(folder, LABELS, {"test": examples})
    return folder


@pytest.mark.slow
def test_real_runs_and_answers(tmp_path):
    """Oracle: the runs asked for, each judged; asked again, nothing is measured: the raw file stays as it was."""
    bundle, data = make_bundle(tmp_path / "student"), make_data(tmp_path / "data")
    common = ["--bundle", str(bundle), "--data", str(data), "--threads", "1", "--raw", str(tmp_path / "raw"),
              "--results", str(tmp_path / "results"), "--page", str(tmp_path / "gates.md")]  # fmt: skip
    plan = ["--rounds", "6", "--max-rounds", "6", "--calls", "5", "--conditions", "neighbour"]
    main(["speed", "--runs", "1", *plan, *common])
    raw = tmp_path / "raw" / "neighbour.jsonl"
    before = raw.read_bytes()
    main(["speed", "--runs", "1", *plan, *common])
    assert raw.read_bytes() == before
    main(["speed", "--runs", "2", *plan, *common])
    assert raw.read_bytes().startswith(before)
    found = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert {name: len(each) for name, each in found["conditions"]["neighbour"]["outcomes"].items()} == {
        speed.SAME: 2,
        speed.SLOWED: 2,
    }
    assert [0.5 < outcome["value"] < 2 for outcome in found["conditions"]["neighbour"]["memory"]] == [True] * 2
    main(["answers", "--runs", "2", *common])
    cases = json.loads((tmp_path / "results" / "answers.json").read_text())["cases"]
    assert [round(case["loss"], 2) for case in cases.values()] == [0.0, 0.02, 0.0, 0.02]
    assert {outcome["verdict"] for outcome in cases["the same answers"]["outcomes"]} <= {"pass", "inconclusive"}
    assert "## Speed, real runs" in (tmp_path / "gates.md").read_text()


def test_conditions_measured_apart_stand_together(tmp_path):
    """Oracle: what was kept, for the same setup; nothing for another, whose runs must not be counted beside these."""
    from benchmarks.gate.__main__ import _kept

    file, setup = tmp_path / "speed.json", {"digest": "a", "plan": {"rounds": 10}}
    assert _kept(file, setup) == {}
    file.write_text(json.dumps({**setup, "conditions": {"quiet": {"seconds": [1.0]}}}))
    assert _kept(file, setup) == {"quiet": {"seconds": [1.0]}}
    assert _kept(file, {**setup, "digest": "b"}) == {}


def test_one_command_at_a_time_writes_turns(tmp_path):
    """Oracle: the message, and the file as the first command left it; it is free again when that one is done."""
    path = tmp_path / "raw" / "quiet.jsonl"
    with open_writer(path, SETUP) as writer:
        with pytest.raises(BenchError, match=r"quiet\.jsonl is being written"), open_writer(path, SETUP):
            pass
        writer.begin(0)
        writer.end({"seconds": 1.0})
    with open_writer(path, SETUP):
        assert [run.facts for run in read_runs(path, SETUP)] == [{"seconds": 1.0}]
