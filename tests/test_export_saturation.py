"""The saturation audit against plain loops, and the proof that 7 bits cannot overflow."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_graphs import ask, make_batches, make_fused, make_product

from artifact.errors import ExportError
from export.quantize import quantize_dynamic_int8
from export.saturation import audit_saturation, count_overflows, largest_possible
from export.source import Source
from export.static import quantize_static


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path]:
    return make_fused(tmp_path_factory.mktemp("fused"))


def loops(activations: np.ndarray, weights: np.ndarray) -> tuple[int, int, int]:
    """Pairs, overflows and the largest sum, one by one."""
    pairs = overflows = largest = 0
    for row in activations.tolist():
        for output in range(weights.shape[1]):
            for place in range(0, len(row) - 1, 2):
                total = row[place] * int(weights[place, output]) + row[place + 1] * int(weights[place + 1, output])
                pairs += 1
                overflows += total > 32767 or total < -32768
                largest = max(largest, abs(total))
    return pairs, overflows, largest


@pytest.mark.parametrize("limit", [64, 127])
@pytest.mark.parametrize("inputs", [12, 13])
def test_counting_equals_plain_loops(limit: int, inputs: int) -> None:
    """Oracle: the definition in python integers, on values that overflow often; an odd last input has no neighbour."""
    random = np.random.default_rng(limit)
    activations = random.integers(0, 256, size=(9, inputs)).astype(np.uint8)
    weights = random.integers(-limit, limit + 1, size=(inputs, 70)).astype(np.int8)
    weights[::3] = limit
    found = count_overflows(activations, weights)
    assert (found.pairs, found.overflows, found.largest) == loops(activations, weights)
    assert (found.overflows > 0) == (limit == 127)


def test_both_ends_of_16_bits_are_kept_apart() -> None:
    """Oracle: the numbers; -32768 still fits, 32768 does not."""
    activations = np.array([[128, 128]], np.uint8)
    weights = np.array([[-128, 127, 127], [-128, 127, 1]], np.int8)
    assert count_overflows(activations, weights).overflows == 0
    activations = np.array([[255, 255]], np.uint8)
    assert count_overflows(activations, weights).overflows == 2


def test_a_larger_sum_already_known_hides_no_overflow() -> None:
    """Oracle: an identity; the same count, whatever was known before."""
    random = np.random.default_rng(5)
    activations = random.integers(0, 256, size=(9, 12)).astype(np.uint8)
    weights = random.integers(-127, 128, size=(12, 70)).astype(np.int8)
    plain, knowing = count_overflows(activations, weights), count_overflows(activations, weights, known=60_000)
    assert plain.overflows == knowing.overflows > 0
    assert knowing.largest == 60_000


def test_the_proof_for_seven_bits() -> None:
    """Oracle: arithmetic; 255 x 64 x 2 fits in 16 bits, 255 x 65 + 255 x 64 does not."""
    assert largest_possible(np.full((2, 1), 64, np.int8)) == 32640
    assert largest_possible(np.full((2, 1), -64, np.int8)) == 32640
    assert largest_possible(np.array([[65], [64]], np.int8)) == 32895
    assert largest_possible(np.array([[100], [-100]], np.int8)) == 25500


@pytest.mark.parametrize("precision", ["dynamic", "static"])
def test_certain_overflow_is_found(tmp_path: Path, precision: str) -> None:
    """Oracle: plain loops over the integers of the graph; equal large weights and activations overflow in each pair."""
    path = make_product(tmp_path / "product.onnx", np.ones((8, 4), np.float32))
    inputs = {"values": np.full((2, 3, 8), 5, np.float32), "attention_mask": np.ones((2, 3), np.int64)}
    if precision == "dynamic":
        quantize_dynamic_int8(path, tmp_path / "int8.onnx", "vnni")
    else:
        quantize_static(path, tmp_path / "int8.onnx", "vnni", [inputs], method="minmax")
    facts = audit_saturation(tmp_path / "int8.onnx", [inputs, inputs])
    expected = loops(np.full((12, 8), 255, np.uint8), np.full((8, 4), 127, np.int8))
    assert (facts["pairs"], facts["overflows"], facts["largest_pair"]) == expected
    assert facts["risk"] == 1
    assert facts["proof"] is None
    assert facts["by_node"] == {"product": {"overflows": expected[1], "risk": 1.0}}


@pytest.mark.parametrize(("target", "proven"), [("avx2", True), ("vnni", False)])
def test_a_graph_is_audited_with_its_own_integers(
    made: tuple[Source, Path], tmp_path: Path, target: str, proven: bool
) -> None:
    """Oracle: plain loops over what `DynamicQuantizeLinear` gives for one product, and the proof where it holds."""
    quantize_dynamic_int8(made[1], tmp_path / "int8.onnx", target)
    batches = make_batches(made[0], count=2)
    facts = audit_saturation(tmp_path / "int8.onnx", batches)
    assert (facts["proof"] == f"no text can overflow: {facts['largest_possible']} <= 32767") is proven
    assert (facts["largest_possible"] <= 255 * 64 * 2) is proven
    assert facts["largest_pair"] <= facts["largest_possible"]
    tokens = sum(inputs["input_ids"].size for inputs in batches)
    a_layer = 16 * (3 * 32 + 32 + 64) + 32 * 32
    assert facts["pairs"] == tokens * 2 * a_layer + 2 * 5 * 16 * (32 + 3)
    if proven:
        assert (facts["overflows"], facts["risk"], facts["by_node"]) == (0, 0, {})
        return
    model = onnx.load(tmp_path / "int8.onnx")
    node = next(node for node in model.graph.node if node.name == "Attention_0_quant")
    model.graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.UINT8, None))
    onnx.save(model, tmp_path / "shown.onnx")
    weights = next(
        onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == node.input[1]
    )
    counted = [loops(ask(tmp_path / "shown.onnx", one)[node.input[0]].reshape(-1, 32), weights) for one in batches]
    overflows = sum(found[1] for found in counted)
    assert facts["by_node"].get("Attention_0", {"overflows": 0})["overflows"] == overflows > 0


def test_a_float_graph_cannot_be_audited(made: tuple[Source, Path]) -> None:
    """Oracle: the message, as a user reads it."""
    with pytest.raises(
        ExportError, match=r"fused\.onnx has no int8 product to audit\n  name a graph of precision int8"
    ):
        audit_saturation(made[1], make_batches(made[0]))
