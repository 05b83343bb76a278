import json

import numpy as np
import pytest

from artifact.errors import ArtifactError, BenchError
from artifact.manifest import Request, seal, write_json
from pipeline.gate import EXIT_CODES, decide, gate_report, judge, overall
from pipeline.gate_config import Gate
from pipeline.metrics import score_rows
from pipeline.report import ReportConfig, build_report
from pipeline.results import Benchmark, Evaluation, Interval, SpeedRow

QUALITY = Gate(metric="quality", reference="t/float32", min_ratio=0.98)
LATENCY = Gate(metric="latency_p50", reference="t/float32", min_ratio=3)
THROUGHPUT = Gate(metric="throughput", reference="t/float32", min_ratio=3)
SIZE = Gate(metric="size", reference="t/float32", max_ratio=0.25)


def make_evaluation(errors, examples=1000):
    """Rows that are wrong on the first `errors` examples, so that the ratio is known."""
    truths = [0] * examples
    predictions = {row: [1] * wrong + [0] * (examples - wrong) for row, wrong in errors.items()}
    rows = score_rows(predictions, "t/float32", truths, seed=1)
    return Evaluation(reference="t/float32", labels=("no", "yes"), truths=tuple(truths), rows=rows)


def make_speed(milliseconds, size_bytes, rounds=8):
    drift = np.linspace(1, 2, rounds)[:, None] * np.linspace(0.95, 1.05, 20)
    return SpeedRow(
        single_ms=tuple(map(tuple, (milliseconds * drift).tolist())),
        batch_texts_per_second=tuple((1000 / milliseconds / drift[:, 0]).tolist()),
        size_bytes=size_bytes,
        peak_memory_bytes=1,
        threads=1,
    )


def make_benchmark(*, candidate_ms=2.0, candidate_bytes=20, rounds=8, machine=None):
    rows = {
        "t/pytorch": make_speed(20.0, 100, rounds),
        "t/float32": make_speed(10.0, 100, rounds),
        "s/int8": make_speed(candidate_ms, candidate_bytes, rounds),
    }
    return Benchmark(machine=machine or {"processor": "one"}, in_process=rows, http={})


def make_report(*, errors=30, gates=None, data="d", **benchmark):
    config = ReportConfig(recipe="demo", candidate="s/int8", reference="t/pytorch", gates=gates or {"quality": QUALITY})
    evaluation = make_evaluation({"t/pytorch": 30, "t/float32": 30, "s/int8": errors})
    return build_report(config, evaluation, make_benchmark(**benchmark), lineage={"data": data}, facts={})


def write(report, directory):
    directory.mkdir()
    write_json(directory / "report.json", report.model_dump(mode="json"))
    return directory


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


def test_gate_report_judges_from_samples_not_from_what_is_written(tmp_path):
    """Oracle: a report whose written verdict was changed by hand is judged as before."""
    report = make_report(errors=130)
    forged = report.model_dump(mode="json") | {"verdict": "pass"}
    forged["gates"][0]["verdict"] = "pass"
    write_json(tmp_path / "report.json", forged)
    verdict, lines = gate_report(tmp_path / "report.json", None)
    assert verdict == "fail"
    assert lines[0].startswith("fail          quality: accuracy 0.897 [")
    assert lines[-1] == "verdict: fail"


def test_gate_report_takes_the_directory_too(tmp_path):
    """Oracle: identity with the path of report.json."""
    directory = write(make_report(), tmp_path / "report")
    assert gate_report(directory, None) == gate_report(directory / "report.json", None)


def test_a_changed_report_is_found_by_its_seal(tmp_path):
    """Oracle: the message a user reads after one byte was changed."""
    directory = write(make_report(), tmp_path / "report")
    request = Request(stage="report", version=1, config={}, inputs={})
    seal(directory, kind="report", request=request, lineage={}, facts={})
    (directory / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"report\.json has"):
        gate_report(directory, None)


@pytest.mark.parametrize(("errors", "size", "verdict"), [(30, 20, "pass"), (130, 20, "fail"), (30, 22, "fail")])
def test_baseline_judges_quality_and_size_against_the_last_candidate(tmp_path, errors, size, verdict):
    """Oracle: candidates made equal, much worse, or a tenth larger than the baseline's."""
    now = write(make_report(errors=errors, candidate_bytes=size), tmp_path / "now")
    before = write(make_report(candidate_ms=0.1), tmp_path / "before")
    found, lines = gate_report(now, before)
    assert found == verdict
    assert [line.split()[1] for line in lines[:2]] == ["quality:", "size:"]
    assert "not comparable  latency: measured at another time" in lines[2]


def test_baseline_of_another_machine_has_no_comparable_latency(tmp_path):
    """Oracle: the line a user reads."""
    now, before = (write(make_report(machine={"processor": name}), tmp_path / name) for name in ("one", "two"))
    assert "not comparable  latency: measured on another machine" in gate_report(now, before)[1][2]


def test_baseline_of_other_data_is_an_error(tmp_path):
    """Oracle: the message a user reads."""
    now, before = (write(make_report(data=name), tmp_path / name) for name in ("one", "two"))
    with pytest.raises(ArtifactError, match="different test data"):
        gate_report(now, before)


def test_a_directory_without_report_is_one_clear_error(tmp_path):
    """Oracle: the message a user reads."""
    with pytest.raises(ArtifactError, match=r"holds no report\.json\n  name a report directory"):
        gate_report(tmp_path, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema_version": 2}, "schema_version: .*1"), ({"rows": 3}, "rows: "), ({"surprise": 1}, "surprise: ")],
)
def test_a_report_of_another_schema_is_one_clear_error(tmp_path, change, message):
    """Oracle: the message a user reads."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps(make_report().model_dump(mode="json") | change), encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"no report of this version of understudy: {message}") as error:
        gate_report(path, None)
    assert str(error.value).count("\n") == 1


def test_a_report_that_is_no_json_is_one_clear_error(tmp_path):
    """Oracle: the message a user reads."""
    path = tmp_path / "report.json"
    path.write_text("not json", encoding="utf-8")
    with pytest.raises(ArtifactError, match="no report of this version"):
        gate_report(path, None)
