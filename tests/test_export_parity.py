"""The parity grid and its gate: what passes, what must not, and what the message says."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from export_models import MAX_TOKENS, make_classifier

from artifact.config import parse_config
from artifact.errors import ConfigError, ParityError
from export.answers import ask_torch, max_abs_difference
from export.config import ExportConfig, Parity, Precision, min_cosine_field
from export.fuse import fuse
from export.graph import export_graph
from export.grid import Cell, alone, fill, make_cells, most_padded_row, vocabulary_of
from export.instruction_set import SATURATES
from export.parity import Comparison, check, left_padding_shift, prove, token_types_of
from export.quantize import quantize_dynamic_int8
from export.source import Source, load_source
from export.vectors import cosines

GRID = Parity(batch_sizes=(1, 3), lengths=(2, 9))


@dataclass(frozen=True)
class Exported:
    source: Source
    float32: Path
    int8: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    directory = tmp_path_factory.mktemp("exported")
    source = load_source(make_classifier(directory / "model"))
    export_graph(source, directory / "raw.onnx", opset=17)
    fuse(directory / "raw.onnx", directory / "fused.onnx", source.architecture)
    quantize_dynamic_int8(directory / "fused.onnx", directory / "int8.onnx", "avx2")
    return Exported(source, directory / "fused.onnx", directory / "int8.onnx")


def tamper(graph: Path, copy: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    model = onnx.load(graph)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(name))
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, copy)
    return copy


def test_an_honest_graph_passes(exported: Exported) -> None:
    """Oracle: the PyTorch model; two batches times three lengths times two kinds of token types."""
    grid, facts = prove(exported.source, {"float32": exported.float32, "int8": exported.int8}, GRID)
    assert grid["cells"] == 2 * 3 * 2
    assert facts["float32"]["max_abs_error"] < 1e-5
    assert facts["float32"]["max_padding_shift"] < 1e-5
    assert facts["float32"]["max_abs_error"] < facts["int8"]["max_abs_error"]
    assert 0.9 < facts["int8"]["min_cosine"] < 1


@pytest.mark.parametrize("name", ["classifier.bias", "position_embeddings.weight", "token_type_embeddings.weight"])
def test_a_tampered_weight_is_found(exported: Exported, tmp_path: Path, name: str) -> None:
    """Oracle: the tampering itself; the error must say how far off, against what bound, and in which cell."""
    wrong = tamper(
        exported.float32, tmp_path / "wrong.onnx", name, lambda weights: weights + np.float32(0.01) * weights
    )
    with pytest.raises(ParityError, match=r"float32 graph differs .* more than 0\.0001\n  in batch \d+ x \d+ tokens"):
        prove(exported.source, {"float32": wrong}, GRID)


def test_the_token_types_of_the_second_text_are_compared(exported: Exported, tmp_path: Path) -> None:
    """Oracle: the tampering; only the row of type 1 is changed, so only a `mixed` cell can show it."""
    wrong = tamper(
        exported.float32,
        tmp_path / "wrong.onnx",
        "token_type_embeddings.weight",
        lambda rows: rows * np.float32([[1], [1.1]]),
    )
    with pytest.raises(ParityError, match="token types mixed"):
        prove(exported.source, {"float32": wrong}, GRID)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_nan_misses_every_bound(exported: Exported, tmp_path: Path, precision: str) -> None:
    """Oracle: IEEE 754, where NaN compares false with any bound and so could slip through."""
    wrong = tamper(exported.float32, tmp_path / "wrong.onnx", "classifier.bias", lambda bias: bias * np.float32("nan"))
    with pytest.raises(ParityError, match=f"the {precision} graph answers with NaN"):
        prove(exported.source, {precision: wrong}, GRID)


def test_an_int8_graph_below_the_bound_names_the_cosine(exported: Exported) -> None:
    """Oracle: the bound itself, set above what eight bits can reach."""
    strict = GRID.model_copy(update={"int8_min_cosine": 0.999999})
    with pytest.raises(ParityError, match=r"int8 graph has cosine 0\.\d+ .* less than 0\.999999\n  in batch"):
        prove(exported.source, {"float32": exported.float32, "int8": exported.int8}, strict)


@pytest.mark.parametrize("precision", [p for p in get_args(Precision) if p != "float32"])
def test_every_precision_has_a_bound_of_its_own(precision: Precision) -> None:
    """Oracle: a cosine just below the default, and the field that the message names, lowered to it."""
    bound = Parity().min_cosine(precision)
    assert bound is not None
    found = Comparison(cell=Cell(batch=3, length=9), max_abs_error=0, min_cosine=bound - 0.001, padding_shift=None)
    field = min_cosine_field(precision)
    with pytest.raises(ParityError, match=f"lower parity.{field} if"):
        check(precision, [found], Parity())
    check(precision, [found], Parity(**{field: bound - 0.002}))


def test_the_source_is_asked_once_for_each_cell(exported: Exported) -> None:
    """Oracle: a count of the model's forward passes; two more are the probe of left padding."""
    passes = []
    hook = exported.source.model.register_forward_hook(lambda *_: passes.append(1))
    grid, _ = prove(exported.source, {"float32": exported.float32, "int8": exported.int8}, GRID)
    hook.remove()
    assert len(passes) == grid["cells"] + 2


def test_threads_of_torch_are_put_back(exported: Exported) -> None:
    """Oracle: the number before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    prove(exported.source, {"float32": exported.float32}, GRID)
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 3


def test_left_padding_is_left_out_where_the_source_moves(exported: Exported) -> None:
    """Oracle: BERT's positions are absolute, so the source itself answers otherwise; the facts say by how much."""
    assert left_padding_shift(exported.source) > 1e-3
    grid, _ = prove(exported.source, {"float32": exported.float32}, GRID)
    assert grid["padding"]["left"].startswith("left out: the source's own answer moves by")


def test_left_padding_is_compared_where_nothing_moves(tmp_path: Path) -> None:
    """Oracle: ModernBERT's rotary positions are relative and its mean-pooling head reads no particular place."""
    source = load_source(make_classifier(tmp_path / "model", "modernbert", classifier_pooling="mean"))
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    fuse(tmp_path / "raw.onnx", tmp_path / "fused.onnx", source.architecture)
    grid, _ = prove(source, {"float32": tmp_path / "fused.onnx"}, GRID)
    assert grid["padding"] == {"right": "compared", "left": "compared"}
    assert grid["cells"] == 2 * 3 * 2
    assert token_types_of(source) == ("zero",)


def test_an_answer_that_padding_moves_is_refused(exported: Exported, tmp_path: Path) -> None:
    """Oracle: the tampering; a mask that lets padding through moves an answer, in the source and graph alike."""
    model = onnx.load(exported.float32)
    for node in model.graph.node:
        if node.op_type == "Attention":
            node.input[3] = ""  # the mask
    onnx.save(model, tmp_path / "maskless.onnx")
    with pytest.raises(ParityError, match="differs from its source"):
        prove(exported.source, {"float32": tmp_path / "maskless.onnx"}, GRID)
    loose = Comparison(cell=Cell(batch=3, length=9), max_abs_error=0, min_cosine=1, padding_shift=0.1)
    with pytest.raises(ParityError, match=r"when it is padded, by \S+, more than"):
        check("float32", [loose], GRID)


def test_the_source_is_asked_a_few_texts_at_a_time(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: an identity, asked in parts = asked at once; and the number of forward passes."""
    inputs = fill(Cell(batch=7, length=9), vocabulary_of(exported.source), np.random.default_rng(4))
    whole = ask_torch(exported.source)(inputs)
    monkeypatch.setattr("export.answers.SOURCE_TOKENS", 20)
    passes = []
    hook = exported.source.model.register_forward_hook(lambda *_: passes.append(1))
    parts = ask_torch(exported.source)(inputs)
    hook.remove()
    assert len(passes) == 4
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, atol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_cells_are_ragged_and_padded_on_their_side(exported: Exported, side: str) -> None:
    """Oracle: the cell; the first text fills it, no text has fewer than two tokens, padding lies on one side."""
    vocabulary = vocabulary_of(exported.source)
    inputs = fill(Cell(batch=7, length=16, side=side), vocabulary, np.random.default_rng(1))
    mask, ids = inputs["attention_mask"], inputs["input_ids"]
    lengths = mask.sum(axis=1)
    assert lengths[0] == 16
    assert lengths.min() >= 2
    assert len(set(lengths)) > 1
    ordered = np.sort(mask, axis=1)
    np.testing.assert_array_equal(mask, ordered if side == "left" else ordered[:, ::-1])
    np.testing.assert_array_equal(ids == vocabulary.pad_id, mask == 0)


def test_a_text_alone_is_its_own_tokens(exported: Exported) -> None:
    """Oracle: the batch, cut by hand."""
    inputs = fill(Cell(batch=5, length=12), vocabulary_of(exported.source), np.random.default_rng(2))
    row = most_padded_row(inputs)
    length = int(inputs["attention_mask"][row].sum())
    single = alone(inputs, row)
    np.testing.assert_array_equal(single["input_ids"], inputs["input_ids"][row : row + 1, :length])
    assert single["attention_mask"].all()


def test_the_grid_adds_max_tokens_and_leaves_out_what_is_too_large() -> None:
    """Oracle: the grid of the defaults, counted by hand for two limits."""
    short = make_cells(Parity(), 16, ("right",), ("zero",))
    assert {cell.length for cell in short} == {1, 2, 15, 16}
    long = make_cells(Parity(), 512, ("right",), ("zero",))
    assert [cell.batch for cell in long if cell.length == 512] == [1, 2, 7, 32]
    assert [cell.batch for cell in make_cells(Parity(), 8192, ("right",), ("zero",)) if cell.length == 8192] == [1, 2]
    assert len(long) == 4 * 7


def test_differences_and_cosines() -> None:
    """Oracle: arithmetic by hand, and NaN in either part is NaN in the whole."""
    zero, one = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    ones = {"logits": one, "sentence_embedding": one}
    assert max_abs_difference(ones | {"logits": zero}, ones) == 1
    assert math.isnan(max_abs_difference(ones | {"sentence_embedding": one * np.float32("nan")}, ones))
    np.testing.assert_allclose(cosines(np.array([[3.0, 0.0]]), np.array([[1.0, 1.0]])), [0.5**0.5])
    assert cosines(np.zeros((1, 2)), np.array([[1.0, 1.0]])) == [0]  # not NaN, which is below no bound


def test_the_source_answers_one_by_one_as_in_a_batch(exported: Exported) -> None:
    """Oracle: an identity, batch = one by one."""
    inputs = fill(Cell(batch=4, length=MAX_TOKENS), vocabulary_of(exported.source), np.random.default_rng(3))
    ask = ask_torch(exported.source)
    together = ask(inputs)
    for row in range(4):
        single = ask(alone(inputs, row))
        for name, values in together.items():
            np.testing.assert_allclose(single[name][0], values[row], atol=1e-5)


@pytest.mark.parametrize("target", list(SATURATES))
def test_weights_have_seven_bits_only_where_eight_saturate(exported: Exported, tmp_path: Path, target: str) -> None:
    """Oracle: the weights in the file; 255 x 64 x 2 fits in 16 bits and 255 x 127 x 2 does not."""
    settings = quantize_dynamic_int8(exported.float32, tmp_path / "int8.onnx", target)
    tensors = onnx.load(tmp_path / "int8.onnx").graph.initializer
    largest = max(
        np.abs(onnx.numpy_helper.to_array(tensor).astype(np.int32)).max()
        for tensor in tensors
        if tensor.data_type == onnx.TensorProto.INT8 and tensor.name.endswith("_quantized") and len(tensor.dims) == 2
    )
    assert settings["reduce_range"] is SATURATES[target]
    assert largest <= 64 if SATURATES[target] else largest == 127


def test_each_channel_has_its_own_scale(exported: Exported) -> None:
    """Oracle: the scales in the file; one a column of the classifier, which has three labels."""
    tensors = {tensor.name: tensor for tensor in onnx.load(exported.int8).graph.initializer}
    scales = onnx.numpy_helper.to_array(
        next(tensors[name] for name in tensors if "classifier" in name and "scale" in name)
    )
    assert scales.shape == (3,)
    assert len(set(scales.tolist())) == 3


def test_int8_covers_every_large_weight(exported: Exported, tmp_path: Path) -> None:
    """Oracle: the file; no float32 tensor larger than a bias or scale is left, embeddings included."""
    settings = quantize_dynamic_int8(exported.float32, tmp_path / "int8.onnx", "vnni")
    assert settings["nodes"] == {"MatMulInteger": 2 * 3 + 2, "QAttention": 2, "QEmbedLayerNormalization": 1}
    left = [t.name for t in onnx.load(tmp_path / "int8.onnx").graph.initializer if t.data_type == 1 and len(t.dims) > 1]
    assert left == []
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * exported.float32.stat().st_size


@pytest.mark.parametrize("precisions", [["int8"], ["int8", "float32"], ["float32", "float32"], []])
def test_precisions_start_with_float32(precisions: list[str]) -> None:
    """Oracle: the message; int8 is made from the float32 graph and compared beside it."""
    with pytest.raises(ConfigError, match="precisions must start with float32"):
        parse_config(ExportConfig, {"precisions": precisions}, where="test")
