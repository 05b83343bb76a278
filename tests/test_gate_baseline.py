"""A report against an earlier one."""

import pytest
from gate_example import make_report, write

from artifact.errors import ArtifactError
from pipeline.gate_config import Gate
from pipeline.gate_output import judge_files, render_lines


def compare(tmp_path, now, before):
    paths = [write(report, tmp_path / name) for report, name in ((now, "now"), (before, "before"))]
    judgement = judge_files(*paths)
    return {gate.name: gate for gate in judgement.gates}, judgement


@pytest.mark.parametrize(
    ("change", "verdicts"),
    [
        ({}, ("pass", "pass", "pass")),
        ({"errors": 130}, ("fail", "pass", "pass")),
        ({"errors": 33}, ("inconclusive", "pass", "pass")),
        ({"candidate_bytes": 22}, ("pass", "fail", "pass")),
        ({"candidate_ms": 2.4}, ("pass", "pass", "fail")),
    ],
)
def test_quality_size_and_latency_are_judged_against_the_last_candidate(tmp_path, change, verdicts):
    """Oracle: candidates made equal, worse, a tenth larger, or a fifth slower than the baseline's."""
    gates, judgement = compare(tmp_path, make_report(**change), make_report())
    assert tuple(gates[f"baseline {name}"].verdict for name in ("quality", "size", "latency")) == verdicts
    assert (judgement.baseline, judgement.notes) == ("s/int8", ())
    assert "quality" in gates  # the report's own gates are judged too


def test_latency_goes_by_the_row_that_is_the_same_in_both(tmp_path):
    """Oracle: arithmetic. A moment that is twice as slow for all rows cancels, exactly."""
    before = make_report()
    slow = before.benchmark.model_copy(
        update={
            "in_process": {
                name: row.model_copy(update={"single_ms": tuple(tuple(2 * x for x in r) for r in row.single_ms)})
                for name, row in before.benchmark.in_process.items()
            }
        }
    )
    gates, _ = compare(tmp_path, before.model_copy(update={"benchmark": slow}), before)
    assert gates["baseline latency"].ratio.value == pytest.approx(1)
    assert "by each run's ratio to t/float32" in gates["baseline latency"].reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"machine": {"processor": "two"}},
            "measured on another machine (processor differ)",
        ),
        ({"bundle": "c"}, "measured at another time, and no row is the same in both"),
    ],
)
def test_latency_that_cannot_be_compared_says_why(tmp_path, change, message):
    """Oracle: the line a user reads; it is judged neither way."""
    gates, judgement = compare(tmp_path, make_report(**change), make_report())
    assert "baseline latency" not in gates
    assert any(line.startswith(f"not comparable  baseline latency: {message}") for line in render_lines(judgement))
    assert "baseline" in judgement.notes[0]


def test_baseline_of_other_data_is_an_error(tmp_path):
    """Oracle: the message a user reads."""
    with pytest.raises(ArtifactError, match="different test data"):
        compare(tmp_path, make_report(data="one"), make_report(data="two"))


def test_what_was_measured_in_turns_is_left_to_that(tmp_path):
    """Oracle: the rule. A report that gates a metric against its own row `baseline` needs no second opinion on it."""
    gates = {"b": Gate(metric="latency_p50", reference="t/float32", max_degradation="5%")}
    report = make_report(gates=gates)
    in_turns = Gate(metric="latency_p50", reference="baseline", max_degradation="5%")
    rows = {**report.benchmark.in_process, "baseline": report.benchmark.in_process["s/int8"]}
    benchmark = report.benchmark.model_copy(update={"in_process": rows})
    now = report.model_copy(update={"conditions": {"b": in_turns}, "benchmark": benchmark})
    found, _ = compare(tmp_path, now, make_report())
    assert set(found) == {"b", "baseline quality", "baseline size"}
    assert found["b"].ratio.value == pytest.approx(1)
