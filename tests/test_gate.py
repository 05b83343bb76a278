import numpy as np
import pytest
from gate_example import (
    LATENCY,
    QUALITY,
    SIZE,
    THROUGHPUT,
    make_benchmark,
    make_evaluation,
    make_facts,
    make_speed,
)

from artifact.errors import BenchError
from pipeline.auroc import auroc
from pipeline.gate import EXIT_CODES, decide, judge, overall, undecided
from pipeline.gate_config import Gate
from pipeline.results import Interval


@pytest.mark.parametrize(
    ("gate", "low", "high", "verdict"),
    [
        (QUALITY, 0.98, 1.01, "pass"),
        (QUALITY, 0.9799, 1.01, "inconclusive"),
        (QUALITY, 0.90, 0.98, "inconclusive"),
        (QUALITY, 0.90, 0.9799, "fail"),
        (SIZE, 0.25, 0.25, "pass"),
        (SIZE, 0.2501, 0.2501, "fail"),
        (SIZE, 0.2, 0.3, "inconclusive"),
    ],
)
def test_a_gate_decides_only_by_the_whole_interval(gate, low, high, verdict):
    """Oracle: the rule longhand, at and beside the bound."""
    assert decide("g", gate, "s/int8", Interval(value=(low + high) / 2, low=low, high=high)).verdict == verdict


def test_a_better_ratio_never_has_a_worse_verdict():
    """Oracle: monotony. Sliding one interval upwards goes fail, inconclusive, pass."""
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    starts = np.linspace(0.9, 1.05, 40)
    verdicts = [decide("g", QUALITY, "s", Interval(value=x, low=x, high=x + 0.02)).verdict for x in starts]
    ranks = [order[verdict] for verdict in verdicts]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}


@pytest.mark.parametrize(
    ("gate", "errors", "candidate", "verdict", "ratio"),
    [
        (QUALITY, 30, (2.0, 20), "pass", 1.0),
        (QUALITY, 130, (2.0, 20), "fail", 870 / 970),
        (QUALITY, 50, (2.0, 20), "inconclusive", 950 / 970),
        (LATENCY, 30, (2.0, 20), "pass", 5.0),
        (LATENCY, 30, (5.0, 20), "fail", 2.0),
        (THROUGHPUT, 30, (2.0, 20), "pass", 5.0),
        (THROUGHPUT, 30, (5.0, 20), "fail", 2.0),
        (SIZE, 30, (2.0, 25), "pass", 0.25),
        (SIZE, 30, (2.0, 26), "fail", 0.26),
    ],
)
def test_judge_measures_each_metric_as_its_name_says(gate, errors, candidate, verdict, ratio):
    """Oracle: rows made so that the ratio is known; faster and smaller are ratios to the reference."""
    evaluation = make_evaluation({"t/float32": 30, "s/int8": errors})
    candidate_ms, candidate_bytes = candidate
    benchmark = make_benchmark(candidate_ms=candidate_ms, candidate_bytes=candidate_bytes)
    sizes = {"t/float32": 100, "s/int8": candidate_bytes}
    (result,) = judge({"g": gate}, "s/int8", evaluation, benchmark, sizes)
    assert (result.verdict, result.ratio.value) == (verdict, pytest.approx(ratio))
    assert gate is not SIZE or result.ratio.low == result.ratio.high


def test_few_rounds_decide_nothing():
    """Oracle: with five rounds all can lie on one side by chance in 1 of 16 runs, more than 5 %."""
    results = judge({"g": LATENCY}, "s/int8", make_evaluation({"t/float32": 1}), make_benchmark(rounds=5), {})
    assert results[0].verdict == "inconclusive"
    assert "5 rounds" in results[0].reason


def test_a_row_against_itself_is_exactly_one():
    """Oracle: identity."""
    gates = {"q": QUALITY, "l": Gate(metric="latency_p50", reference="t/float32", min_ratio=1)}
    results = judge(gates, "t/float32", make_evaluation({"t/float32": 30}), make_benchmark(), {})
    assert [(r.ratio.low, r.ratio.high, r.verdict) for r in results] == [(1, 1, "pass")] * 2


@pytest.mark.parametrize("gate", [QUALITY, LATENCY, THROUGHPUT, SIZE])
def test_a_gate_on_what_was_not_measured_is_an_error(gate):
    """Oracle: the message names the row."""
    with pytest.raises(BenchError, match=r"s/int4.* was not (evaluated|benchmarked|measured)|size of s/int4"):
        judge({"g": gate}, "s/int4", make_evaluation({"t/float32": 1}), make_benchmark(), {})


@pytest.mark.parametrize(
    ("ratios", "verdict", "code"),
    [((), "pass", 0), ((1.1,), "pass", 0), ((1.1, 0.5), "fail", 1), ((1.1, 0.98), "inconclusive", 3)],
)
def test_the_worst_gate_decides(ratios, verdict, code):
    """Oracle: the table of exit codes in the design."""
    gates = [decide("g", QUALITY, "s", Interval(value=r, low=r - 0.01, high=r + 0.01)) for r in ratios]
    assert overall(gates) == verdict
    assert EXIT_CODES[overall(gates)] == code


def judge_one(gate, candidate="s/int8", *, errors=30, auroc=None, facts=None, **benchmark):
    evaluation = make_evaluation({"t/float32": 30, "s/int8": errors}, examples=1000)
    if auroc is not None:
        rows = {
            row: evaluation.rows[row].model_copy(update={"out_of_domain_auroc": found}) for row, found in auroc.items()
        }
        evaluation = evaluation.model_copy(update={"rows": rows})
    sizes = {"t/float32": 100_000_000, "s/int8": 20_000_000}
    facts = facts or {"bundle:s": make_facts(), "bundle:t": make_facts(layers=4)}
    (result,) = judge({"g": gate}, candidate, evaluation, make_benchmark(**benchmark), sizes, facts=facts)
    return result


@pytest.mark.parametrize(
    ("metric", "bound", "expected", "verdict"),
    [
        ("quality", {"threshold": 0.95}, 0.97, "pass"),
        ("quality", {"threshold": 0.99}, 0.97, "fail"),
        ("latency_p50", {"threshold": 5}, None, "pass"),
        ("latency_p50", {"threshold": 1.5}, None, "fail"),
        ("throughput", {"threshold": 100}, None, "pass"),
        ("size", {"threshold": 20}, 20.0, "pass"),
        ("size", {"threshold": 19.9}, 20.0, "fail"),
        ("memory", {"threshold": 1}, 1e-6, "pass"),
        ("parity", {"threshold": 0.95}, 0.97, "pass"),
        ("parity", {"threshold": 0.98}, 0.97, "fail"),
        ("fusion", {"threshold": 4}, 4.5, "pass"),
        ("fusion", {"threshold": 5}, 4.5, "fail"),
        ("batch_invariance", {"threshold": 200}, 0.0, "pass"),
        ("batch_invariance", {"threshold": 100}, 0.0, "inconclusive"),
    ],
)
def test_a_threshold_is_on_the_candidate_alone(metric, bound, expected, verdict):
    """Oracle: rows and facts made so that the number is known, and which way is better for each metric.

    256 texts without one that flips leave 148 in 10,000 open (Wilson), so 100 cannot be passed nor failed.
    """
    result = judge_one(Gate(metric=metric, **bound))
    assert (result.kind, result.verdict, result.reference) == ("value", verdict, "")
    assert result.value == result.ratio
    assert expected is None or result.value.value == pytest.approx(expected)


DRIFT = float(np.median(np.outer(np.linspace(1, 2, 8), np.linspace(0.95, 1.05, 20))))
"""Of the calls of `make_benchmark`, their median."""


@pytest.mark.parametrize(
    ("metric", "bound", "kind", "number", "verdict"),
    [
        ("quality", {"max_degradation": 0.2}, "difference", -0.1, "pass"),
        ("quality", {"max_degradation": 0.05}, "difference", -0.1, "fail"),
        ("quality", {"max_degradation": "5%"}, "ratio", 870 / 970, "fail"),
        ("quality", {"min_improvement": 0.01}, "difference", -0.1, "fail"),
        ("latency_p50", {"max_degradation": "5%"}, "ratio", 0.2, "pass"),
        ("latency_p50", {"min_improvement": "70%"}, "ratio", 0.2, "pass"),
        ("latency_p50", {"min_improvement": "90%"}, "ratio", 0.2, "fail"),
        ("latency_p50", {"max_degradation": 1}, "difference", -8 * DRIFT, "pass"),
        ("latency_p50", {"min_ratio": 4}, "ratio", 5.0, "pass"),
        ("throughput", {"min_improvement": "300%"}, "ratio", 5.0, "pass"),
        ("throughput", {"min_improvement": "500%"}, "ratio", 5.0, "fail"),
        ("size", {"max_degradation": "5%"}, "ratio", 0.2, "pass"),
        ("size", {"min_improvement": 80}, "difference", -80.0, "pass"),
        ("memory", {"max_degradation": "0%"}, "ratio", 1.0, "pass"),
        ("parity", {"max_degradation": 0.01}, "difference", 0.0, "pass"),
        ("fusion", {"max_degradation": 0.1}, "difference", 0.25, "pass"),
        ("batch_invariance", {"max_degradation": 300}, "difference", 0.0, "pass"),
    ],
)
def test_degradation_and_improvement_know_which_way_is_better(metric, bound, kind, number, verdict):
    """Oracle: rows and facts made so that the number is known; the candidate has 130 errors in 1000, the other 30."""
    result = judge_one(Gate(metric=metric, reference="t/float32", **bound), errors=130)
    assert (result.kind, result.verdict) == (kind, verdict)
    assert result.ratio.value == pytest.approx(number)


def test_out_of_domain_compares_two_intervals_as_if_independent():
    """Oracle: the root of the sum of squares of what each side leaves open."""
    ours, theirs = Interval(value=0.90, low=0.87, high=0.92), Interval(value=0.95, low=0.91, high=0.96)
    gate = Gate(metric="out_of_domain_auroc", reference="t/float32", max_degradation=0.2)
    found = judge_one(gate, auroc={"s/int8": ours, "t/float32": theirs})
    assert (found.verdict, found.ratio.value) == ("pass", pytest.approx(-0.05))
    assert found.ratio.low == pytest.approx(-0.05 - np.hypot(0.03, 0.01))
    assert found.ratio.high == pytest.approx(-0.05 + np.hypot(0.02, 0.04))


def test_out_of_domain_is_paired_where_the_scores_were_kept():
    """Oracle: two rows that find the same texts strange differ by nothing, which two intervals alone cannot tell."""
    random = np.random.default_rng(0)
    inside, outside = random.normal(size=400), random.normal(1.5, size=300)
    evaluation = make_evaluation({"t/float32": 0, "s/int8": 0}, examples=400)
    rows = {
        name: row.model_copy(
            update={
                "out_of_domain_auroc": auroc(inside + shift, outside),
                "strangeness": tuple(inside + shift),
                "strangeness_outside": tuple(outside),
            }
        )
        for (name, row), shift in zip(evaluation.rows.items(), (0.0, random.normal(scale=0.02, size=400)), strict=True)
    }
    gate = Gate(metric="out_of_domain_auroc", reference="t/float32", max_degradation=0.005)
    (paired,) = judge({"g": gate}, "s/int8", evaluation.model_copy(update={"rows": rows}), make_benchmark(), {})
    assert paired.verdict == "pass"
    assert paired.ratio.high - paired.ratio.low < 0.005
    alone = evaluation.model_copy(update={"rows": {"s/int8": rows["s/int8"]}})
    with pytest.raises(BenchError, match="t/float32 was not asked out-of-domain text"):
        judge({"g": gate}, "s/int8", alone, make_benchmark(), {})
    areas = {name: row.out_of_domain_auroc for name, row in rows.items()}
    assert judge_one(gate, auroc=areas).verdict == "inconclusive"


def test_answers_alike_are_no_sign_of_a_loss():
    """Oracle: the rule. Equal answers pass any gate on degradation, and none on improvement."""
    for bound, verdict in (({"max_degradation": 0}, "pass"), ({"min_improvement": 0.0001}, "inconclusive")):
        result = judge_one(Gate(metric="quality", reference="t/float32", **bound))
        assert (result.verdict, result.ratio.value) == (verdict, 0)
        assert result.ratio.low < 0 < result.ratio.high


def test_few_answers_alike_prove_nothing():
    """Oracle: the rule of three; of 200 equal answers more than one in a hundred others may differ."""
    evaluation = make_evaluation({"t/float32": 3, "s/int8": 3}, examples=200)
    gate = Gate(metric="quality", reference="t/float32", max_degradation=0)
    (result,) = judge({"g": gate}, "s/int8", evaluation, make_benchmark(), {})
    assert result.verdict == "inconclusive"


def test_a_quality_gate_says_who_won_and_lost_examples():
    """Oracle: counted by hand; the exact test of 100 to none."""
    reason = judge_one(QUALITY, errors=130).reason
    assert reason.startswith("accuracy 0.897 [")
    assert reason.endswith("times that of t/float32, wanted >= 0.98; 0 examples won and 100 lost, McNemar p 1.6e-30")


def noisy(ratio, rounds, *, seed=5, spread=0.05):
    """Two rows of which one takes `ratio` times as long, give or take."""
    random = np.random.default_rng(seed)
    rows = {}
    for name, scale in (("t/float32", 1.0), ("s/int8", ratio)):
        single = scale * random.lognormal(0, spread, (rounds, 1)) * np.ones((rounds, 5))
        rows[name] = make_speed(1.0, 1, rounds).model_copy(
            update={"single_ms": tuple(map(tuple, single.tolist())), "batch_texts_per_second": tuple(1 / single[:, 0])}
        )
    return rows


SLOWER = {"l": Gate(metric="latency_p50", reference="t/float32", max_degradation="5%")}


@pytest.mark.parametrize(
    ("ratio", "spread", "open_rows"),
    [(1.0, 0.005, set()), (1.05, 0.05, {"s/int8", "t/float32"}), (1.5, 0.05, set())],
)
def test_only_a_gate_on_speed_that_is_open_asks_for_more(ratio, spread, open_rows):
    """Oracle: rows made clearly equal, clearly slower, and on the bound; a gate on quality asks for nothing."""
    gates = {**SLOWER, "q": QUALITY}
    assert undecided(gates, "s/int8", noisy(ratio, 10, spread=spread)) == open_rows


def test_few_rounds_ask_for_more():
    """Oracle: the least number of rounds for 95 % in four looks, 8."""
    rows = noisy(2.0, 7)
    assert undecided(SLOWER, "s/int8", rows, looks=4) == {"s/int8", "t/float32"}
    assert undecided(SLOWER, "s/int8", noisy(2.0, 8), looks=4) == frozenset()


@pytest.mark.parametrize("looks", [1, 4])
def test_who_is_undecided_is_who_is_judged_inconclusive(looks):
    """Oracle: `judge` on the same samples, over true ratios from clear to open to clear."""
    evaluation = make_evaluation({"t/float32": 30, "s/int8": 30})
    seen = set()
    for seed, ratio in enumerate(np.linspace(0.9, 1.3, 21)):
        rows = noisy(ratio, 10, seed=seed)
        benchmark = make_benchmark(looks=looks).model_copy(update={"in_process": rows})
        (result,) = judge(SLOWER, "s/int8", evaluation, benchmark, {})
        assert (result.verdict == "inconclusive") == bool(undecided(SLOWER, "s/int8", rows, looks=looks))
        seen.add(result.verdict)
    assert seen == {"pass", "fail", "inconclusive"}


def test_looks_widen_the_interval():
    """Oracle: monotony; with more looks planned the same sample says less."""
    gate = SLOWER["l"]
    evaluation = make_evaluation({"t/float32": 30, "s/int8": 30})
    widths = []
    for looks in (1, 2, 4):
        benchmark = make_benchmark(looks=looks).model_copy(update={"in_process": noisy(1.02, 40)})
        ratio = judge({"g": gate}, "s/int8", evaluation, benchmark, {})[0].ratio
        widths.append(ratio.high - ratio.low)
    assert widths[0] < widths[1] < widths[2]


def test_a_row_that_stopped_early_is_compared_by_the_rounds_it_took():
    """Oracle: the same judgement with the later rounds of the other row cut off."""
    rows = noisy(1.2, 20)
    cut = {name: row.model_copy(update={"single_ms": row.single_ms[:10]}) for name, row in rows.items()}
    evaluation = make_evaluation({"t/float32": 30, "s/int8": 30})
    found = [
        judge(SLOWER, "s/int8", evaluation, make_benchmark().model_copy(update={"in_process": measured}), {})[0].ratio
        for measured in ({**rows, "t/float32": cut["t/float32"]}, cut)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate(metric="out_of_domain_auroc", threshold=0.9), "s/int8 was not asked out-of-domain text"),
        (Gate(metric="memory", reference="t/int4", max_degradation="1%"), "t/int4 was not benchmarked"),
        (Gate(metric="parity", reference="bag-of-words", max_degradation=0), "bag-of-words is no bundle"),
        (Gate(metric="parity", reference="t/int4", max_degradation=0), "does not state its parity"),
    ],
)
def test_a_gate_on_a_fact_that_is_not_there_is_an_error(gate, message):
    """Oracle: the message a user reads."""
    with pytest.raises(BenchError, match=message):
        judge_one(gate)


def test_labels_that_are_none_cannot_flip():
    """Oracle: the message a user reads; a bundle of embeddings has no labels."""
    facts = make_facts()
    facts["precisions"]["int8"]["invariance"]["labels"] = None
    with pytest.raises(BenchError, match="gives no labels"):
        judge_one(Gate(metric="batch_invariance", threshold=1), facts={"bundle:s": facts})


def test_the_baseline_is_a_bundle_with_facts_of_its_own():
    """Oracle: facts made so that the difference is known; the row says which precision it was."""
    facts = {"bundle:s": make_facts(), "baseline": {**make_facts(cosine=0.99), "baseline": {"row": "old/int8"}}}
    result = judge_one(Gate(metric="parity", reference="baseline", max_degradation=0.01), facts=facts)
    assert (result.verdict, result.ratio.value) == ("fail", pytest.approx(-0.02))
