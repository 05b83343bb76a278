"""What a retriever and a reader do together, beside the service; and the page of it all."""

import numpy as np
import pytest

from artifact.dataset import Example
from benchmarks.noesis.page import COMMANDS, failures, system_of, write_page
from benchmarks.noesis.rerank import Pair
from benchmarks.systems.records import read_systems
from serve.engine import Outputs

CANDIDATES = tuple("abcdef")


class Reader:
    """Answers pairs with a logit of its own for each candidate."""

    labels = ("relevance",)

    def __init__(self, logits):
        self.logits = dict(zip(CANDIDATES, logits, strict=True))
        self.asked = []

    def run(self, pairs):
        self.asked += [second for _, second in pairs]
        logits = np.array([[self.logits[second]] for _, second in pairs], dtype=np.float32)
        return Outputs(logits=logits, embeddings=logits, tokens=len(pairs))


@pytest.mark.parametrize(
    ("label", "rank"),
    [(5, 1), (1, 2.5), (3, 2.5), (0, 4), (4, 5), (2, 6), (-1, 0)],
    ids=["best read", "a tie", "the other", "last read", "not read", "last", "none is right"],
)
def test_those_not_read_follow_in_the_retrievers_order(label, rank):
    """Oracle: ranks counted by hand; f, b, d and a are picked, of which the reader likes f most, b and d alike."""
    cosines = np.array([0.3, 0.9, 0.0, 0.5, 0.2, 0.4], np.float32)
    reader = Reader([-2.0, 0.5, 9.0, 0.5, 9.0, 2.0])
    found = Pair(None, reader, 4).read(Example(text="q", candidates=CANDIDATES, label=label), cosines)
    assert found == (rank, pytest.approx(1 / (1 + np.exp(-2.0))))
    assert reader.asked == ["b", "d", "f", "a"]


def interval(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def row(value):
    more = {name: interval(value / 2) for name in ("recall_1", "recall_2", "recall_5", "recall_10", "mrr", "none_f1")}
    return {"quality": interval(value), "more": more}


def part(name, candidate, values, verdict):
    gate = {"name": "kept", "metric": "quality", "verdict": verdict, "reason": "for a reason", "ratio": interval(0.97)}
    return {
        "recipe": name, "candidate": candidate, "verdict": verdict, "gates": [gate],
        "rows": {key: row(value) for key, value in values.items()}, "p50_ms": {candidate: interval(3.0)},
        "examples": {"train": 4000, "validation": 100}, "test": {"queries": 300, "none": 60},
        "train_seconds": {"model:teacher": 1800.0, "model:student": 900.0},
        "lineage": {"data": "d" * 64, "report": "e" * 64}, "machine": {"processor": "One", "usable_cores": 2},
    }  # fmt: skip


FOUND = {
    "bi": part("noesis-bi", "student/int8", {"teacher/float32": 0.6, "student/int8": 0.58, "tf-idf": 0.3}, "pass"),
    "cross": part(
        "noesis-cross", "student/int8",
        {"retriever/int8": 0.58, "teacher/float32": 0.5, "student/int8": 0.48, "tf-idf": 0.3}, "inconclusive",
    ),
    "pairs": [{
        "name": "retriever/int8 picks 10, student/int8 reads", "picks": "retriever/int8", "reads": "student/int8",
        "row": row(0.55), "new_ms": [200.0, 210.0], "kept_ms": [50.0, 60.0], "all_read_ms": [500.0, 510.0],
    }],
    "kept": [{
        "row": "student/int8", "queries": 50, "largest_difference": 0.00123, "other_first": 2, "same_bits_again": True,
    }],
    "machine": {"processor": "One", "usable_cores": 2}, "load": {"before": 0.1, "after": 9.0},
}  # fmt: skip


def test_the_page_says_what_was_found(tmp_path):
    """Oracle: the numbers above; what is worse than what it is made of is said, and that the machine was busy."""
    write_page(FOUND, tmp_path / "noesis.md")
    page = (tmp_path / "noesis.md").read_text(encoding="utf-8")
    for expected in (
        "| **student/int8** | 29.0 % [27.0, 31.0]", "has 58.0 % [56.0, 60.0] of MRR and R@10, 97.0 % of its teacher's",
        "Provisional", "load average 0.1 before and 9.0 after", "300 test queries (60", "| 205 ms | 55 ms | 505 ms |",
        "| 0.325 |", "| 64.9 % |", "1.50 hours",
        "| student/int8 | 50 | 0.0012 | 2 | the same bits |",
    ):  # fmt: skip
        assert expected in page, expected
    faults = failures(FOUND)
    assert [("kept" in fault, "retriever/int8 alone" in fault) for fault in faults] == [(True, False), (False, True)]
    assert all(f"* {fault}" in page for fault in faults)
    assert (tmp_path / "noesis.svg").stat().st_size > 1000
    system = read_systems(tmp_path / "systems")["noesis"]
    assert system == system_of(FOUND)
    assert system.commands == COMMANDS
    assert system.rows[0].model_dump() == {"name": "teacher/float32, bi", **interval(0.6)}
    assert system.manifests == {"bi/data": "d" * 64, "cross/data": "d" * 64}
    assert "R@1 21.2 %, R@2 29.0 %, R@5 42.1 %, R@10 56.5 %, MRR 0.325" in system.paper[0]
    drawn = (tmp_path / "noesis.svg").read_bytes()
    write_page(FOUND, tmp_path / "noesis.md")
    assert (tmp_path / "noesis.svg").read_bytes() == drawn
