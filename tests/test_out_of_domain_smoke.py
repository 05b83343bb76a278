"""The smoke recipe of detectors: from generated text to distances over HTTP."""

from pathlib import Path

import numpy as np
import pytest
from serve_client import open_client

from artifact.dataset import read_split
from benchmarks.out_of_domain.measure import measure
from benchmarks.out_of_domain.page import render
from benchmarks.out_of_domain.scores import area
from pipeline.commands import run_recipe
from serve.config import ServiceConfig
from serve.http.app import create_app
from serve.runtime import Runtime

ROOT = Path(__file__).parent.parent


@pytest.mark.long
def test_from_text_to_served_distances(tmp_path, monkeypatch):
    """Oracle: texts of the grammar's other topics are farther than its own, of teacher and student; and the runtime."""
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    for command in ("distill", "export"):
        run_recipe(Path("recipes/ood/smoke.yaml"), [], command, out=out, force=False, plan=False)
    raw = measure("smoke", out / "data", [out], tmp_path / "raw")
    rows = [f"imlm/{row}" for row in ("teacher/float32", "student/float32", "student/int8")]
    areas = [area(raw.sides(row, "gate")) for row in rows]
    assert min(areas) > 0.6
    assert "| imlm |" in render({"smoke": raw})
    before = raw.rows["imlm/student/int8"]["digest"]
    assert measure("smoke", out / "data", [out], tmp_path / "raw").rows["imlm/student/int8"]["digest"] == before
    runtime = Runtime.open(out / "guarded" / "imlm-student", "float32")
    texts = [row.text for row in read_split(out / "data", "out_of_domain")][:8]
    with open_client(create_app({runtime.name: runtime}, runtime.name, ServiceConfig())) as client:
        headers = client.post("/embed", {"inputs": texts}).headers
    told = [float(score) for score in headers["x-out-of-domain-score"].split(",")]
    np.testing.assert_allclose(told, runtime.run(texts).domain, rtol=1e-3)
