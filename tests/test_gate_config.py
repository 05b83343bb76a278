"""What a recipe may ask of a gate, and what it is told when it asks for something else."""

import typing
from pathlib import Path

import pytest
from pydantic import ValidationError

from artifact.config import parse_config
from artifact.errors import ConfigError
from pipeline.gate_config import METRICS, Gate, Metric, parse_share
from pipeline.gate_defaults import BASELINE_GATES, gates_of
from pipeline.recipe import load_recipe

DEMO = Path(__file__).parent.parent / "recipes" / "demo.yaml"


@pytest.mark.parametrize(
    ("gate", "limit"),
    [
        ({"metric": "quality", "threshold": 0.9}, "value >= 0.9"),
        ({"metric": "size", "threshold": 25}, "value <= 25"),
        ({"metric": "quality", "max_degradation": 0.002}, "difference >= -0.002"),
        ({"metric": "quality", "max_degradation": "1%"}, "ratio >= 0.99"),
        ({"metric": "latency_p50", "max_degradation": "5%"}, "ratio <= 1.05"),
        ({"metric": "latency_p50", "max_degradation": 0.5}, "difference <= 0.5"),
        ({"metric": "latency_p50", "min_improvement": "20 %"}, "ratio <= 0.8"),
        ({"metric": "throughput", "min_improvement": "20%"}, "ratio >= 1.2"),
        ({"metric": "memory", "min_improvement": 10}, "difference <= -10"),
        ({"metric": "latency_p50", "min_ratio": 3}, "ratio >= 3"),
        ({"metric": "size", "max_ratio": 0.25}, "ratio <= 0.25"),
    ],
)
def test_each_bound_is_a_side_and_a_number(gate, limit):
    """Oracle: written by hand, from which way is better for each metric."""
    reference = {} if "threshold" in gate else {"reference": "t/float32"}
    found = Gate(**gate, **reference).limit()
    assert f"{found.kind} {found}" == limit
    assert found.is_speed == ("min_ratio" in gate)


def test_every_metric_has_a_meaning():
    """Oracle: the type that recipes are checked against."""
    assert set(METRICS) == set(typing.get_args(Metric))


@pytest.mark.parametrize(
    ("gate", "messages"),
    [
        ({}, ["give exactly one of threshold, max_degradation, min_improvement, min_ratio, max_ratio, found none"]),
        ({"threshold": 0.9, "reference": "t"}, ["leave out reference, found 't'"]),
        ({"max_degradation": 0.1}, ["max_degradation compares with another row: name it as reference"]),
        (
            {"min_ratio": 1, "max_ratio": 2, "max_degradation": -1},
            ["found max_degradation and min_ratio and max_ratio", "name it as reference", "never negative, found -1"],
        ),
        ({"max_degradation": "a bit", "reference": "t"}, ["'a bit', expected a number in the metric's unit or a perc"]),
        ({"max_degradation": 2, "reference": "t"}, ["in shares of 1, found 2: write 2% or 0.02"]),
        ({"max_degradation": "100%", "reference": "t"}, ["is 100%, expected below 100%"]),
        ({"threshold": 97}, ["threshold of quality is a share between 0 and 1, found 97"]),
        ({"metric": "size", "threshold": -1}, ["never negative, found -1"]),
        ({"metric": "latency_p50", "min_improvement": "120%", "reference": "t"}, ["expected below 100%"]),
        ({"metric": "batch_invariance", "max_degradation": "1%", "reference": "t"}, ["often zero"]),
        ({"metric": "batch_invariance", "max_ratio": 1, "reference": "t"}, ["often zero"]),
    ],
)
def test_each_wrong_combination_is_told_at_once(gate, messages):
    """Oracle: the messages a user reads, all in one error."""
    with pytest.raises(ConfigError) as error:
        parse_config(Gate, {"metric": "quality", **gate}, where="the recipe")
    for message in messages:
        assert message in str(error.value)


def test_gates_written_before_still_load():
    """Oracle: identity with what such a recipe meant."""
    gate = Gate.model_validate({"metric": "quality", "reference": "teacher/float32", "min_ratio": 0.93})
    assert (gate.limit().kind, gate.limit().number, gate.limit().at_least) == ("ratio", 0.93, True)


def test_a_gate_survives_json():
    """Oracle: identity; a report holds its gates, to be judged again."""
    for gate in (Gate(metric="size", threshold=3), *BASELINE_GATES.values()):
        assert Gate.model_validate_json(gate.model_dump_json()) == gate


def test_gates_against_a_baseline_apply_where_there_is_one():
    """Oracle: the rule longhand: dropped, kept, or put there."""
    own = {"q": Gate(metric="quality", threshold=0.9)}
    named = {**own, "b": Gate(metric="size", reference="baseline", max_ratio=1)}
    assert gates_of(named, has_baseline=False) == own
    assert gates_of(named, has_baseline=True) == named
    assert gates_of(own, has_baseline=True) == {**own, **BASELINE_GATES}


def test_a_recipe_may_gate_against_a_baseline_it_does_not_have_yet():
    """Oracle: the rule; any other row that is not there is refused by name."""
    gate = "gates.{}={{metric: latency_p50, reference: {}, max_degradation: 5%}}"
    recipe = load_recipe(DEMO, [gate.format("b", "baseline")])
    assert recipe.gates["b"].limit().number == 1.05
    with pytest.raises(ConfigError, match=r"gates\.b\.reference is 'teacher/int4'"):
        load_recipe(DEMO, [gate.format("b", "teacher/int4")])


def test_a_share_is_a_percentage():
    """Oracle: arithmetic."""
    assert [parse_share(text) for text in ("1%", "0.5 %", " 20% ")] == [0.01, 0.005, 0.2]
    with pytest.raises(ValueError, match="no percentage"):
        parse_share("1")


def test_a_bound_that_is_no_number_is_refused():
    """Oracle: pydantic's own words."""
    with pytest.raises(ValidationError):
        Gate(metric="quality", threshold="much")
