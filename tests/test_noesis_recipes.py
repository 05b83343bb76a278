"""NOESIS II's recipes: the conversations of the smoke run, and how thresholds reach a service."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from serve_client import open_client
from tiny_models import save_teacher

from artifact.config import parse_config
from artifact.dataset import read_split
from artifact.errors import ConfigError, DataError
from artifact.manifest import Origin, Request, seal
from pipeline.conversations import generate_conversations
from pipeline.data_config import DataConfig
from pipeline.gate import read_report
from pipeline.recipe import load_recipe
from pipeline.selection import run_selection
from pipeline.stages import service_path, steps_of
from serve.config import read_service_config
from serve.http.app import create_app
from serve.runtime import Runtime
from serve.selection.config import SelectionConfig

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "noesis"
GRAMMAR = RECIPES / "conversations.yaml"


@pytest.fixture(scope="module")
def conversations():
    return generate_conversations(GRAMMAR, 1)


def test_conversations_are_the_same_every_time(conversations):
    """Oracle: identity of seeds; other seeds say other things; no two rows have the same turns, in any split."""
    assert generate_conversations(GRAMMAR, 1) == conversations
    assert generate_conversations(GRAMMAR, 2) != conversations
    sizes = yaml.safe_load(GRAMMAR.read_text(encoding="utf-8"))["sizes"]
    assert {split: len(rows) for split, rows in conversations.items()} == sizes
    contexts = [json.dumps(row["context"]) for rows in conversations.values() for row in rows]
    assert len(set(contexts)) == len(contexts)


def test_one_candidate_is_right_or_none_is(conversations):
    """Oracle: the grammar's own numbers; the right answer stands where the label says, and nowhere else."""
    grammar = yaml.safe_load(GRAMMAR.read_text(encoding="utf-8"))
    for row in conversations["test"]:
        assert len(set(row["candidates"])) == len(row["candidates"]) == grammar["candidates"]
        places = [place for place, each in enumerate(row["candidates"]) if each == row["response"]]
        assert places == ([row["label"]] if row["label"] >= 0 else [])
    none = sum(row["label"] < 0 for row in conversations["test"])
    assert 0.5 < none / len(conversations["test"]) / grammar["none_share"] < 1.7
    assert "candidates" not in conversations["train"][0]


def test_a_conversation_is_about_one_thing(conversations):
    """Oracle: the one value of a slot that its turns name, in its answer too; unseen values are the test split's."""
    devices = yaml.safe_load(GRAMMAR.read_text(encoding="utf-8"))["topics"]["wifi"]["slots"]["device"]
    for split, rows in conversations.items():
        talked = [row for row in rows if "wifi" in row["context"][0]["utterance"]]
        assert talked
        for row in talked:
            named = [d for d in devices["seen"] + devices["unseen"] if d in row["context"][0]["utterance"]]
            assert len(named) == 1
            assert split == "test" or named[0] in devices["seen"]
            other = set(devices["seen"] + devices["unseen"]) - set(named)
            assert not any(f" {device} " in f" {row['response']} " for device in other)


FAULTS = {
    "a slot that is not there": ({"says": ["the {colour}"]}, ConfigError, "no slot 'colour'"),
    "too few conversations": ({}, DataError, "yields only"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_grammar_says_what_is_wrong_with_it(tmp_path, name):
    """Oracle: the messages."""
    change, kind, message = FAULTS[name]
    topic = {"opens": ["a"], "asks": ["b"], "says": ["c"], "answers": ["d"]}
    file = {
        "sizes": {"train": 9, "validation": 1, "test": 1},
        "candidates": 2,
        "topics": {"x": topic | change, "y": topic},
    }
    (tmp_path / "g.yaml").write_text(yaml.safe_dump(file))
    with pytest.raises(kind, match=message):
        generate_conversations(tmp_path / "g.yaml", 1)


def test_conversations_are_for_choosing_answers():
    """Oracle: the message."""
    with pytest.raises(ConfigError, match="conversations is of the task response-selection"):
        parse_config(DataConfig, {"source": {"kind": "conversations", "grammar": "g.yaml"}}, "it")


def test_thresholds_reach_the_service(tmp_path):
    """Oracle: the evaluation's facts by hand; who never says NONE, or is not deployed, has no entry."""
    (tmp_path / "evaluation").mkdir()
    values = {
        "student/int8": 0.62,
        "student/float32": -1e-9,
        "teacher/int8": 2.0,
        "teacher/pytorch": 0.5,
        "tf-idf": 0.9,
    }
    facts = {
        "none_thresholds": {row: {"value": value, "split": "validation", "queries": 5} for row, value in values.items()}
    }
    origins = {f"bundle:{name}": Origin(digest=f"of {name}", path=name) for name in ("student", "teacher")}
    request = Request(stage="evaluate", version=1, config={}, inputs={})
    seal(tmp_path / "evaluation", kind="evaluation", request=request, lineage=origins, facts=facts)
    rows = [f"{model}/{precision}" for model in ("teacher", "student") for precision in ("float32", "int8")]
    found = run_selection(rows, tmp_path / "evaluation", tmp_path)
    assert found == {"none_thresholds": {"student/int8": 0.62, "student/float32": 0.0}}
    config = read_service_config(tmp_path / "service.yaml")
    assert config.selection == {
        "student/int8": SelectionConfig(none_threshold=0.62, digest="of student"),
        "student/float32": SelectionConfig(none_threshold=0.0, digest="of student"),
    }


def test_a_recipe_that_chooses_is_served_by_its_thresholds(tmp_path):
    """Oracle: the steps by name; a recipe of another task has none such."""
    for name in ("bi", "cross", "smoke"):
        recipe = load_recipe(RECIPES / f"{name}.yaml")
        assert service_path(recipe, tmp_path) == tmp_path / "selection"
        assert [step.out.name for step in steps_of(recipe, tmp_path)][-2:] == ["selection", "package"]
    assert service_path(load_recipe(RECIPES.parent / "sst2.yaml"), tmp_path) is None
    assert service_path(load_recipe(RECIPES.parent / "demo.yaml"), tmp_path) == tmp_path / "calibration"


SMALL = (
    "data.rows={train: 60, validation: 20, test: 30}",
    "export={parity: {int8_min_cosine: 0.5, batch_sizes: [1, 2], lengths: [1, 8]}, min_quality: null}",
    "models.bi-teacher.deploy=false", "models.cross-teacher.deploy=false", "gates={}", "bench.rounds=2",
    "bench.max_rounds=2", "bench.texts=4", "models.bi-student.start.layers=[1]",
    *(f"models.{name}.max_tokens=48" for name in ("bi-teacher", "bi-student", "cross-teacher", "cross-student")),
)  # fmt: skip


def run_smoke(out: Path, *overrides: str) -> tuple[int, str]:
    """The exit code and what it told, on the terminal."""
    command = [sys.executable, "-m", "pipeline", "run", str(RECIPES / "smoke.yaml"), *overrides, "--out", str(out)]
    done = subprocess.run(command, cwd=RECIPES.parent.parent, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def check_service(out: Path) -> None:
    """Oracle: what the evaluation kept of each test query, asked again of a service with the bundles and thresholds."""
    report = read_report(out / "report")
    config = read_service_config(out / "selection" / "service.yaml")
    rows = [row.partition("/") for row in report.evaluation.rows if row.endswith(("/float32", "/int8"))]
    engines = [Runtime.open(out / "bundles" / model, precision, threads=1) for model, _, precision in rows]
    examples = read_split(out / "data", "test")[:6]
    with open_client(create_app({engine.name: engine for engine in engines}, report.candidate, config)) as client:
        for engine in engines:
            row = report.evaluation.rows[engine.name]
            chosen = (config.selection or {}).get(engine.name)
            assert (chosen is None) == (row.none_threshold.value >= 2)
            for example, (rank, best) in zip(examples, row.predictions, strict=False):
                asked = {"model": engine.name, "query": example.text, "return_none": True, "texts": example.candidates}
                told = client.post("/rerank", asked).json()
                assert told["none"]["score"] == pytest.approx(1 - best, abs=0.02)  # int8 answers by its company
                if chosen is not None:
                    assert told["none"]["threshold"] == pytest.approx(row.none_threshold.value)
                first = [item["index"] for item in told["ranks"]][:1]
                assert (first == [example.label]) == (rank == 1) or told["ranks"][0]["score"] - best < 0.02


@pytest.mark.long
def test_the_smoke_recipe_reaches_a_service(tmp_path):
    """Oracle: the rows of the report, and `check_service`; tiny models, of which only the students are deployed."""
    save_teacher(tmp_path / "tiny", layers=2)
    code, told = run_smoke(tmp_path / "out", f"models.bi-teacher.start.source={tmp_path / 'tiny'}", *SMALL)
    assert code == 0, told
    report = read_report(tmp_path / "out" / "report")
    assert {"bi-student/pytorch", "bi-student/int8", "cross-student/int8", "tf-idf"} <= set(report.evaluation.rows)
    assert report.evaluation.metric == "mean_mrr_recall_10"
    check_service(tmp_path / "out")


@pytest.mark.long
def test_the_smoke_recipe_passes(tmp_path):
    """Oracle: its own gates; the command that serves it names its thresholds; and `check_service`."""
    code, told = run_smoke(tmp_path / "out")
    assert code == 0, told
    assert f"--config {tmp_path / 'out' / 'selection' / 'service.yaml'}" in "".join(told.split("\n"))
    check_service(tmp_path / "out")
