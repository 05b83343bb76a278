"""The page of the six systems: every figure of a record stands on it, and a record of another form is refused."""

import json
import xml.etree.ElementTree as ET

from benchmarks.systems.__main__ import main
from benchmarks.systems.records import FOLDER, read_systems

RECORD = {
    "system": "NOESIS II", "headline": "R@1 of 0.5 | and more", "metric": "R@1, %",
    "rows": [{"name": "student/int8", "value": 50.25, "low": 48.0, "high": 52.5}, {"name": "floor", "value": 9.5}],
    "paper": ["64.9"], "failures": ["no second seed"], "commands": ["python -m x"], "hours": 0.5, "hardware": "2 cores",
    "manifests": {"bundle": "a" * 64},
}  # fmt: skip


def test_the_page_has_every_figure(tmp_path):
    """Oracle: the record's own numbers and sentences; the plot is an XML with a name for each row."""
    folder = tmp_path / "results" / "systems"
    folder.mkdir(parents=True)
    (folder / "noesis.json").write_text(json.dumps(RECORD))
    assert main(["--records", str(folder)]) == 0
    page = (tmp_path / "results" / "README.md").read_text()
    for text in ("50.25 [48, 52.5]", "| floor | 9.5 |", "64.9", "no second seed", "`python -m x`", "a" * 12, "2 cores"):
        assert text in page
    ET.parse(folder / "noesis.svg")  # noqa: S314 - our own file
    assert "student/int8: 50.25" in (folder / "noesis.svg").read_text()


def test_a_record_of_another_form_is_named(tmp_path, capsys):
    """Oracle: exit 2 and the file's name; nothing is written."""
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "ood.json").write_text('{"rows": []}')
    assert main(["--records", str(tmp_path / "systems")]) == 2
    assert "ood.json" in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()


def test_the_records_in_this_project_are_read():
    """Oracle: the form itself, which forbids unknown keys and empty tables."""
    for system in read_systems(FOLDER).values() if any(FOLDER.glob("*.json")) else ():
        assert system.headline
        assert all(row.low is None or row.low <= row.value <= row.high for row in system.rows)
