"""The benchmark of exports itself, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_models import MAX_TOKENS, make_classifier
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from artifact.dataset import Example, write_dataset
from artifact.manifest import Request, seal
from benchmarks.export.__main__ import main
from benchmarks.export.make import Made
from benchmarks.export.measure import measure_all
from benchmarks.export.page import render
from export.bundle import write_bundle
from export.fuse import fuse
from export.graph import export_graph
from export.source import load_source

LABELS = ("label_0", "label_1", "label_2")
TEST = [Example(text=" ".join(f"w{7 * row + word}" for word in range(1 + row % 9)), label=row % 3) for row in range(40)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """The traced graph and the fused one, under the names of optimum's and ours."""
    work = tmp_path_factory.mktemp("work")
    source = load_source(make_classifier(work / "model"))
    write_bundle(work, source, name="tiny", precisions=("float32",))
    export_graph(source, work / "raw.onnx", opset=17)
    fuse(work / "raw.onnx", work / "fused.onnx", source.architecture)
    return [
        Made(
            name=name, graph=work / file, tokenizer=work / "tokenizer.json", max_tokens=MAX_TOKENS,
            command="make it", seconds=2.0, peak_bytes=3_000_000,
        )
        for name, file in (("optimum float32", "raw.onnx"), ("ours float32", "fused.onnx"))
    ]  # fmt: skip


def test_right_answers_are_those_of_transformers(made: list[Made]) -> None:
    """Oracle: transformers, text by text without padding; the benchmark answers them sorted, in batches."""
    folder = made[0].graph.parent
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    found = measure_all(made, TEST, threads=1, rounds=4)
    with torch.no_grad():
        answers = [
            int(model(**tokenizer(row.text, truncation=True, return_tensors="pt")).logits.argmax()) for row in TEST
        ]
    expected = "".join(str(int(answer == row.label)) for answer, row in zip(answers, TEST, strict=True))
    assert 0 < expected.count("1") < len(TEST)
    for row in found["rows"]:
        assert row["right"] == expected
        assert np.array(row["single_ms"]).shape == (4, 24)
        assert np.array(row["batch_ms"]).shape == (1, 4)
        assert np.min(row["single_ms"]) > 0
    assert found["single_tokens"] == sorted(found["single_tokens"])


def result(**times: float) -> dict[str, Any]:
    """Raw samples of rows that answer alike, each so many times slower than a millisecond, with a little noise."""
    noise = np.random.default_rng(0).lognormal(0, 0.01, (len(times), 12, 3))
    return {
        "name": "tiny", "labels": 3, "test_texts": 200, "single_tokens": [3, 9], "graph_threads": 2, "batch_texts": 96,
        "load_average": 0.1, "machine": {"processor": "a processor"},
        "failures": {"optimum O2 int8": {"command": "quantize", "said": "no"}},
        "rows": [
            {
                "name": name.replace("_", " "), "command": "make it", "size_bytes": 1_000_000, "made_seconds": 1.0,
                "made_peak_bytes": 5_000_000, "right": "1110" * 50,
                "single_ms": (time * noise[place]).tolist(), "batch_ms": (30 * time * noise[place]).tolist(),
            }
            for place, (name, time) in enumerate(times.items())
        ],
    }  # fmt: skip


@pytest.mark.parametrize(("ours", "word"), [(0.5, "holds"), (1.5, "**missed**")])
def test_a_verdict_is_what_the_samples_say(tmp_path: Path, ours: float, word: str) -> None:
    """Oracle: samples made twice as fast and half as slow again; 200 equal answers leave a percent open."""
    (tmp_path / "tiny.json").write_text(json.dumps(result(optimum_float32=1.0, ours_float32=ours)))
    page = render(tmp_path)
    (line,) = [line for line in page.splitlines() if line.startswith("| ours float32 against")]
    quality, single, batches, size = line.removesuffix(" |").split(" | ")[1:]
    assert quality.startswith("1.000 [0.9")
    assert quality.endswith("open")
    assert single.endswith(word)
    assert batches.endswith(word)
    assert size == "1.000 holds"
    assert "* optimum O2 int8: `quantize` failed: no" in page


@pytest.mark.long
def test_the_whole_benchmark_runs(tmp_path: Path) -> None:
    """Oracle: every row is there, made by the programs that users call."""
    make_classifier(tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    write_dataset(data, LABELS, {"train": TEST, "validation": TEST, "test": TEST})
    request = Request(stage="data", version=1, config={}, inputs={})
    seal(data, kind="dataset", request=request, lineage={}, facts={})
    main([
        str(tmp_path / "model"), "--data", str(data), "--rounds", "4", "--results", str(tmp_path / "results"),
        "--page", str(tmp_path / "page.md"),
    ])  # fmt: skip
    page = (tmp_path / "page.md").read_text()
    for name in ("optimum float32", "optimum O2", "optimum int8", "ours float32", "ours int8"):
        assert f"\n| {name} |" in page
