"""The recipes of general students: they load, agree on what must be equal, and run from text to a gate in small."""

import json
from pathlib import Path

import pytest
from tiny_models import LABELS, make_examples, save_teacher

from artifact.manifest import open_artifact
from benchmarks.minilm.grid import BY_TASK, MORE_ROWS, ROWS
from pipeline.commands import run_recipe
from pipeline.recipe import load_recipe

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path for path in (ROOT / "recipes" / "minilm").glob("*.yaml") if path.stem != "general")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_teacher_and_student_are_fine_tuned_alike(path):
    """Oracle: each other, and what is judged."""
    recipe = load_recipe(path)
    teacher, student = recipe.models["teacher"], recipe.models["student"]
    assert (teacher.phases, teacher.max_tokens) == (student.phases, student.max_tokens)
    assert recipe.candidate == "student/int8"
    assert recipe.gates["quality"].reference == "teacher/float32"


def test_general_students_differ_in_nothing_but_their_objective():
    """Oracle: the recipe; start, text, length and rate are one and the same."""
    models = load_recipe(ROOT / "recipes" / "minilm" / "general.yaml").models
    taught = {name: model for name, model in models.items() if model.phases and name in ROWS}
    assert len(taught) == 7
    assert len({model.model_copy(update={"phases": ()}).model_dump_json() for model in taught.values()}) == 1
    phases = [model.phases[0] for model in taught.values()]
    objectives = {phase.model_dump_json(include={"objectives"}) for phase in phases}
    assert len(objectives) == len(taught)
    assert len({phase.model_copy(update={"objectives": ()}).model_dump_json() for phase in phases}) == 1
    assert {model.head for model in models.values()} == {"none"}
    assert {*ROWS, *MORE_ROWS} - BY_TASK == models.keys() - {"narrow-assisted-assistant"}


@pytest.mark.long
def test_the_smoke_recipe_runs_in_small(tmp_path):
    """Oracle: the sealed lineage. The student comes from an encoder without a head, which learnt without labels."""
    for seed, (split, count) in enumerate([("train", 120), ("validation", 30), ("test", 60)]):
        rows = [{"text": e.text, "label": LABELS[e.label]} for e in make_examples(count, seed)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_teacher(tmp_path / "pretrained", layers=2)
    files = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    overrides = [
        f"data.source={json.dumps({'kind': 'files', 'directory': str(tmp_path), **files})}",
        f"models.encoder.start.source={tmp_path / 'pretrained'}",
        "models.general.start.layers=[1]",
        "models.general.phases.0.objectives.0.relation_heads=8",
        "models.general.phases.0.unfreeze=[layer.0]",
        "models.general.phases.0.steps=5",
        "export.parity.int8_min_cosine=0.5",
        "bench={rounds: 2, calls_per_round: 8, http: false, scenarios: [SingleStream], threads: 1, texts: 16}",
        "gates.quality.max_degradation=90%",
        "gates.smaller.max_ratio=0.9",
    ]
    smoke = ROOT / "recipes" / "minilm" / "smoke.yaml"
    code = run_recipe(smoke, overrides, "run", out=tmp_path / "out", force=False, plan=False)
    assert code in (0, 3)
    general, student = (open_artifact(tmp_path / "out" / "models" / name, "model") for name in ("general", "student"))
    assert general.digest in student.request.inputs.values()
    config = json.loads((tmp_path / "out" / "models" / "general" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert [row["row"] for row in report["rows"]] == [
        "teacher/pytorch", "teacher/float32", "teacher/int8", "student/float32", "student/int8", "bag-of-words",
    ]  # fmt: skip
