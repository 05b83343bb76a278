"""Static int8: calibration, the file's QDQ pairs, and answers that do not depend on the batch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_graphs import ask, float32_matrices, kinds, make_batches, make_fused, make_product
from onnx import numpy_helper

from artifact.errors import ExportError
from export.calibrate import BINS, METHODS, Histogram, calibrate, range_of, scale_of
from export.config import InstructionSet
from export.grid import alone
from export.instruction_set import SATURATES, detect_instruction_set
from export.quantize import quantizable_nodes, quantize_dynamic_int8
from export.source import Source
from export.static import choose_static, quantize_channels, quantize_static
from export.surgery import load_named

HOST = detect_instruction_set()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path]:
    return make_fused(tmp_path_factory.mktemp("fused"))


def histogram_of(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low=low, high=high, counts=np.histogram(values, bins=BINS, range=(low, high))[0])


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "roberta", "deberta-v2", "modernbert"])
def test_static_answers_are_near(tmp_path: Path, model_type: str) -> None:
    """Oracle: the float32 graph; every product became a QDQ pair and no large float32 matrix is left."""
    source, fused = make_fused(tmp_path, model_type)
    batches = make_batches(source)
    facts = quantize_static(fused, tmp_path / "static.onnx", "vnni", batches, method="minmax")
    assert facts["nodes"]["MatMul"] >= 2 * 4 + 1
    left = [name for name in float32_matrices(tmp_path / "static.onnx") if "position" not in name]
    assert [name for name in left if "rel" not in name] == []
    found, expected = (ask(path, batches[0])["sentence_embedding"] for path in (tmp_path / "static.onnx", fused))
    assert (found * expected).sum(axis=1).min() > 0.95
    assert not np.array_equal(found, expected)


def test_a_text_answers_alone_as_in_a_batch(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: an identity, batch = one by one; dynamic int8, whose scales span the batch, is far from it."""
    batches = make_batches(made[0])
    quantize_static(made[1], tmp_path / "static.onnx", "vnni", batches, method="minmax")
    quantize_dynamic_int8(made[1], tmp_path / "dynamic.onnx", "vnni")
    moved = {}
    for name in ("static", "dynamic"):
        path, inputs = tmp_path / f"{name}.onnx", batches[-1]
        shared = ask(path, inputs)
        moved[name] = max(
            float(np.abs(ask(path, alone(inputs, row))[output][0] - shared[output][row]).max())
            for row in range(5)
            for output in shared
        )
    assert moved["static"] < 1e-5
    assert moved["dynamic"] > 100 * moved["static"]


@pytest.mark.parametrize(
    ("target", "limit"),
    [("avx2", 64), pytest.param("vnni", 127, marks=pytest.mark.skipif(SATURATES[HOST], reason=f"{HOST} saturates"))],
)
def test_a_product_is_what_numpy_makes_of_its_integers(tmp_path: Path, target: InstructionSet, limit: int) -> None:
    """Oracle: the same scales and roundings in numpy, clipped values included."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(32, 8)).astype(np.float32)
    path = make_product(tmp_path / "product.onnx", weights)
    seen = {"values": random.normal(size=(2, 5, 32)).astype(np.float32), "attention_mask": np.ones((2, 5), np.int64)}
    asked = seen | {"values": 2 * seen["values"]}
    quantize_static(path, tmp_path / "static.onnx", target, [seen], method="minmax")
    scale, zero = scale_of(float(seen["values"].min()), float(seen["values"].max()))
    integers, steps = quantize_channels(weights, limit=limit)
    values = np.clip(np.rint(asked["values"] / scale) + zero, 0, 255)
    expected = ((values - zero) @ integers.astype(np.float64)) * scale * steps
    np.testing.assert_allclose(ask(tmp_path / "static.onnx", asked)["answer"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("target", "limit"), [("avx2", 64), ("vnni", 127)])
def test_weights_fit_the_target(made: tuple[Source, Path], tmp_path: Path, target: str, limit: int) -> None:
    """Oracle: the file; 255 x 64 x 2 fits in 16 bits and 255 x 127 x 2 does not."""
    facts = quantize_static(made[1], tmp_path / "static.onnx", target, make_batches(made[0]), method="minmax")
    tensors = onnx.load(tmp_path / "static.onnx").graph.initializer
    weights = [numpy_helper.to_array(tensor) for tensor in tensors if tensor.name.endswith("_int8")]
    assert max(np.abs(values.astype(int)).max() for values in weights) == limit
    assert facts["reduce_range"] is (target == "avx2")


def test_all_but_products_and_tables_stays_float(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the kinds of nodes a two-layer BERT must have; one pair for each activation a product reads."""
    quantize_static(made[1], tmp_path / "static.onnx", "vnni", make_batches(made[0]), method="minmax")
    found = kinds(tmp_path / "static.onnx")
    assert (found["QuantizeLinear"], found["DequantizeLinear"], found["MatMul"]) == (10, 20, 10)
    assert (found["MultiHeadAttention"], found["BiasGelu"], found["SkipLayerNormalization"]) == (2, 2, 4)


def test_kept_nodes_keep_their_weights(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the names of the fused graph, which are those of `quantizable_nodes`."""
    batches = make_batches(made[0])
    kept = ["Attention_0", "/model/classifier/Gemm", "EmbedLayerNormalization_0"]
    facts = quantize_static(made[1], tmp_path / "s.onnx", "vnni", batches, method="minmax", keep_float=kept)
    assert facts["nodes"] == {"MatMul": 8, "Gather": 0}
    assert facts["kept_float"] == sorted(kept)
    with pytest.raises(ExportError, match="no product of the graph could be quantized"):
        quantize_static(
            made[1], tmp_path / "s.onnx", "vnni", batches, method="minmax", keep_float=quantizable_nodes(made[1])
        )


def test_calibration_does_not_depend_on_batches_or_padding(made: tuple[Source, Path]) -> None:
    """Oracle: an identity; the same texts one by one give the same histograms, but for rounding at the edges."""
    model, batches = load_named(made[1]), make_batches(made[0])
    names = ["EmbedLayerNormalization_0_output"]
    together = calibrate(model, names, batches)[names[0]]
    singles = [alone(inputs, row) for inputs in batches for row in range(5)]
    apart = calibrate(model, names, singles)[names[0]]
    np.testing.assert_allclose((together.low, together.high), (apart.low, apart.high), rtol=1e-5)
    assert together.counts.sum() == apart.counts.sum()
    assert np.abs(together.counts - apart.counts).sum() < 0.01 * together.counts.sum()


def test_the_same_texts_give_the_same_file(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the bytes of a second run."""
    for name in ("first", "second"):
        quantize_static(made[1], tmp_path / name, "vnni", make_batches(made[0]), method="entropy")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_ranges_of_known_values() -> None:
    """Oracle: the values; percentile leaves single outliers out, minmax does not, entropy clips a long thin tail."""
    values = np.random.default_rng(0).normal(size=200_000)
    values[0], values[1] = 40, -30
    histogram = histogram_of(values)
    assert range_of(histogram, "minmax") == (-30, 40)
    low, high = range_of(histogram, "percentile")
    assert -5 < low < -3
    assert 3 < high < 5
    low, high = range_of(histogram, "entropy")
    assert -12 < low < -2
    assert 2 < high < 12


def test_entropy_keeps_a_range_that_is_full() -> None:
    """Oracle: reason; evenly spread values lose by any clipping."""
    histogram = histogram_of(np.linspace(-1, 3, 100_000))
    low, high = range_of(histogram, "entropy")
    assert low == -1
    assert high > 2.8


def test_zero_is_exact() -> None:
    """Oracle: arithmetic by hand; padding and dead units are zeros."""
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)):
        scale, zero = scale_of(low, high)
        assert 0 <= int(zero) <= 255
        assert (0 - int(zero)) * float(scale) <= min(low, 0) + float(scale) / 2 + 1e-6
        assert (255 - int(zero)) * float(scale) >= max(high, 0) - float(scale) / 2 - 1e-6


def test_the_best_method_is_taken(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: qualities made up for the test; of equals the first in the order minmax, percentile, entropy."""
    batches, out = make_batches(made[0]), tmp_path / "static.onnx"
    for values, best in (((0.1, 0.3, 0.2), "percentile"), ((0.5, 0.5, 0.5), "minmax"), ((0.1, 0.2, 0.2), "percentile")):
        answers = iter(values)
        facts = choose_static(made[1], out, "vnni", batches, quality=lambda _: next(answers))  # noqa: B023
        assert facts["method"] == best
        assert facts["quality_by_method"] == dict(zip(METHODS, values, strict=True))
        quantize_static(made[1], tmp_path / "again.onnx", "vnni", batches, method=best)
        assert out.read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_calibration_needs_a_text(made: tuple[Source, Path], tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    with pytest.raises(ExportError, match=r"no text to calibrate with\n  give at least one"):
        quantize_static(made[1], tmp_path / "static.onnx", "vnni", [], method="minmax")
