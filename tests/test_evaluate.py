from pathlib import Path

import numpy as np
import pytest

from artifact.dataset import Example
from artifact.errors import BenchError, DataError
from pipeline.evaluate import CHUNK, EvaluateConfig, answer_rows, evaluate, evaluate_stage
from pipeline.metrics import count_discordance, find_changes, quality_ratio
from pipeline.recipe import Recipe
from serve.engine import Outputs

LABELS = ("a", "b", "c")


class Reader:
    """An engine that reads its answer off the text: `2 ...` is class 2; `offset` makes it wrong on purpose."""

    name = "reader/float32"
    embedding_size = 0
    problem = "single-label"
    max_tokens = 8

    def __init__(self, labels=LABELS, *, offset=0, nan_at=None):
        self.labels = labels
        self.offset = offset
        self.nan_at = nan_at
        self.batches = []

    def run(self, texts):
        self.batches.append(len(texts))
        answers = [(int(text.split()[0]) + self.offset) % len(self.labels) for text in texts]
        logits = np.eye(len(self.labels), dtype=np.float32)[answers]
        if self.nan_at in texts:
            logits[texts.index(self.nan_at)] = np.nan
        return Outputs(logits=logits, embeddings=np.zeros((len(texts), 0), np.float32), tokens=np.ones(len(texts), int))


def test_rows_answer_in_the_order_of_the_test_file():
    """Oracle: the answer each text spells out; more texts than one chunk holds."""
    truths = np.random.default_rng(1).integers(3, size=CHUNK + 30)
    reader = Reader()
    predictions, seconds = answer_rows({"r": lambda: reader}, LABELS, [f"{truth} words" for truth in truths])
    assert predictions == {"r": truths.tolist()}
    assert reader.batches == [CHUNK, 30]
    assert seconds["r"] >= 0


def test_only_one_engine_is_open_at_a_time():
    """Oracle: the order of events; the second is opened when the first has answered."""
    events = []

    def opener(name):
        def open_engine():
            events.append(name)
            return Reader()

        return open_engine

    answer_rows({"one": opener("one"), "two": opener("two")}, LABELS, ["0 x"])
    assert events == ["one", "two"]


def test_an_engine_with_other_labels_is_an_error():
    """Oracle: the message, for labels in another order than the data's."""
    with pytest.raises(DataError, match="r answers with other labels"):
        answer_rows({"r": lambda: Reader(("b", "a", "c"))}, LABELS, ["0 x"])


def test_an_answer_that_is_not_finite_is_an_error():
    """`argmax` of NaN is 0: without the check a broken graph would score as if it always said the first label."""
    with pytest.raises(BenchError, match="r gives logits that are not finite"):
        answer_rows({"r": lambda: Reader(nan_at="1 bad")}, LABELS, ["0 x", "1 bad"])


def make_evaluation(truths, **predictions):
    test = [Example(text=str(number), label=truth) for number, truth in enumerate(truths)]
    return evaluate(predictions, test, LABELS, reference="reference", seed=1)


def test_scores_are_shares_of_the_examples():
    """Oracle: counted by hand."""
    found = make_evaluation([0, 1, 2, 0], reference=[0, 1, 2, 1], candidate=[0, 1, 0, 1])
    candidate, reference = found.rows["candidate"], found.rows["reference"]
    assert (reference.accuracy.value, candidate.accuracy.value) == (0.75, 0.5)
    assert candidate.ratio.value == 0.5 / 0.75
    assert candidate.agreement.value == 0.75
    assert (reference.ratio.low, reference.ratio.high, reference.agreement.value) == (1, 1, 1)
    assert candidate.predictions == (0, 1, 0, 1)


def test_quality_ratio_of_the_reference_is_what_the_row_says():
    """Oracle: the row's own ratio, from the same seed."""
    found = make_evaluation([0, 1, 2, 0] * 9, reference=[0, 1, 2, 1] * 9, candidate=[0, 1, 0, 0] * 9)
    assert quality_ratio(found, "candidate", "reference", seed=1) == found.rows["candidate"].ratio


def test_disagreements_are_counted_and_grouped():
    """Oracle: counted by hand; the most frequent change first."""
    found = make_evaluation([0, 1, 1, 2, 2], reference=[0, 1, 1, 0, 2], candidate=[0, 2, 2, 2, 2])
    table = count_discordance(found, "candidate", "reference")
    counts = (table.both_right, table.only_candidate_right, table.only_reference_right, table.both_wrong)
    assert counts == (2, 1, 2, 0)
    changes = find_changes(found, "candidate", "reference")
    assert [(c.truth, c.reference, c.candidate, c.examples) for c in changes] == [(1, 1, 2, (1, 2)), (2, 0, 2, (3,))]


RECIPE = {
    "name": "demo",
    "data": {"source": {"kind": "generator", "grammar": "grammar.yaml"}},
    "models": {
        "teacher": {"start": {"kind": "checkpoint", "source": "package:x/y"}},
        "student": {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher"},
    },
    "candidate": "student/int8",
}


def test_the_stage_reads_data_bundles_and_the_first_model():
    """Oracle: the contract of the output folder."""
    stage, _ = evaluate_stage(Recipe.model_validate(RECIPE), Path("out/demo"))
    assert (stage.name, stage.kind, stage.out) == ("evaluate", "evaluation", Path("out/demo/evaluation"))
    assert {name: str(path) for name, path in stage.inputs.items()} == {
        "data": "out/demo/data",
        "bundle:teacher": "out/demo/bundles/teacher",
        "bundle:student": "out/demo/bundles/student",
        "model:teacher": "out/demo/models/teacher",
    }
    assert stage.config == EvaluateConfig(
        rows=("teacher/pytorch", "teacher/float32", "teacher/int8", "student/float32", "student/int8"),
        reference="teacher/float32",
    )
