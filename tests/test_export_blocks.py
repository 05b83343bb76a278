"""Block quantization: the packing against numpy, and answers that do not depend on the batch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_graphs import ask, float32_matrices, kinds, make_batches, make_fused, make_product

from artifact.errors import ExportError
from export.blocks import Bits, pack, quantize_blocks
from export.grid import alone
from export.source import Source
from export.surgery import attributes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path]:
    return make_fused(tmp_path_factory.mktemp("fused"))


def unpack(weights: np.ndarray, bits: Bits, block_size: int) -> np.ndarray:
    """The weights that a packed matrix stands for, written longhand from the operator's description."""
    integers, scales, zeros = pack(weights, bits=bits, block_size=block_size)
    inputs, outputs = weights.shape
    found = np.zeros_like(weights)
    for output in range(outputs):
        for place in range(inputs):
            block, offset = divmod(place, block_size)
            if bits == 8:
                value, zero = int(integers[output, block, offset]), int(zeros[output, block])
            else:
                value = int(integers[output, block, offset // 2]) >> 4 * (offset % 2) & 15
                zero = int(zeros[output, block // 2]) >> 4 * (block % 2) & 15
            found[place, output] = (value - zero) * scales[output, block]
    return found


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inputs", [96, 80])
def test_onnx_runtime_multiplies_by_the_unpacked_weights(tmp_path: Path, bits: Bits, inputs: int) -> None:
    """Oracle: numpy, by the dequantized matrix; 80 inputs fill no whole number of blocks, 96 an odd one."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(inputs, 24)).astype(np.float32)
    path = make_product(tmp_path / "product.onnx", weights)
    quantize_blocks(path, tmp_path / "blocks.onnx", bits=bits)
    values = random.integers(-127, 128, size=(2, 5, inputs)).astype(np.float32)
    values[..., ::32] = 127  # each block of a token is its own integers: no rounding of activations
    found = ask(tmp_path / "blocks.onnx", {"values": values, "attention_mask": np.ones((2, 5), np.int64)})["answer"]
    expected = values @ unpack(weights, bits, 32)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize(("bits", "share"), [(8, 1 / 255), (4, 1 / 15)])
def test_weights_are_near_by_a_step(bits: Bits, share: float) -> None:
    """Oracle: arithmetic; a value moves by half a step of its block at most, or search made the squares less."""
    weights = np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32)
    weights[:32, 4] = 0
    error = np.abs(unpack(weights, bits, 32) - weights)
    blocks = weights.reshape(2, 32, 10)
    steps = (np.maximum(blocks.max(1), 0) - np.minimum(blocks.min(1), 0)) * share
    plain = np.square(steps).sum() * 32 / 12  # of values spread evenly within a step
    assert np.square(error).sum() < 1.1 * plain
    assert not error[:32, 4].any()
    if bits == 8:
        assert np.all(error.reshape(2, 32, 10).max(1) <= steps * 0.501)


@pytest.mark.parametrize(("bits", "cosine"), [(8, 0.999), (4, 0.9)])
@pytest.mark.parametrize("model_type", ["bert", "distilbert", "roberta", "deberta-v2", "modernbert"])
def test_block_answers_are_near(tmp_path: Path, model_type: str, bits: Bits, cosine: float) -> None:
    """Oracle: the float32 graph; every product reads blocks and no large float32 matrix is left."""
    source, fused = make_fused(tmp_path, model_type)
    facts = quantize_blocks(fused, tmp_path / "blocks.onnx", bits=bits)
    assert facts["nodes"]["MatMulNBits"] >= 2 * 4 + 1
    left = float32_matrices(tmp_path / "blocks.onnx")
    assert [name for name in left if "position" not in name and "rel" not in name and "scales" not in name] == []
    inputs = make_batches(source, count=1)[0]
    found, expected = (ask(path, inputs)["sentence_embedding"] for path in (tmp_path / "blocks.onnx", fused))
    assert (found * expected).sum(axis=1).min() > cosine
    assert not np.array_equal(found, expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_text_answers_alone_as_in_a_batch(made: tuple[Source, Path], tmp_path: Path, bits: Bits) -> None:
    """Oracle: an identity, batch = one by one; activations are rounded within each token."""
    quantize_blocks(made[1], tmp_path / "blocks.onnx", bits=bits)
    inputs = make_batches(made[0])[-1]
    shared = ask(tmp_path / "blocks.onnx", inputs)
    for row in range(5):
        single = ask(tmp_path / "blocks.onnx", alone(inputs, row))
        for name, values in single.items():
            np.testing.assert_allclose(values[0], shared[name][row], atol=1e-5)


def test_the_file_says_how_it_is_to_be_run(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the attributes of the operator, and the facts."""
    facts = quantize_blocks(made[1], tmp_path / "blocks.onnx", bits=4, keep_float=["Attention_0"])
    nodes = [node for node in onnx.load(tmp_path / "blocks.onnx").graph.node if node.op_type == "MatMulNBits"]
    assert {(known["bits"], known["block_size"], known["accuracy_level"]) for known in map(attributes, nodes)} == {
        (4, 32, 4)
    }
    assert facts["nodes"] == {"MatMulNBits": 9, "Gather": 1}
    assert (facts["accuracy_level"], facts["kept_float"]) == (4, ["Attention_0"])
    assert "Attention_0" in {node.name for node in onnx.load(tmp_path / "blocks.onnx").graph.node}
    assert kinds(tmp_path / "blocks.onnx")["Attention"] == 1


def test_faults_are_named(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the messages, as a user reads them."""
    with pytest.raises(ExportError, match=r"block_size is 48, expected a power of two from 16 up\n  32 is best"):
        quantize_blocks(made[1], tmp_path / "blocks.onnx", bits=4, block_size=48)
    path = make_product(tmp_path / "product.onnx", np.ones((32, 4), np.float32))
    with pytest.raises(ExportError, match="no product of the graph could be quantized"):
        quantize_blocks(path, tmp_path / "blocks.onnx", bits=8, keep_float=["product"])
