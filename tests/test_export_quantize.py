"""Dynamic int8 with nodes kept in float, the spread graph under the other precisions, and smoothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_graphs import ask, float32_matrices, kinds, make_batches, make_fused, make_product
from onnx import numpy_helper

from artifact.errors import ExportError
from export.config import InstructionSet
from export.grid import Inputs
from export.instruction_set import SATURATES, detect_instruction_set
from export.quantize import quantizable_nodes, quantize_dynamic_int8
from export.rows import quantize_rows, quantize_tables
from export.smooth import smooth, smoothing_factors
from export.source import Source
from export.spread import spread
from export.surgery import load_named, save_loadable, watch

HOST = detect_instruction_set()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path]:
    return make_fused(tmp_path_factory.mktemp("fused"))


def difference(first: Path, second: Path, inputs: Inputs) -> float:
    found, expected = ask(first, inputs), ask(second, inputs)
    return max(float(np.abs(found[name] - expected[name]).max()) for name in expected)


def spread_of(fused: Path, out: Path, **options: object) -> Path:
    model = load_named(fused)
    spread(model, **options)
    save_loadable(model, out)
    return out


def test_every_matrix_is_quantizable(made: tuple[Source, Path]) -> None:
    """Oracle: a two-layer BERT counted by hand; embeddings, per layer attention and three products, pooler and head."""
    names = quantizable_nodes(made[1])
    assert len(names) == len(set(names)) == 1 + 2 * 4 + 2
    assert {"Attention_0", "Attention_1", "EmbedLayerNormalization_0", "/model/classifier/Gemm"} <= set(names)


def test_nodes_without_a_name_get_the_same_one_each_time(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: an identity; the names of two readings, and the search for them by `keep_float`."""
    model = onnx.load(made[1])
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "nameless.onnx")
    names = quantizable_nodes(tmp_path / "nameless.onnx")
    assert names == quantizable_nodes(tmp_path / "nameless.onnx")
    assert len(set(names)) == len(quantizable_nodes(made[1]))
    facts = quantize_dynamic_int8(tmp_path / "nameless.onnx", tmp_path / "int8.onnx", "vnni", keep_float=names[:2])
    assert facts["kept_float"] == sorted(names[:2])
    assert facts["nodes"] == {"MatMulInteger": 8, "QAttention": 1}


@pytest.mark.parametrize("kind", ["Attention_0", "EmbedLayerNormalization_0", "/model/classifier/Gemm"])
def test_a_node_kept_in_float_keeps_its_weights(made: tuple[Source, Path], tmp_path: Path, kind: str) -> None:
    """Oracle: the weights of the fused graph; in the file they stand as they were, and one node fewer is integer."""
    everything = quantize_dynamic_int8(made[1], tmp_path / "all.onnx", "avx2")
    facts = quantize_dynamic_int8(made[1], tmp_path / "int8.onnx", "avx2", keep_float=[kind])
    assert sum(facts["nodes"].values()) == sum(everything["nodes"].values()) - 1
    assert float32_matrices(tmp_path / "all.onnx") == []
    assert len(float32_matrices(tmp_path / "int8.onnx")) >= 1
    inputs = make_batches(made[0], count=1)[0]
    assert difference(tmp_path / "int8.onnx", made[1], inputs) > 1e-4


def test_keeping_all_in_float_is_an_error(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    with pytest.raises(ExportError, match=r"no node of fused\.onnx was quantized\n  leave int8 out"):
        quantize_dynamic_int8(made[1], tmp_path / "int8.onnx", "avx2", keep_float=quantizable_nodes(made[1]))


def test_an_unknown_name_is_an_error(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the message; a name misspelt would otherwise quantize what was to be kept."""
    with pytest.raises(ExportError, match=r"no node of the graph is called attention_7\n  names are those of"):
        quantize_dynamic_int8(made[1], tmp_path / "int8.onnx", "avx2", keep_float=["attention_7"])


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "roberta", "mpnet", "deberta-v2", "modernbert"])
def test_the_spread_graph_answers_as_the_fused_one(tmp_path: Path, model_type: str) -> None:
    """Oracle: the fused graph, on ragged batches; no weights are left in a fused node."""
    source, fused = make_fused(tmp_path, model_type)
    plain = spread_of(fused, tmp_path / "spread.onnx")
    assert not {"Attention", "EmbedLayerNormalization", "Gemm"} & kinds(plain).keys()
    for inputs in make_batches(source, count=3):
        assert difference(plain, fused, inputs) < 1e-5


def test_the_spread_graph_takes_padding_on_the_left(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the same tokens at the same places, unpadded on the right; the mask is read whole, not counted."""
    plain = spread_of(made[1], tmp_path / "spread.onnx")
    inputs = dict(make_batches(made[0], count=1)[0])
    mask = np.ones_like(inputs["attention_mask"])
    mask[:, :2] = 0
    masked = ask(plain, inputs | {"attention_mask": mask})
    other = inputs["input_ids"].copy()
    other[:, :2] = 50
    found = ask(plain, inputs | {"attention_mask": mask, "input_ids": other})
    np.testing.assert_allclose(found["sentence_embedding"], masked["sentence_embedding"], atol=1e-6)


def test_what_is_kept_stays_fused(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the kinds of nodes in the file, and the fused graph's answers."""
    mixed = spread_of(made[1], tmp_path / "mixed.onnx", keep={"Attention_1", "EmbedLayerNormalization_0"})
    assert (kinds(mixed)["Attention"], kinds(mixed)["MultiHeadAttention"]) == (1, 1)
    assert kinds(mixed)["EmbedLayerNormalization"] == 1
    assert difference(mixed, made[1], make_batches(made[0], count=1)[0]) < 1e-5


def test_rows_are_near_by_half_a_step() -> None:
    """Oracle: arithmetic; rounding moves a value by at most half of its row's scale."""
    table = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32) * np.logspace(-3, 3, 50)[:, None]
    table[7] = 0
    integers, scales = quantize_rows(table.astype(np.float32))
    assert np.all(np.abs(integers * scales - table) <= scales / 2 * 1.001)
    assert np.abs(integers).max() == 127
    assert not integers[7].any()


def test_tables_are_looked_up_as_numpy_would(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the float32 graph with the rounded table put in its place."""
    model = load_named(made[1])
    spread(model)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    assert quantize_tables(model) == ("EmbedLayerNormalization_0",)
    save_loadable(model, tmp_path / "rows.onnx")
    table = next(tensor for tensor in rounded.graph.initializer if "word_embeddings" in tensor.name)
    integers, scales = quantize_rows(numpy_helper.to_array(table))
    table.CopyFrom(numpy_helper.from_array(integers * scales, table.name))
    save_loadable(rounded, tmp_path / "rounded.onnx")
    assert difference(tmp_path / "rows.onnx", tmp_path / "rounded.onnx", make_batches(made[0], count=1)[0]) < 1e-6


def test_watched_activations_leave_padding_out(made: tuple[Source, Path]) -> None:
    """Oracle: the masks; as many rows as there are tokens, however the texts are cut into runs."""
    model, batches = load_named(made[1]), make_batches(made[0], texts=120)
    seen = list(watch(model, ["EmbedLayerNormalization_0_output"], batches))
    tokens = sum(int(inputs["attention_mask"].sum()) for inputs in batches)
    assert sum(len(found["EmbedLayerNormalization_0_output"]) for found in seen) == tokens
    assert len(seen) > len(batches)


def test_smoothing_changes_no_answer(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: an identity; a channel divided by what its weights are multiplied with."""
    batches = make_batches(made[0])
    facts = smooth(made[1], tmp_path / "smooth.onnx", batches)
    assert facts == {"strength": 0.75, "nodes": 8}
    assert difference(tmp_path / "smooth.onnx", made[1], batches[0]) < 1e-5
    assert set(quantizable_nodes(made[1])) - set(quantizable_nodes(tmp_path / "smooth.onnx")) == set()


@pytest.mark.parametrize(
    ("target", "times"),
    [("avx2", 2), pytest.param("vnni", 4, marks=pytest.mark.skipif(SATURATES[HOST], reason=f"{HOST} saturates"))],
)
def test_smoothing_repairs_outlier_channels(tmp_path: Path, target: InstructionSet, times: int) -> None:
    """Oracle: the float32 product; with one channel 60 times the others, int8 is nearer to it after smoothing."""
    random = np.random.default_rng(0)
    plain = make_product(tmp_path / "plain.onnx", random.normal(size=(32, 8)).astype(np.float32))
    values = random.normal(size=(3, 7, 32)).astype(np.float32)
    values[..., 3] *= 60
    inputs = {"values": values, "attention_mask": np.ones((3, 7), np.int64)}
    smooth(plain, tmp_path / "smooth.onnx", [inputs])
    quantize_dynamic_int8(plain, tmp_path / "plain_int8.onnx", target)
    quantize_dynamic_int8(tmp_path / "smooth.onnx", tmp_path / "smooth_int8.onnx", target)
    rough, smoothed = (difference(tmp_path / f"{name}_int8.onnx", plain, inputs) for name in ("plain", "smooth"))
    assert smoothed < rough / times


def test_smoothing_factors_are_the_papers() -> None:
    """Oracle: eq. 4 by hand for two channels, up to the common factor that is taken out."""
    found = smoothing_factors(np.array([8.0, 2.0]), np.array([[2.0, -1.0], [0.5, 0.1]]), 0.5)
    np.testing.assert_allclose(found[0] / found[1], ((8 / 2) ** 0.5) / ((2 / 0.5) ** 0.5))
    np.testing.assert_allclose(found.prod(), 1)


def test_smoothing_needs_a_text(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    with pytest.raises(ExportError, match=r"no text to calibrate with\n  give at least one"):
        smooth(made[1], tmp_path / "smooth.onnx", [])
