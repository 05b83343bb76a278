"""The benchmark of cascades: what its page says of the samples, and one whole run on tiny bundles."""

import json

import numpy as np
import pytest
from serve_bundles import LABELS, WORDS, make_bundle

from artifact.dataset import Example, write_dataset
from benchmarks.cascade import page
from benchmarks.cascade.__main__ import main


def test_what_a_threshold_does():
    """Oracle: four texts by hand; the student is sure of two, of which one disagrees and is wrong."""
    found = {
        "test": {
            "confidence": [0.9, 0.8, 0.4, 0.2], "agrees": [1, 0, 0, 1], "student_right": [1, 0, 0, 0],
            "teacher_right": [1, 1, 1, 0],
        }
    }  # fmt: skip
    alone, agreement, right = page.at(found, 0.5)
    assert (alone, agreement.value, right) == (0.5, 0.75, 0.5)
    assert page.at(found, 1.0)[1].value == 1
    assert page.at(found, 0.0)[1].value == 0.5


def test_the_mean_of_rounds():
    """Oracle: numpy's mean; equal rounds leave nothing to draw."""
    assert page.mean_of_rounds([[1.0, 2.0], [3.0, 4.0]]).value == 2.5
    same = page.mean_of_rounds([[1.0, 3.0]] * 5)
    assert (same.low, same.high) == (2, 2)


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_benchmark(tmp_path):
    """Oracle: the rows asked for, each with its samples; the thresholds that the calibrations chose."""
    bundles = tmp_path / "bundles"
    for seed, name in ((0, "student"), (7, "teacher")):
        make_bundle(bundles / name, name=name, seed=seed)
    random = np.random.default_rng(5)

    def examples(count: int) -> list[Example]:
        texts = [" ".join(random.choice(WORDS, size=4)) for _ in range(count)]
        return [Example(text=text, label=int(random.integers(len(LABELS)))) for text in texts]

    splits = {"train": [], "validation": examples(310), "test": examples(50), "out_of_domain": examples(9)}
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "data", LABELS, splits)
    results, target = tmp_path / "results", tmp_path / "docs" / "cascade.md"
    target.parent.mkdir()
    main(["--bundles", str(bundles), "--data", str(tmp_path / "data"), "--name", "tiny", "--page", str(target),
          "--results", str(results), "--threads", "1", "--rounds", "2", "--calls", "5"])  # fmt: skip
    found = json.loads((results / "tiny.json").read_text())
    assert list(found["calibrations"]) == ["0.97", "0.98", "0.99"]
    rows = ["student/int8", "teacher/float32", *(f"cascade at {level}" for level in found["calibrations"])]
    assert sorted(found["single_ms"]) == sorted(rows)
    assert all([len(turn) for turn in turns] == [5, 5] for turns in found["single_ms"].values())
    text = target.read_text()
    assert all(f"| {row} |" in text for row in rows)
    assert "Of 9 out-of-domain texts" in text
    assert target.with_name("cascade-tiny.svg").stat().st_size > 1000
