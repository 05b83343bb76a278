"""In-domain text against auxiliary text: what the source `contrast` makes of files."""

import json
from pathlib import Path

import pytest

from artifact.dataset import read_info, read_split
from artifact.errors import DataError
from artifact.stage import find_state, request_of, run_stage
from benchmarks.out_of_domain.measure import SETTINGS
from pipeline.data import data_stage
from pipeline.data_config import DataConfig
from pipeline.recipe import load_recipe


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make(folder, **fields) -> DataConfig:
    """20 + 6 + 3 texts from inside, some of them twice or out of scope; 60 sentences of books."""
    write(folder / "train.jsonl", [{"text": f"where is room {n % 19}?", "intent": "find"} for n in range(20)])
    rows = [{"text": f"book room {n}.", "intent": "book"} for n in range(6)]
    write(folder / "validation.jsonl", [*rows, {"text": "why", "intent": "oos"}])
    rows = [{"text": f"leave room {n}.", "intent": "leave"} for n in range(3)]
    write(folder / "test.jsonl", [*rows, {"text": "what for?", "intent": "oos"}])
    pages = [" ".join(f"Page {page} has line {line}." for line in range(10)) for page in range(6)]
    write(folder / "books.jsonl", [{"body": page} for page in [*pages, pages[0]]])
    source = {
        "kind": "contrast", "directory": folder, "train": "train.jsonl", "validation": "validation.jsonl",
        "test": "test.jsonl", "auxiliary": ("books.jsonl",), "auxiliary_field": "body",
    }  # fmt: skip
    return DataConfig(source=source | fields, label_field="intent", out_of_domain_labels=("oos",))


def read(config, out):
    run_stage(*data_stage(config, out))
    splits = ("train", "validation", "test", "out_of_domain")
    return {split: [(row.text, row.label) for row in read_split(out, split)] for split in splits}


def test_both_sides_of_every_split(tmp_path):
    """Oracle: the files: as many of either side, each text once, in one split, without its closing mark."""
    found = read(make(tmp_path / "files"), tmp_path / "data")
    assert read_info(tmp_path / "data").labels == ("auxiliary", "in-domain")
    inside = {split: [text for text, label in rows if label == 1] for split, rows in found.items()}
    auxiliary = {split: [text for text, label in rows if label == 0] for split, rows in found.items()}
    assert sorted(inside["train"]) == sorted(f"where is room {n}" for n in range(19))
    assert inside["validation"] == [f"book room {n}" for n in range(6)]
    sentences = {f"Page {page} has line {line}" for page in range(6) for line in range(10)}
    drawn = [*auxiliary["train"], *auxiliary["validation"]]
    assert (len(auxiliary["train"]), len(auxiliary["validation"])) == (19, 6)
    assert len(set(drawn)) == 25
    assert set(drawn) <= sentences
    assert len({text.split()[1] for text in drawn}) > 3
    assert found["test"] == [(f"leave room {n}.", 1) for n in range(3)]
    assert found["out_of_domain"] == [("what for?", -1)]


def test_fewer_texts_and_other_seeds(tmp_path):
    """Oracle: counts; the same seed gives the same bytes, in another folder too."""
    few = {"texts": 7, "validation_texts": 2}
    found = read(make(tmp_path / "files", **few), tmp_path / "data")
    assert [sum(label == side for _, label in found["train"]) for side in (0, 1)] == [7, 7]
    assert [sum(label == side for _, label in found["validation"]) for side in (0, 1)] == [2, 2]
    moved, _ = data_stage(make(tmp_path / "moved", **few), tmp_path / "data")
    assert find_state(moved.out, request_of(moved)[0]).value == "fresh"
    assert read(make(tmp_path / "files", **few), tmp_path / "again") == found
    assert read(make(tmp_path / "files", **few, seed=2), tmp_path / "other")["train"] != found["train"]


def test_faults_are_one_clear_error(tmp_path):
    """Oracle: the messages."""
    config = make(tmp_path / "files")
    for changed, message in (
        (config.model_copy(update={"text_field": "words"}), "line 1, has no field 'words', only text, intent"),
        (config.model_copy(update={"label_field": "label"}), "has no field 'label'"),
    ):
        with pytest.raises(DataError, match=message):
            run_stage(*data_stage(changed, tmp_path / "out"))
    with pytest.raises(DataError, match=r"there is no file .*none\.jsonl"):
        data_stage(make(tmp_path / "files", auxiliary=("none.jsonl",)), tmp_path / "out")
    write(tmp_path / "files" / "little.jsonl", [{"body": "One. Two. where is room 3."}])
    with pytest.raises(DataError, match="hold 2 different sentences, 25 are needed"):
        run_stage(*data_stage(make(tmp_path / "files", auxiliary=("little.jsonl",)), tmp_path / "out"))


@pytest.mark.parametrize("path", sorted(Path("recipes/ood").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_detectors_load(path):
    """Oracle: what the benchmark looks for below their folders: a teacher and its student, of one setting or more."""
    models = load_recipe(path).deployed()
    settings = {pair for pair in SETTINGS.values() if set(pair) <= models.keys()}
    assert {name for pair in settings for name in pair} == models.keys()
