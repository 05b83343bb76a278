"""The benchmark of packaging: one look at the environment that the tests run in, one start of a tiny Bento."""

import importlib.metadata
import sys
from pathlib import Path

import pytest
from serve_bundles import make_bundle

from artifact.stage import run_stage
from benchmarks.package.__main__ import measure
from benchmarks.package.install import largest, look
from benchmarks.package.page import render
from benchmarks.package.start import weights_of
from serve.package import package_stage


def test_what_is_installed_is_listed():
    """Oracle: importlib.metadata, and that the environment of the tests, unlike that of a service, holds torch."""
    found = look(Path(sys.executable))
    numpy = found["packages"]["numpy"]
    assert numpy["version"] == importlib.metadata.version("numpy")
    assert numpy["size_bytes"] > 1_000_000
    assert "torch" in found["found"]
    sizes = [found["packages"][name]["size_bytes"] for name in largest(found["packages"])]
    assert sizes == sorted(sizes, reverse=True)


def results_of(load: float) -> dict[str, object]:
    run = {"worker_peak_bytes": [150_000_000, 160_000_000], "supervisor_peak_bytes": 90_000_000}
    return {
        "machine": {"architecture": "a", "usable_cores": 2},
        "load_average": {"before": load, "after": load},
        "facts": {"tag": "t:1", "size_bytes": 2_000_000, "locked": ["a==1"], "content_bytes": {"serve": 2_000_000}},
        "installed": {"packages": {"numpy": {"version": "2", "size_bytes": 70_000_000}}, "found": []},
        "unwanted": ["torch"],
        "weights_bytes": {"student/int8": 20_000_000},
        "requests": 3,
        "runs": [run | {"ready_seconds": seconds} for seconds in (1.0, 2.0, 6.0)],
    }


def test_the_page_says_what_was_measured():
    """Oracle: medians, extremes and differences worked out by hand; a busy machine is told."""
    page = render(results_of(load=0.1))
    assert "| 2.00 s | 1.00 s | 6.00 s |" in page
    assert "| 160 MB | 160 MB | 160 MB |" in page
    assert "beyond the weights (20.0 MB) | 140 MB" in page
    assert "| numpy | 2 | 70.0 MB |" in page
    assert "Provisional" not in page
    assert "Provisional" in render(results_of(load=3))


def test_weights_are_those_that_are_served(tmp_path):
    """Oracle: the graphs' files: of a bundle packaged for one precision, that one alone."""
    bundle = make_bundle(tmp_path / "student")
    run_stage(*package_stage({"student/int8": bundle}, "student/int8", tmp_path / "package"))
    size_bytes = (bundle / "onnx/model_quantized.onnx").stat().st_size
    assert weights_of(tmp_path / "package") == {"student/int8": size_bytes}


@pytest.mark.slow
@pytest.mark.long
def test_a_bento_is_started_and_weighed(tmp_path):
    """Oracle: the sealed Bento, which is as it was afterwards, and the number of its graphs and workers."""
    bundle = make_bundle(tmp_path / "student")
    stage, work = package_stage({"student": bundle}, "student/int8", tmp_path / "package")
    run_stage(stage, work)
    results = measure(tmp_path / "package", 1, Path(sys.executable))
    assert set(results["weights_bytes"]) == {"student/float32", "student/int8"}
    (run,) = results["runs"]
    assert len(run["worker_peak_bytes"]) == 1
    assert run["worker_peak_bytes"][0] > 50_000_000
    assert run["ready_seconds"] > 0
    assert not list((tmp_path / "package").rglob("__pycache__"))
    assert "1 starts" in render(results)
