"""The whole stage with every precision, on real text: what is judged, what is gated, and what a fault leaves behind."""

import json
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from export_models import make_classifier, make_model
from outliers import labelled_texts, make_outlier_classifier
from tiny_models import save_teacher, seal_dataset

from artifact.errors import ExportError, ParityError
from artifact.manifest import open_artifact
from artifact.stage import run_stage
from export.__main__ import main
from export.config import CalibrationConfig, ExportConfig, InvarianceConfig, Parity
from export.run import export_stage, run_export
from export.source import SUPPORTED
from pipeline.verify import verify

USUAL = ("bert", "modernbert", "xlm-roberta")
"""Families whose graphs are least alike."""
ALL = ("float32", "int8", "int8-static", "int8-blocks", "int4-blocks", "float16")
FAST = ExportConfig(
    parity=Parity(
        batch_sizes=(1, 3), lengths=(2, 9), int4_blocks_min_cosine=0.3, int8_min_cosine=0.5, int8_static_min_cosine=0.5
    ),
    target="avx2",
    min_quality=None,
    calibration=CalibrationConfig(texts=16, judged_texts=16),
    invariance=InvarianceConfig(texts=16, batch_size=4, compositions=2, strict=("float32",)),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed data set, a model for it, and its bundle in every precision."""
    root = tmp_path_factory.mktemp("root")
    seal_dataset(root / "data")
    save_teacher(root / "model")
    config = FAST.model_copy(update={"precisions": ALL})
    run_stage(*export_stage(root / "model", root / "bundle", config, "tiny", data=root / "data"))
    return root


@pytest.fixture(scope="module")
def facts(root: Path) -> Mapping[str, Any]:
    return open_artifact(root / "bundle", "bundle").facts["precisions"]


def test_every_precision_is_made_and_judged(root: Path, facts: Mapping[str, Any]) -> None:
    """Oracle: the recipe's list, the files, and float32, which keeps all of itself."""
    assert tuple(facts) == ALL
    for about in facts.values():
        assert about["size_bytes"] == (root / "bundle" / about["file"]).stat().st_size
        assert {"parity", "quality", "invariance", "proof"} <= about.keys()
        assert about["quality"]["measure"] == "accuracy"
    assert facts["float32"]["quality"]["kept"] == 1
    assert facts["float32"]["quality"]["interval"] == [1, 1]
    assert facts["float32"]["invariance"]["outputs"]["logits"]["max_abs_deviation"] < 1e-5


def test_scales_of_the_batch_show_only_where_they_are_taken(facts: Mapping[str, Any]) -> None:
    """Oracle: how each precision rounds; dynamic int8 by the batch, blocks within a token, static beforehand."""
    moved = {
        name: about["invariance"]["outputs"]["sentence_embedding"]["max_abs_deviation"] for name, about in facts.items()
    }
    assert moved["float32"] < moved["int8"]
    assert moved["int8-blocks"] < moved["int8"]


def test_verify_asks_every_graph_again(root: Path) -> None:
    """Oracle: the sealed facts; a line for each precision, and the data set among the origins."""
    lines = verify(root / "bundle")
    again = [line for line in lines if line.startswith("  again")]
    assert [line.split()[1].rstrip(":") for line in again] == list(ALL)
    assert all("64 stored texts" in line or "16 stored texts" in line for line in again)
    assert any(line.startswith("  from     data") for line in lines)


def test_a_precision_that_must_not_depend_on_company_is_held_to_it(root: Path, tmp_path: Path) -> None:
    """Oracle: dynamic int8, whose embeddings move with the batch, named as strict."""
    bounds = FAST.invariance.model_copy(update={"strict": ("int8",), "min_cosine": 1.0})
    strict = FAST.model_copy(update={"invariance": bounds})
    with pytest.raises(ParityError, match=r"int8 .*\n  leave int8 out of export\.invariance\.strict"):
        run_stage(*export_stage(root / "model", tmp_path / "bundle", strict, "tiny", data=root / "data"))
    assert not (tmp_path / "bundle" / "manifest.json").exists()


def test_static_int8_without_text_says_what_to_name(tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    model = make_classifier(tmp_path / "model")
    config = FAST.model_copy(update={"precisions": ("float32", "int8-static")})
    with pytest.raises(ExportError, match=r"there are none\n  name some with --data"):
        run_export(model, tmp_path / "out", config, name="tiny")


def test_an_embedding_model_needs_no_labels(tmp_path: Path) -> None:
    """Oracle: the facts; likeness to float32 by cosine, and no label that could flip."""
    model = make_model(tmp_path / "model", "embedding")
    (tmp_path / "texts.txt").write_text("\n".join(f"w{i} w{i + 1} w{2 * i}" for i in range(20)))
    made = run_export(model, tmp_path / "out", FAST, name="tiny", data=tmp_path / "texts.txt")
    about = made["precisions"]["int8"]
    assert about["quality"]["measure"] == "cosine"
    assert about["invariance"]["labels"] is None
    assert made["task"] == "embedding"


@pytest.mark.slow
def test_a_model_that_naive_int8_breaks_comes_out_repaired_with_the_culprit_named(tmp_path: Path) -> None:
    """Oracle: the outliers put into the feed-forward network of layer 1, and float32's accuracy."""
    model = make_outlier_classifier(tmp_path / "model", layers=(1,))
    texts, labels = labelled_texts(200, seed=5)
    words = [" ".join(f"w{i - 4}" for i in text["input_ids"][0, 1:-1]) for text in texts]
    rows = [json.dumps({"text": text, "label": int(label)}) for text, label in zip(words, labels, strict=True)]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows))
    calibration = CalibrationConfig(texts=100, judged_texts=200)
    config = FAST.model_copy(update={"min_quality": 0.98, "calibration": calibration})
    made = run_export(model, tmp_path / "out", config, name="tiny", data=tmp_path / "texts.jsonl")
    about = made["precisions"]["int8"]
    assert about["quality"]["kept"] >= 0.98
    naive = about["smoothing"].get("repaired", {"quality_plain": about["budget"]["tried"][0]["quality"]})
    assert naive["quality_plain"] < 0.8
    named = " ".join({**naive.get("nodes", {}), **about["budget"]["kept_float"]}.values())
    assert "layer 1 FFN output" in named


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_type", [pytest.param(name, marks=() if name in USUAL else pytest.mark.long) for name in SUPPORTED]
)
def test_every_family_has_every_precision(tmp_path: Path, model_type: str) -> None:
    """Oracle: the parity grid's bounds, which each graph of each family passed, or there were no facts."""
    model = make_classifier(tmp_path / "model", model_type)
    (tmp_path / "texts.txt").write_text("\n".join(f"w{i} w{i + 1} w{2 * i}" for i in range(20)))
    config = FAST.model_copy(update={"precisions": ALL})
    made = run_export(model, tmp_path / "out", config, name="tiny", data=tmp_path / "texts.txt")
    assert tuple(made["precisions"]) == ALL
    assert made["precisions"]["int8-blocks"]["parity"]["min_cosine"] > 0.95
    assert made["precisions"]["float16"]["parity"]["min_cosine"] > 0.999


@pytest.fixture
def full_disk() -> Iterator[None]:
    """The kernel refuses every file above 20 kB, as a full disk would."""
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, allowed[1]))  # Python ignores the signal that goes with it
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, allowed)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_clear_error_and_nothing_is_sealed(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the message and status 2."""
    command = [str(root / "model"), "--out", str(tmp_path / "bundle"), "target=avx2"]
    assert main(command) == 2
    assert "no room on the disk of" in capsys.readouterr().err
    assert not (tmp_path / "bundle" / "manifest.json").exists()
