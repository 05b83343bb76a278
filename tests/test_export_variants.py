"""The choice between forms of a graph by the clock."""

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.instruction_set import detect_instruction_set
from export.variants import choose_fastest, latency_in_turns, pick_fastest, speedup

HOST = detect_instruction_set()
WIDTH = 192


def products(path: Path, count: int) -> Path:
    """A graph of an encoder's inputs that does nothing but multiply, `count` times one after the other."""
    weight = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32) * 0.5, "weight")
    table = numpy_helper.from_array(np.ones((4, WIDTH), dtype=np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{i}", "weight"], [f"h{i + 1}"]) for i in range(count)]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "seq"])
    out = helper.make_tensor_value_info(f"h{count}", TensorProto.FLOAT, ["batch", "seq", WIDTH])
    graph = helper.make_graph(nodes, "products", [ids], [out], [weight, table])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return products(tmp_path_factory.mktemp("quick") / "graph.onnx", 1)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return products(tmp_path_factory.mktemp("slow") / "graph.onnx", 30)


def noisy_timings(*milliseconds: float, rounds: int = 40) -> np.ndarray:
    """Two batches, the second ten times longer; each round slowed by something all graphs feel, and a little alone."""
    random = np.random.default_rng(1)
    shared = random.uniform(1, 4, (rounds, 2, 1))
    return (
        shared
        * np.array([[1.0], [10.0]])
        * np.array(milliseconds)
        * random.lognormal(0, 0.03, (rounds, 2, len(milliseconds)))
    )


def test_the_faster_graph_is_chosen_wherever_it_stands(quick: Path, slow: Path) -> None:
    """Oracle: arithmetic, one product against thirty."""
    for order in (("quick", "slow"), ("slow", "quick")):
        graphs = {name: {"quick": quick, "slow": slow}[name] for name in order}
        facts = choose_fastest(graphs, pad_id=0, target=HOST, seconds=0.1)
        assert facts["chosen"] == "quick"
        assert facts["measured"]
        assert facts["rounds"] >= 8
        assert facts["median_ms"]["quick"]["8x32"] < facts["median_ms"]["slow"]["8x32"]
        assert list(facts["median_ms"]["slow"]) == ["1x16", "8x32"]


def test_the_traced_graph_is_shipped_only_where_it_is_faster(quick: Path, slow: Path) -> None:
    """Oracle: arithmetic, one product against thirty."""
    assert choose_fastest({"fused": slow, "raw": quick}, pad_id=1, target=HOST, seconds=0.1)["chosen"] == "raw"
    assert choose_fastest({"fused": quick, "raw": slow}, pad_id=1, target=HOST, seconds=0.1)["chosen"] == "fused"


def test_nothing_is_measured_for_another_machine(tmp_path: Path) -> None:
    """Oracle: graphs that do not exist, which a measurement would have to open."""
    other = "arm64" if HOST != "arm64" else "avx2"
    graphs = {"whole": tmp_path / "none", "raw": tmp_path / "nor this"}
    facts = choose_fastest(graphs, pad_id=0, target=other)
    assert facts == {"chosen": "whole", "measured": False, "reason": f"made for {other}, this machine is {HOST}"}


def test_a_tie_goes_to_the_first() -> None:
    """Oracle: timings made of one law for both graphs; either way round, one of the two is ahead by chance."""
    timings = noisy_timings(1.0, 1.0)
    for turned in (timings, timings[:, :, ::-1]):
        chosen, speedups = pick_fastest(["whole", "raw"], turned)
        assert speedups["raw"]["low"] < 1 < speedups["raw"]["high"]
        assert chosen == "whole"


def test_of_several_faster_ones_the_fastest_is_chosen() -> None:
    """Oracle: timings made with speed-ups of 1.25, 1.1 and 0.5."""
    chosen, speedups = pick_fastest(["whole", "light", "raw", "odd"], noisy_timings(1.0, 0.8, 1 / 1.1, 2.0))
    assert chosen == "light"
    assert [speedups[name]["ratio"] for name in ("light", "raw", "odd")] == pytest.approx([1.25, 1.1, 0.5], rel=0.03)


def test_a_speedup_is_the_geometric_mean_over_batches() -> None:
    """Oracle: twice as fast on one batch and half as fast on the other is no speed-up, exactly."""
    timings = np.tile(np.array([[[1.0, 0.5], [10.0, 20.0]]]), (9, 1, 1))
    assert speedup(timings, 1) == {"ratio": 1.0, "low": 1.0, "high": 1.0}


def test_a_length_beyond_the_positions_is_not_asked_for(quick: Path) -> None:
    """Oracle: the names of the batches measured."""
    facts = choose_fastest({"one": quick, "two": quick}, pad_id=0, target=HOST, seconds=0.1, max_tokens=20)
    assert list(facts["median_ms"]["one"]) == ["1x16", "8x20"]


def test_measuring_takes_about_the_time_it_is_given(quick: Path) -> None:
    """Oracle: the clock; a quick graph ends by its number of rounds, long before."""
    begun = time.perf_counter()
    assert choose_fastest({"one": quick, "two": quick}, pad_id=0, target=HOST, seconds=30.0)["rounds"] == 60
    assert time.perf_counter() - begun < 20


def test_latency_of_texts_is_measured_graph_by_graph(quick: Path, slow: Path) -> None:
    """Oracle: arithmetic, one product against thirty, in the order given."""
    texts = [{"input_ids": np.full((1, length), 1)} for length in (4, 16, 32)]
    first, second = latency_in_turns([slow, quick], texts)
    assert 0 < second < first
