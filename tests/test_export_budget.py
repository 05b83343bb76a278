"""The search for a precision map: on made-up damage that can be counted, then on a model that int8 breaks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from export_models import make_classifier
from outliers import labelled_texts, make_outlier_classifier

from artifact.errors import ExportError
from export.answers import ask_onnx
from export.budget import Found, Tried, find_precision_map, pareto
from export.fuse import fuse
from export.graph import export_graph
from export.quantize import quantizable_nodes, quantize_dynamic_int8
from export.sensitivity import Node, read_nodes, units_of
from export.session import open_session
from export.source import load_source


@dataclass
class Damage:
    """Graphs made of arithmetic: each node in int8 takes `harm` off quality, and each in float takes its time."""

    harm: Mapping[str, float]
    """By node; none harms where it is not named."""
    nodes: Sequence[Node]
    made: list[frozenset[str]] = field(default_factory=list)

    def make(self, kept: frozenset[str]) -> Path:
        assert len(kept) < len(self.nodes)
        self.made.append(kept)
        return Path(",".join(sorted(kept)))

    def error(self, path: Path) -> float:
        kept = set(str(path).split(","))
        return float(np.sqrt(sum(harm**2 for name, harm in self.harm.items() if name not in kept)))

    def quality(self, path: Path) -> float:
        kept = set(str(path).split(","))
        return 1 - sum(harm for name, harm in self.harm.items() if name not in kept)

    def latency_ms(self, paths: Sequence[Path]) -> list[float]:
        kept = [
            {node.name for node in self.nodes} if path == Path("float32") else str(path).split(",") for path in paths
        ]
        return [10.0 + sum(node.multiplications for node in self.nodes if node.name in names) for names in kept]

    def search(self, floor: float) -> Found:
        return find_precision_map(
            self.nodes, floor=floor, float32=Path("float32"),
            make=self.make, quality=self.quality, error=self.error, latency_ms=self.latency_ms,
        )  # fmt: skip


def make_nodes(costs: Mapping[str, int]) -> list[Node]:
    return [Node(name=name, layer=None, multiplications=cost) for name, cost in costs.items()]


EVEN = make_nodes(dict.fromkeys("abcdef", 5))


def test_a_model_that_int8_does_not_hurt_costs_one_graph() -> None:
    """Oracle: the definition; 0.996 is no less than the floor, and nothing more is asked."""
    damage = Damage({"a": 0.004}, EVEN)
    found = damage.search(0.995)
    assert (found.kept, damage.made) == (frozenset(), [frozenset()])
    assert found.facts()["kept_float"] == {}
    assert found.facts()["errors_alone"] == []


def test_one_culprit_is_found_and_named_with_its_numbers() -> None:
    """Oracle: by hand; all int8, six nodes alone, and the one that repairs it: eight graphs."""
    damage = Damage({"c": 0.2, "a": 0.002, "e": 0.001}, EVEN)
    found = damage.search(0.995)
    assert found.kept == {"c"}
    assert len(damage.made) == 1 + 6 + 1
    assert found.facts()["kept_float"] == {"c": "c: quality is 0.79700 with it in int8, 0.99700 with it in float"}
    assert found.best.latency_ratio == (10 + 5) / (10 + 30)


def test_what_was_taken_because_it_is_cheap_is_dropped_again() -> None:
    """Oracle: by hand; `a` promises most for its cost and goes to float first, but the floor holds without it."""
    damage = Damage({"a": 0.004, "b": 0.2}, make_nodes({"a": 1, "b": 10_000, "c": 10}))
    found = damage.search(0.99)
    assert [sorted(row.kept) for row in found.tried] == [[], ["a"], ["a", "b"], ["b"]]
    assert found.kept == {"b"}


def test_of_two_repairs_the_cheaper_one_is_taken() -> None:
    """Oracle: by hand; `a` or `b` alone in float holds the floor, `b` costs a tenth."""
    damage = Damage({"a": 0.02, "b": 0.02}, make_nodes({"a": 100, "b": 10, "c": 10}))
    assert damage.search(0.97).kept == {"b"}


@pytest.mark.parametrize("seed", range(20))
def test_nothing_found_can_be_dropped(seed: int) -> None:
    """Oracle: every map there is; ours holds, no map within it does, and the search keeps to the graphs it promises."""
    random = np.random.default_rng(seed)
    nodes = make_nodes({name: int(random.integers(1, 50)) for name in "abcdef"})
    damage = Damage({name: float(random.exponential(0.02)) for name in "abcdef"}, nodes)
    found = damage.search(0.96)
    assert damage.quality(Path(",".join(found.kept))) >= 0.96
    for count in range(len(found.kept)):
        for fewer in combinations(sorted(found.kept), count):
            assert damage.quality(Path(",".join(fewer))) < 0.96
    assert len(damage.made) <= 1 + 2 * 6 + 3 * 5


def test_what_cannot_hold_the_floor_says_how_near_it_came() -> None:
    """Oracle: the message, as a user reads it; two nodes of which each costs 3 %, and one must be int8."""
    damage = Damage({"a": 0.03, "b": 0.03}, make_nodes({"a": 1, "b": 1}))
    expected = (
        r"budget impossible: no int8 graph keeps 0\.995 of float32's quality; the best reached 0\.97000, with 1 of 2 "
        r"nodes in float\n  lower the floor to 0\.97, or leave int8 out of export\.precisions"
    )
    with pytest.raises(ExportError, match=expected):
        damage.search(0.995)


def test_a_graph_that_answers_nan_is_the_first_suspect() -> None:
    """Oracle: the definition; NaN compares with nothing, and must not be sorted as if it did."""
    damage = Damage({"e": 0.2}, EVEN)
    error = damage.error
    damage.error = lambda path: float("nan") if error(path) > 0 else 0.0  # type: ignore[method-assign]
    found = damage.search(0.99)
    assert [sorted(row.kept) for row in found.tried] == [[], ["e"]]


def test_many_nodes_are_tried_by_layers_then_one_by_one() -> None:
    """Oracle: by hand; 12 layers of 4 nodes and a head: 13 units, the broken layer, then each of its nodes once."""
    nodes = [Node(name=f"{layer}.{part}", layer=layer, multiplications=1) for layer in range(12) for part in "abcd"]
    damage = Damage({"7.b": 0.1}, [*nodes, Node(name="head", layer=None, multiplications=1)])
    found = damage.search(0.99)
    assert found.kept == {"7.b"}
    assert len(damage.made) == 1 + 13 + 1 + 4
    assert found.facts()["errors_alone"][0] == {"nodes": ["7.a", "7.b", "7.c", "7.d"], "error": 0.1}


def test_forty_nodes_are_still_tried_one_by_one() -> None:
    """Oracle: the stated bound."""
    nodes = [Node(name=str(place), layer=place // 10, multiplications=1) for place in range(41)]
    assert [len(unit) for unit in units_of(nodes[:40])] == [1] * 40
    assert [len(unit) for unit in units_of(nodes)] == [10, 10, 10, 10, 1]


def test_pareto_keeps_what_no_other_beats() -> None:
    """Oracle: by hand; `slow` is beaten by `good` and `worse` by `fast`, and of two equals the plainer stays."""

    def row(kept: str, latency_ratio: float, quality: float) -> Tried:
        return Tried(kept=frozenset(kept), quality=quality, error=0.0, latency_ratio=latency_ratio)

    fast, good, best = row("", 0.5, 0.9), row("a", 0.6, 0.95), row("abc", 1.0, 1.0)
    slow, worse, same = row("b", 0.7, 0.95), row("c", 0.5, 0.8), row("ab", 0.6, 0.95)
    assert pareto([best, same, slow, worse, good, fast]) == [fast, good, best]


def test_facts_are_plain_json_and_reach_from_int8_to_float32() -> None:
    """Oracle: a round trip, and by hand the Pareto list: each repair is slower and better than the one before."""
    facts = Damage({"a": 0.03, "b": 0.02, "c": 0.001}, EVEN).search(0.99).facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert [row["kept_float"] for row in facts["pareto"]] == [[], ["a"], ["a", "b"], list("abcdef")]
    assert facts["tried"][0]["quality"] == pytest.approx(0.949)
    assert list(facts["kept_float"]) == ["a", "b"]


def fused_graph(directory: Path, model: Path) -> Path:
    source = load_source(model)
    export_graph(source, directory / "raw.onnx", opset=17)
    fuse(directory / "raw.onnx", directory / "fused.onnx", source.architecture)
    return directory / "fused.onnx"


def test_nodes_bear_the_names_people_use_and_what_they_cost(tmp_path: Path) -> None:
    """Oracle: by hand, from the shape: 32 hidden, 64 intermediate, 2 layers."""
    fused = fused_graph(tmp_path, make_classifier(tmp_path / "model"))
    nodes = read_nodes(fused, quantizable_nodes(fused)[::-1])
    layer = [("query, key and value", 3 * 32 * 32), ("attention output", 32 * 32), ("FFN input", 32 * 64)]
    expected = [
        (f"layer {number} {role}", cost) for number in (0, 1) for role, cost in [*layer, ("FFN output", 64 * 32)]
    ]
    assert [(str(node), node.multiplications) for node in nodes] == [
        ("embeddings", 32), *expected, ("pooler", 32 * 32), ("head", 32 * 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layer", "said"),
    [
        ("/model/distilbert/transformer/layer.3/attention/out_lin/MatMul", 3, "layer 3 attention output"),
        ("/model/distilbert/transformer/layer.3/ffn/lin2/MatMul", 3, "layer 3 FFN output"),
        ("/model/mpnet/encoder/layer.0/attention/attn/q/MatMul", 0, "layer 0 query"),
        ("/model/model/layers.1/attn/Wqkv/MatMul", 1, "layer 1 query, key and value"),
        ("/model/deberta/encoder/layer.11/attention/self/value_proj/MatMul", 11, "layer 11 value"),
        ("/model/bert/pooler/dense/Gemm", None, "pooler"),
        ("/model/pre_classifier/Gemm", None, "head"),
        ("/strange/MatMul", None, "/strange/MatMul"),
    ],
)
def test_every_family_has_words_for_its_nodes(name: str, layer: int | None, said: str) -> None:
    """Oracle: recorded from the families' graphs."""
    assert str(Node(name=name, layer=layer, multiplications=1)) == said


@pytest.mark.parametrize("layers", [(1,), pytest.param((0, 2), marks=pytest.mark.long)])
def test_a_model_that_int8_breaks_is_repaired_and_its_outliers_named(tmp_path: Path, layers: tuple[int, ...]) -> None:
    """Oracle: the building of the model; its outliers are what the second product of these networks reads."""
    fused = fused_graph(tmp_path, make_outlier_classifier(tmp_path / "model", layers=layers))
    texts, labels = labelled_texts(300, seed=2)

    def logits(path: Path) -> np.ndarray:
        ask = ask_onnx(open_session(path))
        return np.concatenate([ask(text)["logits"] for text in texts])

    def make(kept: frozenset[str]) -> Path:
        quantize_dynamic_int8(fused, tmp_path / "int8.onnx", "avx2", keep_float=kept)
        return tmp_path / "int8.onnx"

    expected = logits(fused)
    right = float((expected.argmax(axis=1) == labels).mean())
    assert right > 0.8

    found = find_precision_map(
        read_nodes(fused, quantizable_nodes(fused)),
        floor=0.98,
        float32=fused,
        make=make,
        quality=lambda path: float((logits(path).argmax(axis=1) == labels).mean()) / right,
        error=lambda path: float(np.sqrt(np.mean((logits(path) - expected) ** 2))),
        latency_ms=lambda paths: [1.0] * len(paths),
    )
    assert found.kept == {f"/model/bert/encoder/layer.{layer}/output/dense/MatMul" for layer in layers}
    assert found.tried[0].quality < 0.8
    assert found.best.quality >= 0.98
    for layer, reason in zip(layers, found.facts()["kept_float"].values(), strict=True):
        assert reason.startswith(f"layer {layer} FFN output: quality is 0.")
