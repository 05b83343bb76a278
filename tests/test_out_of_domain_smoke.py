"""The smoke recipe of detectors: from generated text to distances over HTTP."""

from pathlib import Path

import numpy as np
import pytest
from serve_client import open_client
from sklearn.metrics import roc_auc_score

from artifact.dataset import read_split
from artifact.errors import ConfigError
from benchmarks.out_of_domain.measure import measure
from benchmarks.out_of_domain.page import render
from benchmarks.out_of_domain.scores import area
from pipeline.asking.asked import chunks
from pipeline.commands import run_recipe
from pipeline.gate import read_report
from pipeline.guard_config import RecipeGuard
from pipeline.recipe import load_recipe
from pipeline.stages import steps_of
from serve.config import ServiceConfig
from serve.http.app import create_app
from serve.runtime import Runtime

ROOT = Path(__file__).parent.parent


@pytest.mark.long
def test_from_text_to_served_distances(tmp_path, monkeypatch):
    """Oracle: texts of the grammar's other topics are farther than its own, of teacher and student; and the runtime."""
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    assert run_recipe(Path("recipes/ood/smoke.yaml"), [], "run", out=out, force=False, plan=False) == 0
    raw = measure("smoke", out / "data", [out], tmp_path / "raw")
    rows = [f"imlm/{row}" for row in ("teacher/float32", "student/float32", "student/int8")]
    areas = [area(raw.sides(row, "gate")) for row in rows]
    assert min(areas) > 0.6
    evaluated = read_report(out / "report").evaluation.rows
    for model, found in zip(("imlm/float32", "imlm-student/float32"), areas, strict=False):
        assert evaluated[model].quality.value == pytest.approx(found, abs=1e-6)  # the gates are fitted alike
    # Dynamic int8 depends on who shares a batch, so it is asked in the evaluation's own, with scikit-learn's area.
    test, quantized = read_split(out / "data", "test"), Runtime.open(out / "bundles" / "imlm-student", "int8")
    told = np.concatenate([quantized.run([row.text for row in part]).domain for part in chunks(test)])
    wanted = roc_auc_score([row.label for row in test], told)
    assert evaluated["imlm-student/int8"].quality.value == pytest.approx(wanted, abs=1e-6)
    assert "| imlm |" in render({"smoke": raw})
    before = raw.rows["imlm/student/int8"]["digest"]
    assert measure("smoke", out / "data", [out], tmp_path / "raw").rows["imlm/student/int8"]["digest"] == before
    runtime = Runtime.open(out / "bundles" / "imlm-student", "float32")
    texts = [row.text for row in read_split(out / "data", "out_of_domain")][:8]
    with open_client(create_app({runtime.name: runtime}, runtime.name, ServiceConfig())) as client:
        headers = client.post("/embed", {"inputs": texts}).headers
    told = [float(score) for score in headers["x-out-of-domain-score"].split(",")]
    np.testing.assert_allclose(told, runtime.run(texts).domain, rtol=1e-3)


def test_a_recipe_that_guards_exports_twice(tmp_path):
    """Oracle: the steps by name; what is measured, served and packaged is the guarded bundle."""
    recipe = load_recipe(ROOT / "recipes" / "ood" / "smoke.yaml")
    exported = [step for step in steps_of(recipe, tmp_path) if step.command == "export"]
    names = [step.out.relative_to(tmp_path).as_posix() for step in exported]
    assert names == ["unguarded/imlm", "bundles/imlm", "unguarded/imlm-student", "bundles/imlm-student"]
    assert tmp_path / "unguarded" / "imlm" in exported[1].needs
    assert recipe.answering_rows() == [row for row in recipe.row_names() if not row.endswith("pytorch")]
    demo = load_recipe(ROOT / "recipes" / "demo.yaml")
    assert demo.guarding() is None
    guarded = demo.model_copy(update={"guard": RecipeGuard(quantile=0.9)})
    assert {step.out.parent.name for step in steps_of(guarded, tmp_path) if step.command == "export"} == {
        "unguarded", "bundles"
    }  # fmt: skip
    assert guarded.answering_rows() == demo.row_names()


def test_a_gate_needs_lone_texts_of_the_domain():
    """Oracle: the words of the error, for pairs and for text from elsewhere."""
    pairs = ROOT / "recipes" / "minilm" / "stsb.yaml"
    with pytest.raises(ConfigError, match="guard is fitted on lone texts"):
        load_recipe(pairs, ["guard={}"])
    with pytest.raises(ConfigError, match="source kind contrast has others too"):
        load_recipe(ROOT / "recipes" / "ood" / "sst-contrast.yaml", ["guard={}"])


def test_a_detectors_gate_names_what_can_be_judged():
    """Oracle: the words of the errors, before anything is trained; speed may be held against PyTorch all the same."""
    smoke = ROOT / "recipes" / "ood" / "smoke.yaml"
    quality = "gates.survives={metric: quality, reference: imlm/pytorch, max_degradation: 0.1}"
    with pytest.raises(ConfigError, match="imlm/pytorch', which has no gate in its graph and no quality"):
        load_recipe(smoke, [quality])
    with pytest.raises(ConfigError, match=r"on out_of_domain_auroc, which of the task .* is the quality"):
        load_recipe(smoke, ["gates.survives={metric: out_of_domain_auroc, threshold: 0.9}"])
    load_recipe(smoke, ["gates.survives={metric: latency_p50, reference: imlm/pytorch, min_ratio: 2}"])
