"""The benchmark of detectors: its measures, baselines, raw files, page and summary."""

import json
import math
import random

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from artifact.dataset import Example
from benchmarks.out_of_domain.baselines import label_scores, only_last, splice, word_scores
from benchmarks.out_of_domain.measure import MOST_OF_A_GROUP, draw_outside
from benchmarks.out_of_domain.page import render
from benchmarks.out_of_domain.raw import GROUPS, WORDS, Raw, load, load_all, save
from benchmarks.out_of_domain.scores import Sides, area, area_difference, measure_scores, with_intervals
from benchmarks.out_of_domain.summary import summarize
from export.domain_fit import distances_of, fit_gate, layer_distances


def draw(shift: float, seed: int = 0) -> Sides:
    numbers = np.random.default_rng(seed)
    return Sides(numbers.gamma(4, 0.25, 300), numbers.gamma(4, 0.25, 90) + shift)


def test_measures_of_telling_apart():
    """Oracle: scikit-learn, and the definitions counted out."""
    sides = draw(0.8)
    found = measure_scores(sides.inside, sides.outside)
    truths, scores = np.repeat([0, 1], [300, 90]), np.concatenate([sides.inside, sides.outside])
    assert found["auroc"] == pytest.approx(roc_auc_score(truths, scores))
    assert found["aupr_out"] == pytest.approx(average_precision_score(truths, scores))
    assert found["aupr_in"] == pytest.approx(average_precision_score(1 - truths, -scores))
    assert area(sides) == pytest.approx(found["auroc"])
    passing = np.sort(sides.inside)[math.ceil(0.95 * 300) - 1]
    assert found["fpr95"] == pytest.approx((sides.outside <= passing).mean())
    told = max(((sides.outside > at).mean() + (sides.inside <= at).mean()) / 2 for at in scores)
    assert found["dtacc"] == pytest.approx(told)
    apart = measure_scores(sides.inside, sides.outside + 100)
    assert apart == pytest.approx({"auroc": 1, "aupr_in": 1, "aupr_out": 1, "fpr95": 0, "dtacc": 1})
    value, low, high = with_intervals(sides.inside, sides.outside)["auroc"]
    assert low < value < high


def test_differences_are_paired():
    """Oracle: a score and a monotone function of it never differ; a damaged one does, whichever texts are drawn."""
    sides = draw(0.5)
    same = Sides(np.exp(sides.inside), np.exp(sides.outside))
    assert area_difference(same, sides) == (0, 0, 0)
    worse = Sides(sides.inside, sides.outside - 0.2)
    value, low, high = area_difference(worse, sides)
    assert low < value < high < 0
    assert value == pytest.approx(area(worse) - area(sides))


def test_baselines():
    """Oracle: numpy longhand; the last layer's distance; words never seen are strange to TF-IDF."""
    logits = np.array([[2.0, 1.0, 0.0], [900.0, 0.0, 0.0]], dtype=np.float32)
    found = label_scores(logits, ("a", "b", "c"))
    likeliest = 1 - math.exp(2) / (math.exp(2) + math.exp(1) + 1)
    np.testing.assert_allclose(found["softmax"], [likeliest, 0], atol=1e-6)
    np.testing.assert_allclose(found["energy"], [-math.log(math.exp(2) + math.exp(1) + 1), -900], rtol=1e-6)
    auxiliary = label_scores(logits[:, :2], ("auxiliary", "in-domain"))["auxiliary"]
    np.testing.assert_allclose(auxiliary, [1 / (1 + math.exp(-1)), 1], rtol=1e-6)
    means = np.random.default_rng(0).normal(size=(100, 3, 4))
    gate = fit_gate(means).gate
    alone = distances_of(means[:, -1:], only_last(gate))
    np.testing.assert_allclose(alone, layer_distances(means, gate)[:, -1])
    assert splice(["a b c d", "e f g", "h"]) == ["a b f g", "e f h", "h c d"]
    words = random.Random(0)
    texts = [" ".join(f"w{words.randrange(150)}" for _ in range(6)) for _ in range(300)]
    strange = [" ".join(f"w{words.randrange(300, 600)}" for _ in range(6)) for _ in range(40)]
    assert area(word_scores(texts[:200], texts[200:], strange)) > 0.9


def test_texts_from_outside_are_drawn_by_source():
    """Oracle: counts; without sources all stay."""
    rows = [Example(text=f"{place}", group="much" if place % 7 else "little") for place in range(1400)]
    drawn, groups = draw_outside(rows, ["little", "much", "none"])
    assert groups == ["little", "much"]
    assert [sum(row.group == group for row in drawn) for group in groups] == [200, MOST_OF_A_GROUP]
    assert draw_outside(rows, ["little", "much", "none"])[0] == drawn
    assert draw_outside(rows[:5], []) == (rows[:5], [])


@pytest.fixture
def raw() -> Raw:
    """Two settings, the second without its student; two sources."""
    about = {"inside": 300, "outside": 90, "groups": ["news", "notes"], "quantile": 0.95}
    raw = Raw({"rows": {}, "machine": {"processor": "none", "usable_cores": 1}} | about)
    raw.arrays[GROUPS] = np.repeat([0, 1], [60, 30]).astype(np.int8)
    gate = {"threshold": 1.5, "fitted_texts": 6, "held_out_texts": 2}
    evidence = {name: {"spliced": 0.6, "tail": 1.5} for name in ("svm", "equal")}
    shifts = {"plain/teacher/float32": 0.8, "plain/student/float32": 0.8, "plain/student/int8": 0.2}
    for row, shift in (shifts | {"bcad/teacher/float32": 0.9}).items():
        known = {"digest": row, "gate": gate, "facts": {"layer_weights": [0.25, 0.75]}, "flagged": [15, 60]}
        raw.add(row, known | {"evidence": evidence}, {"gate": draw(shift)})
    raw.add(WORDS, {}, {WORDS: draw(0.1)})
    raw.about["trained"] = {"plain": {"steps": None, "training_seconds": None}, "bcad": {"training_seconds": 1800}}
    return raw


def test_raw_files_come_back(raw, tmp_path):
    """Oracle: the arrays that were written, in float32."""
    save(raw, "tiny", tmp_path)
    ((name, found),) = load_all(tmp_path)
    assert name == "tiny"
    assert found.about == json.loads(json.dumps(raw.about))
    assert found.scores_of("plain/student/int8") == ["gate"]
    np.testing.assert_allclose(found.sides("plain/student/int8", "gate").inside, draw(0.2).inside, rtol=1e-6)
    assert len(found.sides("plain/student/int8", "gate", "news").outside) == 60
    assert load("none", tmp_path).rows == {}


def test_the_page_of_the_benchmark(raw):
    """Oracle: the numbers put in; a detector that broke is not called whole."""
    page = render({"tiny": raw})
    assert "| plain | " in page
    (line,) = [line for line in page.splitlines() if line.startswith("| plain |")]
    assert line.endswith("| no |")
    assert f"{100 * area(draw(0.2)):.1f}" in line
    assert page.count("| none | tf-idf |") == 1
    assert "| 5.0% (" in page
    assert "0.25 0.75" in page
    notes = 100 * area(raw.sides("bcad/teacher/float32", "gate", "notes"))
    assert f"| {notes:.1f} |" in page


def test_the_summary_tells_failures(raw):
    """Oracle: the numbers put in."""
    found = summarize({"tiny": raw})
    assert any("plain is not shown to lose at most 1 point" in failure for failure in found["failures"])
    assert "tiny: bcad was not measured" in found["failures"]
    assert found["hours"] == 0.5
    assert found["headline"].startswith("tiny, AUROC, plain, student int8")
    by_name = {row["name"]: row for row in found["rows"]}
    assert by_name["tiny, AUROC, plain/student/int8"]["value"] == pytest.approx(area(draw(0.2)))
    assert set(found) == {
        "system", "headline", "metric", "page", "rows", "paper", "commands", "hours", "hardware", "manifests",
        "failures",
    }  # fmt: skip
