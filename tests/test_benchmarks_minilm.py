"""The table of general students: its cells' recipes, its shares and its page, from answers made by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from artifact.errors import BenchError, DataError
from artifact.manifest import Request, seal
from benchmarks.minilm import page
from benchmarks.minilm.cells import plan, read_cells, write_cell
from benchmarks.minilm.grid import COSINES, ONE_TASK, ROWS, TASKS, Cell, cell_recipe
from benchmarks.minilm.shares import keep_of
from distill.config_starts import Checkpoint
from pipeline.recipe import load_recipe

TRUTHS = [0, 1] * 100


def cell(row, task="sst2", seed=1, wrong=(0, 0)):
    """A cell whose bundles have the first so many answers wrong, in float32 and int8."""
    answers = [[1 - truth if n < count else truth for n, truth in enumerate(TRUTHS)] for count in wrong]
    return {
        "row": row, "task": task, "seed": seed, "metric": "accuracy", "labels": ["negative", "positive"],
        "examples": {"train": 8000, "validation": 400, "test": 200}, "truths": TRUTHS,
        "predictions": dict(zip(("float32", "int8"), answers, strict=True)), "core_seconds": 36.0,
        "manifests": {}, "phases": [{"epochs": 1.0, "learning_rate": 1e-4}],
    }  # fmt: skip


def write_cells(directory: Path, cells) -> Path:
    directory.mkdir(parents=True)
    for found in cells:
        name = Cell(row=found["row"], task=found["task"], seed=found["seed"]).name
        (directory / f"{name}.json").write_text(json.dumps(found))
    return directory


def test_shares_are_of_the_teacher_on_the_same_examples_and_seeds():
    """Oracle: means and their ratio by hand; a row with the teacher's own answers keeps all, whatever is drawn."""
    cells = [cell("teacher", wrong=(20, 30)), cell("teacher", seed=2, wrong=(40, 40))]
    cells += [cell("none", wrong=(20, 60)), cell("none", seed=2, wrong=(40, 60))]
    found = keep_of(cells)["sst2"]
    assert found["teacher", "float32"].quality.value == pytest.approx((0.9 + 0.8) / 2)
    assert found["none", "int8"].share.value == pytest.approx(0.7 / 0.85)
    same = found["none", "float32"].share.interval
    assert (same.low, same.value, same.high) == (1, 1, 1)
    interval = found["none", "int8"].share.interval
    assert interval.low < 0.7 / 0.85 < interval.high < 1


def test_of_a_teacher_no_better_than_chance_nothing_is_a_share():
    """Oracle: Matthews' correlation of answers that are all alike is 0."""
    alike = cell("teacher") | {
        "metric": "matthews_correlation",
        "predictions": {"float32": [1] * 200, "int8": [1] * 200},
    }
    student = cell("none", wrong=(20, 20)) | {"metric": "matthews_correlation"}
    found = keep_of([alike, student])["sst2"]["none", "int8"]
    assert found.quality.value > 0.5
    assert found.share is None


def test_more_seeds_that_differ_widen_the_interval():
    """Oracle: without seeds to draw, the spread is that of the examples alone."""
    alike = keep_of([cell("teacher"), cell("none", wrong=(40, 40))])["sst2"]["none", "int8"]
    seeds = [cell("teacher", seed=n) for n in (1, 2)] + [
        cell("none", seed=n, wrong=(w, w)) for n, w in ((1, 0), (2, 80))
    ]
    differing = keep_of(seeds)["sst2"]["none", "int8"]
    assert alike.quality.value == differing.quality.value
    assert np.std(differing.quality.draws) > 2 * np.std(alike.quality.draws)


def test_a_row_without_its_teachers_seed_or_test_examples_is_refused():
    """Oracle: the error, which says what to measure."""
    with pytest.raises(BenchError, match="no seed in common"):
        keep_of([cell("teacher", seed=2), cell("none", seed=1)])
    other = cell("none") | {"truths": TRUTHS[::-1]}
    with pytest.raises(BenchError, match="other test examples"):
        keep_of([cell("teacher"), other])


def test_a_cell_is_its_tasks_recipe_with_one_model(tmp_path):
    """Oracle: the recipe's own fields; rows differ in the start, and `logits` in its objective and teacher."""
    for task in TASKS.values():
        (tmp_path / "sets" / task.folder).mkdir(parents=True)
    for task in TASKS:
        teacher = cell_recipe(Cell(row="teacher", task=task, seed=3), tmp_path)
        assert list(teacher.models) == ["teacher"]
        assert teacher.models["teacher"].seed == 3
        for row in list(ROWS)[1:]:
            recipe = cell_recipe(Cell(row=row, task=task, seed=3), tmp_path, general=Path("general"))
            student = recipe.models[row]
            assert isinstance(student.start, Checkpoint)
            assert student.start.source == f"general/{'none' if row == 'logits' else row}"
            assert student.phases[0].epochs == teacher.models["teacher"].phases[0].epochs
            kinds = [objective.kind for objective in student.phases[0].objectives]
            assert kinds == (["logits"] if row == "logits" else ["labels"])
            assert (student.teacher, "teacher" in recipe.models) == (
                ("teacher", True) if row == "logits" else (None, False)
            )
    with pytest.raises(DataError, match="no folder sst2"):
        cell_recipe(Cell(row="teacher", task="sst2", seed=1), tmp_path / "sets" / "rte")


def test_a_student_for_one_task_learns_from_that_tasks_teacher(tmp_path):
    """Oracle: what recipes/sst2.yaml distils, epochs in proportion to the teacher's; no general student is read."""
    (tmp_path / "sst2").mkdir()
    recipe = cell_recipe(Cell(row=ONE_TASK, task="sst2", seed=2), tmp_path, general=Path("nowhere"))
    whole = load_recipe(Path("recipes/sst2.yaml"), [])
    teacher, student, alike = recipe.models["teacher"], recipe.models[ONE_TASK], whole.models["student"]
    assert (student.teacher, student.start, student.seed) == ("teacher", alike.start, 2)
    assert [phase.epochs for phase in student.phases] == [2 * teacher.phases[0].epochs, 4 * teacher.phases[0].epochs]
    for ours, theirs in zip(student.phases, alike.phases, strict=True):
        assert (ours.name, ours.unfreeze, ours.noise) == (theirs.name, theirs.unfreeze, theirs.noise)
        assert [each.kind for each in ours.objectives] == [each.kind for each in theirs.objectives]


def test_the_page_has_what_was_measured_and_names_what_was_not(tmp_path, monkeypatch):
    """Oracle: the cells, by hand; the plot and the record are of the form that the page of all systems reads."""
    from benchmarks.systems.records import System

    monkeypatch.setattr(page, "PAGE", tmp_path / "minilm.md")
    monkeypatch.setattr(page, "RECORD", tmp_path / "systems" / "minilm.json")
    cells = [cell("teacher", wrong=(20, 20)), cell("minilmv2", wrong=(20, 22)), cell("none", wrong=(40, 50))]
    cells += [cell("teacher", task=COSINES), cell("none", task=COSINES, wrong=(10, 20))]
    folder = write_cells(tmp_path / "cells", cells)
    page.write_page(folder, "short", tmp_path / "general")
    text = (tmp_path / "minilm.md").read_text()
    assert "| teacher: 6 layers | 1 | 90.0 [" in text
    assert f"{3} of {len(ROWS) * len(TASKS) * page.SEEDS} cells" in text
    assert "| MiniLM | 0 | - | - | - |" in text
    assert "MiniLMv2, 48 relation heads | sst2 | 100.0 [100.0, 100.0] % | **holds** |" in text
    assert "What each objective keeps" in (tmp_path / "minilm.svg").read_text()
    record = System.model_validate_json((tmp_path / "systems" / "minilm.json").read_bytes())
    assert [round(row.value, 1) for row in record.rows] == [100.0, 83.3, 98.9, 100.0, 90.0]
    assert record.hours == 0.05


def test_what_was_measured_outlives_what_it_was_measured_on(tmp_path, monkeypatch):
    """Oracle: the page written again once the general students are gone; numbers come back to six digits."""
    monkeypatch.setattr(page, "PAGE", tmp_path / "minilm.md")
    monkeypatch.setattr(page, "RECORD", tmp_path / "systems" / "minilm.json")
    student = tmp_path / "general" / "none"
    student.mkdir(parents=True)
    (student / "weights").write_text("some")
    request = Request(stage="distill", version=1, config={}, inputs={})
    seal(student, kind="model", request=request, lineage={}, facts={"seconds": 4321.0})
    results = write_cells(tmp_path / "results", [cell("teacher")])
    write_cell(results / "sst2-none-1.json", cell("none") | {"predictions": {"float32": [0.123456789], "int8": [1]}})
    assert read_cells(results)[0]["predictions"] == {"float32": [0.123457], "int8": [1]}
    (results / "sst2-none-1.json").unlink()
    page.write_page(results, "short", tmp_path / "general")
    before = (tmp_path / "minilm.md").read_text()
    assert "| no distillation: every other layer | - | - | - | - | - | - | - | 4,321 |" in before
    shutil.rmtree(tmp_path / "general")
    page.write_page(results, "short", tmp_path / "general")
    assert (tmp_path / "minilm.md").read_text() == before


def test_the_plan_says_what_is_there(tmp_path):
    """Oracle: one line a cell; a measured cell's cost is what others of its task and size are taken to cost."""
    write_cells(tmp_path / "cells", [cell("none") | {"core_seconds": 600.0}])
    lines = plan([Cell(row=row, task="sst2", seed=1) for row in ("none", "minilm")], tmp_path / "cells")
    assert [line.split()[0] for line in lines] == ["sst2-none-1", "sst2-minilm-1", "all"]
    assert [line.split(maxsplit=1)[1] for line in lines] == ["done", "about 10 core-minutes", "about 10 core-minutes"]
    assert len(read_cells(tmp_path / "cells")) == 1
