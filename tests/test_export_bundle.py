"""The whole stage on a tiny model: what lies in the bundle, and who can open it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_models import MAX_TOKENS, make_classifier
from onnxruntime import InferenceSession
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from artifact.digest import hash_directory
from artifact.errors import ArtifactError, ExportError
from artifact.manifest import Manifest, Request, open_artifact, seal
from artifact.stage import request_of, run_stage
from export.__main__ import main
from export.bundle import describe
from export.config import ExportConfig, Parity
from export.run import export_stage, run_export
from export.source import load_source

FAST = ExportConfig(parity=Parity(batch_sizes=(1, 3), lengths=(2, 9)), target="avx2")
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12 w13"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "bundle"
    run_stage(*export_stage(model, out, FAST, "tiny"))
    return out


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return open_artifact(bundle, "bundle")


def test_a_bundle_holds_these_files_and_no_others(bundle: Path, manifest: Manifest) -> None:
    """Oracle: the Hugging Face layout of the design; what a step leaves behind would be sealed with the rest."""
    assert sorted(manifest.files) == [
        "README.md", "config.json", "onnx/model.onnx", "onnx/model_quantized.onnx", "proof.npz",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "understudy.json",
    ]  # fmt: skip
    assert sorted(path.name for path in bundle.iterdir()) == sorted(
        {name.split("/")[0] for name in manifest.files} | {"manifest.json"}
    )


def test_understudy_json_says_what_serving_needs(bundle: Path) -> None:
    """Oracle: the contract with `serve`, written out."""
    assert json.loads((bundle / "understudy.json").read_text()) == {
        "schema_version": 1,
        "name": "tiny",
        "task": "classification",
        "problem": "single-label",
        "pooling": {"mode": "mean", "normalize": True},
        "labels": ["label_0", "label_1", "label_2"],
        "max_tokens": MAX_TOKENS,
        "precisions": {"float32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"},
        "outputs": {"logits": ["batch", "labels"], "sentence_embedding": ["batch", "hidden"]},
        "embedding_size": 32,
        "padding": {"id": 0, "token_type_id": 0, "side": "right"},
        "inputs": ["input_ids", "attention_mask", "token_type_ids"],
    }


def test_the_end_that_training_cut_travels_with_the_bundle(model: Path, tmp_path: Path) -> None:
    """Oracle: transformers, which keeps the side that a tokenizer was opened with; the right one is not named."""
    left = tmp_path / "left"
    shutil.copytree(model, left)
    AutoTokenizer.from_pretrained(model, truncation_side="left").save_pretrained(left)
    described = [describe(load_source(path), name="tiny", precisions=["float32"]) for path in (model, left)]
    assert described[1] == described[0] | {"truncation_side": "left"}


def test_the_tokenizer_neither_truncates_nor_pads(model: Path, bundle: Path) -> None:
    """Oracle: the model's own file, which does both and is otherwise the same."""
    before, after = (json.loads((path / "tokenizer.json").read_text()) for path in (model, bundle))
    assert before["truncation"]["max_length"] == 8
    assert after == before | {"truncation": None, "padding": None}
    assert AutoTokenizer.from_pretrained(bundle).model_max_length == MAX_TOKENS


@pytest.mark.parametrize(
    ("options", "tolerance"), [({}, 1e-5), ({"subfolder": "onnx"}, 1e-5), ({"file_name": "model_quantized.onnx"}, 0.5)]
)
def test_optimum_opens_the_bundle_unchanged(
    model: Path, bundle: Path, options: dict[str, str], tolerance: float
) -> None:
    """Oracle: transformers on the model the bundle was made from; int8 is near, but not equal."""
    encoded = AutoTokenizer.from_pretrained(bundle)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModelForSequenceClassification.from_pretrained(model).eval()(**encoded).logits
    found = ORTModelForSequenceClassification.from_pretrained(bundle, **options)(**encoded).logits
    difference = float((found - expected).abs().max())
    assert difference < tolerance
    assert (difference > 1e-4) == ("file_name" in options)


def test_labels_reach_those_who_open_the_bundle(bundle: Path) -> None:
    """Oracle: the names the model was made with."""
    model = ORTModelForSequenceClassification.from_pretrained(bundle)
    assert model.config.id2label == {0: "label_0", 1: "label_1", 2: "label_2"}


def test_graphs_answer_any_batch_with_unit_embeddings(bundle: Path) -> None:
    """Oracle: an identity; every embedding has length one, at any batch and length."""
    for name in ("model.onnx", "model_quantized.onnx"):
        session = InferenceSession(bundle / "onnx" / name, providers=["CPUExecutionProvider"])
        for shape in ((1, 2), (5, 11), (2, MAX_TOKENS)):
            ids = np.full(shape, 7, dtype=np.int64)
            feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            logits, embedding = session.run(["logits", "sentence_embedding"], feeds)
            assert logits.shape == (shape[0], 3)
            np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), np.ones(shape[0]), rtol=1e-5)


def test_facts_are_what_was_measured(bundle: Path, manifest: Manifest) -> None:
    """Oracle: the files themselves, and the counts of a two-layer BERT."""
    facts: dict[str, Any] = manifest.facts
    assert (facts["opset"], facts["target"]) == (17, "avx2")
    assert set(facts["seconds"]) == {"load", "export", "fuse", "float32", "int8", "prove"}
    assert facts["precisions"]["float32"]["fused"]["whole"] == {
        "EmbedLayerNormalization": 1, "Attention": 2, "BiasGelu": 2, "SkipLayerNormalization": 4,
    }  # fmt: skip
    assert facts["precisions"]["int8"]["quantization"]["reduce_range"] is True
    for precision in facts["precisions"].values():
        assert precision["size_bytes"] == (bundle / precision["file"]).stat().st_size
        assert {"max_abs_error", "min_cosine", "max_padding_shift"} <= precision["parity"].keys()


def test_host_is_resolved_in_what_is_asked(model: Path, tmp_path: Path) -> None:
    """Oracle: the recipe; a bundle made for another machine's instruction set must not count as fresh."""
    stage, _ = export_stage(model, tmp_path / "out", ExportConfig(), "tiny")
    assert stage.config.model_dump()["target"] in ("avx2", "avx512", "vnni", "arm64", "arm64_dotprod")


def test_a_sealed_model_is_lineage_and_a_foreign_one_a_hash(model: Path, tmp_path: Path) -> None:
    """Oracle: the model's own manifest, and the hash of its files before it was sealed."""
    foreign, _ = export_stage(model, tmp_path / "out", FAST, "tiny")
    assert foreign.digests == {"model": hash_directory(model)}
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    request = Request(stage="distill", version=1, config={}, inputs={})
    sealed = seal(copy, kind="model", request=request, lineage={}, facts={})
    stage, _ = export_stage(copy, tmp_path / "out", FAST, "tiny")
    assert request_of(stage)[1]["model"].digest == sealed.digest


def test_an_unfinished_model_is_refused(model: Path, tmp_path: Path) -> None:
    """Oracle: the rule; what distillation has begun and not sealed is no artefact."""
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    (copy / "working.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is not sealed"):
        run_stage(*export_stage(copy, tmp_path / "out", FAST, "tiny"))


def test_float32_alone_makes_one_graph(model: Path, tmp_path: Path) -> None:
    """Oracle: the recipe's own list of precisions."""
    only = FAST.model_copy(update={"precisions": ("float32",)})
    facts = run_export(model, tmp_path, only, name="tiny")
    assert list(facts["precisions"]) == ["float32"]
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model.onnx"]


def test_a_miss_leaves_no_manifest(model: Path, tmp_path: Path) -> None:
    """Oracle: the rule; no parity, no manifest, no artefact."""
    strict = FAST.model_copy(update={"parity": FAST.parity.model_copy(update={"int8_min_cosine": 1.0})})
    with pytest.raises(ExportError, match="int8 graph has cosine"):
        run_stage(*export_stage(model, tmp_path / "bundle", strict, "tiny"))
    assert not (tmp_path / "bundle" / "manifest.json").exists()


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "export.yaml"
    path.write_text("precisions: [float32]\nparity: {batch_sizes: [1, 2], lengths: [2]}\n")
    return path


def test_the_command_prints_one_line_of_facts(
    model: Path, tmp_path: Path, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the sealed manifest; a second run skips the work and prints the same."""
    command = [str(model), "target=vnni", "--out", str(tmp_path / "named"), "--config", str(config_file)]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.count("\n") == 1
    assert json.loads(first) == open_artifact(tmp_path / "named", "bundle").facts
    assert json.loads((tmp_path / "named" / "understudy.json").read_text())["name"] == "named"
    assert main(command) == 0
    assert capsys.readouterr().out == first


def test_the_command_takes_overrides_without_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the facts, and the message for a value that does not fit."""
    command = [str(model), "--out", str(tmp_path / "bundle")]
    small = ["precisions=[float32]", "parity.batch_sizes=[1]", "parity.lengths=[2]"]
    assert main([*command, *small]) == 0
    assert list(json.loads(capsys.readouterr().out)["precisions"]) == ["float32"]
    assert main([*command, "target=sparc"]) == 2
    assert "target" in capsys.readouterr().err


def test_the_command_explains_a_fault_in_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the message, as a user reads it, and exit status 2."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    assert main([str(tmp_path / "model"), "--out", str(tmp_path / "bundle")]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.splitlines()[0] == f"error: {tmp_path / 'model'} is a 'whisper' model"
    assert streams.err.splitlines()[1].startswith("  export supports albert, bert,")


def test_help_imports_nothing_heavy() -> None:
    """Oracle: the modules a fresh interpreter has loaded after `--help`."""
    code = (
        "import sys\nfrom export.__main__ import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'optimum', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
