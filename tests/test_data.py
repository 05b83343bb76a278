"""The data stage: sources become one sealed form, and every fault is one clear error."""

import gc
import gzip
import json
from pathlib import Path

import pytest

from artifact.dataset import read_info, read_split
from artifact.digest import hash_directory
from artifact.errors import DataError
from artifact.stage import find_state, request_of, run_stage
from pipeline.data import data_stage, run_data
from pipeline.data_config import DataConfig

ROWS = {
    "train": [("turn on", "light"), ("play jazz", "music"), ("é è", "light")],
    "validation": [("turn off", "light"), ("who am i", "oos")],
    "test": [("play rock", "music"), ("why", "oos"), ("what for", "oos")],
}


def write_files(directory: Path, rows=None, kind: str = "jsonl", field: str = "label") -> DataConfig:
    directory.mkdir(exist_ok=True)
    for split, lines in (rows or ROWS).items():
        if kind == "csv":
            text = f"text,{field}\n" + "".join(f"{text},{label}\n" for text, label in lines)
        else:
            text = "".join(json.dumps({"text": text, field: label}) + "\n" for text, label in lines)
        data = text.encode()
        (directory / f"{split}.{kind}").write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    paths = {split: f"{split}.{kind}" for split in ROWS}
    return DataConfig(
        source={"kind": "files", "directory": directory, **paths}, label_field="label", out_of_domain_labels=("oos",)
    )


# The library leaves the CSV files that it read to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv"])
def test_files_become_a_data_set(tmp_path, kind):
    """Oracle: the rows written, labels sorted, out-of-domain rows apart."""
    config = write_files(tmp_path / "files", kind=kind)
    stage, work = data_stage(config, tmp_path / "data")
    run_stage(stage, work)
    gc.collect()
    assert read_info(tmp_path / "data").labels == ("light", "music")
    assert [(e.text, e.label) for e in read_split(tmp_path / "data", "train")] == [
        ("turn on", 0),
        ("play jazz", 1),
        ("é è", 0),
    ]
    assert [e.text for e in read_split(tmp_path / "data", "out_of_domain")] == ["why", "what for"]
    assert read_info(tmp_path / "data").examples == {"train": 3, "validation": 1, "test": 1, "out_of_domain": 2}


def test_a_data_set_of_before_has_the_digest_of_before(tmp_path):
    """Oracle: recorded from the version that knew classification alone; what was trained on such a set stays fresh."""
    (tmp_path / "data").mkdir()
    run_data(write_files(tmp_path / "files"), tmp_path / "data")
    assert hash_directory(tmp_path / "data") == "3ba723ce4d679af171fd8ec2c25532942b2d5dddef57dce744b164a6bea3a019"


def test_the_same_files_elsewhere_are_fresh_and_edited_ones_are_not(tmp_path):
    """Oracle: the stage's state; content counts, not the path."""
    stage, work = data_stage(write_files(tmp_path / "here"), tmp_path / "data")
    run_stage(stage, work)
    moved, _ = data_stage(write_files(tmp_path / "there"), tmp_path / "data")
    assert find_state(moved.out, request_of(moved)[0]).value == "fresh"
    edited, _ = data_stage(write_files(tmp_path / "there", ROWS | {"test": [("x", "light")]}), tmp_path / "data")
    assert find_state(edited.out, request_of(edited)[0]).value == "other"


def broken(directory: Path, fault: str) -> DataConfig:
    config = write_files(directory)
    match fault:
        case "missing":
            (directory / "test.jsonl").unlink()
        case "label":
            write_files(directory, ROWS | {"test": [("x", "colour")]})
        case "empty":
            write_files(directory, ROWS | {"validation": [("x", "oos")]})
        case "no rows":
            (directory / "train.jsonl").write_text("")
        case "field":
            write_files(directory, field="intent")
        case "json":
            (directory / "train.jsonl").write_text('{"text": "a", ')
        case "bytes":
            (directory / "train.jsonl").write_bytes(b'{"text": "\xff\xfe", "label": "light"}\n')
    return config


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"there is no file .*test\.jsonl"),
        ("label", r"1 label\(s\) of the test split are not in the label list: colour"),
        ("empty", "the validation split has no rows"),
        ("no rows", r"there is nothing in .*train\.jsonl"),
        ("field", "the train split has no field 'label', only text, intent"),
        ("json", r"cannot read .*train\.jsonl"),
        ("bytes", r"cannot read the train split: .*utf-8"),
    ],
)
def test_a_fault_of_the_data_is_one_clear_error(tmp_path, fault, message):
    """Oracle: the message a user reads; nothing is sealed."""
    config = broken(tmp_path / "files", fault)
    with pytest.raises(DataError, match=message):
        run_stage(*data_stage(config, tmp_path / "data"))
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_a_label_list_fixes_order_and_membership(tmp_path):
    """Oracle: the list given; a label of the training split outside it is named."""
    config = write_files(tmp_path / "files").model_copy(update={"labels": ("music", "light")})
    stage, work = data_stage(config, tmp_path / "data")
    run_stage(stage, work)
    assert [e.label for e in read_split(tmp_path / "data", "train")] == [1, 0, 1]
    narrow = config.model_copy(update={"labels": ("music",)})
    stage, work = data_stage(narrow, tmp_path / "narrow")
    with pytest.raises(DataError, match="train split are not in the label list: light"):
        run_stage(stage, work)


def test_an_unknown_form_is_named(tmp_path):
    """Oracle: the message a user reads."""
    config = write_files(tmp_path / "files")
    (tmp_path / "files" / "train.parq").write_text("PAR1")
    source = config.source.model_copy(update={"train": Path("train.parq")})
    stage, work = data_stage(config.model_copy(update={"source": source}), tmp_path / "data")
    with pytest.raises(DataError, match="no known form"):
        run_stage(stage, work)
