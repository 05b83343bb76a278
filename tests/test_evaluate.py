from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from artifact.dataset import DatasetInfo, Example
from artifact.errors import BenchError, DataError
from pipeline.answers import Answers, Questions, answer_rows
from pipeline.asking.asked import CHUNK
from pipeline.disagreement import count_discordance, find_changes
from pipeline.evaluate import EvaluateConfig, evaluate, evaluate_stage
from pipeline.metrics import quality_ratio
from pipeline.recipe import Recipe
from serve.engine import Outputs

LABELS = ("a", "b", "c")
INFO = DatasetInfo(labels=LABELS, examples={})


def ask(texts, outside=()):
    test, strange = ([Example(text=text, label=0) for text in each] for each in (texts, outside))
    return Questions(info=INFO, test=test, outside=strange)


class Reader:
    """A row that reads its answer off the text: `2 ...` is class 2; `offset` makes it wrong on purpose.

    `measures`: it also says how far a text is from what it knows, which is the number that ends the text.
    """

    name = "reader/float32"
    threads = 1
    size_bytes = 0

    def __init__(self, labels=LABELS, *, offset=0, nan_at=None, sureness=1.0, measures=False):
        self.labels = labels
        self.offset = offset
        self.nan_at = nan_at
        self.sureness = sureness
        self.measures = measures
        self.batches = []

    def run(self, texts):
        self.batches.append(len(texts))
        answers = [(int(text.split()[0]) + self.offset) % len(self.labels) for text in texts]
        logits = np.eye(len(self.labels), dtype=np.float32)[answers]
        logits *= [[float(text.split()[-1])] if text[-1].isdigit() else [self.sureness] for text in texts]
        if self.nan_at in texts:
            logits[texts.index(self.nan_at)] = np.nan
        far = np.array([[float(text.split()[-1])] for text in texts], np.float32) if self.measures else None
        empty = np.zeros((len(texts), 0), np.float32)
        return Outputs(logits=logits, embeddings=empty, tokens=np.ones(len(texts), int), domain=far)


def test_rows_answer_in_the_order_of_the_test_file():
    """Oracle: the answer each text spells out; more texts than one chunk holds."""
    truths = np.random.default_rng(1).integers(3, size=CHUNK + 30)
    reader = Reader()
    answers, absent = answer_rows({"r": lambda: reader}, ask([f"{truth} words" for truth in truths]))
    assert answers["r"].predictions == truths.tolist()
    assert reader.batches == [CHUNK, 30]
    assert answers["r"].seconds >= 0
    assert absent == {}


def test_only_one_engine_is_open_at_a_time():
    """Oracle: the order of events; the second is opened when the first has answered."""
    events = []

    def opener(name):
        def open_engine():
            events.append(name)
            return Reader()

        return open_engine

    answer_rows({"one": opener("one"), "two": opener("two")}, ask(["0 x"]))
    assert events == ["one", "two"]


def test_an_engine_with_other_labels_is_an_error():
    """Oracle: the message, for labels in another order than the data's."""
    with pytest.raises(DataError, match="r answers with other labels"):
        answer_rows({"r": lambda: Reader(("b", "a", "c"))}, ask(["0 x"]))


def test_an_encoder_says_nothing_of_labels():
    """Oracle: the message, which says what to do; it would have no column to be read."""
    with pytest.raises(DataError, match="r embeds texts and says nothing of the task classification"):
        answer_rows({"r": lambda: Reader(())}, ask(["0 x"]))


def test_an_answer_that_is_not_finite_is_an_error():
    """`argmax` of NaN is 0: without the check a broken graph would score as if it always said the first label."""
    with pytest.raises(BenchError, match="r gives logits that are not finite"):
        answer_rows({"r": lambda: Reader(nan_at="1 bad")}, ask(["0 x", "1 bad"]))


def test_an_optional_row_that_does_not_open_is_left_out():
    """Oracle: the reason, beside the others' answers; a row that has to be there is an error."""

    def fail():
        raise BenchError("there is no compiler here", "install one")

    answers, absent = answer_rows({"t/pytorch-compiled": fail, "r": Reader}, ask(["0 x"], ["1 y"]))
    assert (list(answers), absent) == (["r"], {"t/pytorch-compiled": "there is no compiler here"})
    with pytest.raises(BenchError, match="no compiler"):
        answer_rows({"t/pytorch": fail}, ask(["0 x"]))


@pytest.mark.parametrize("measures", [False, True])
def test_rows_are_scored_on_telling_what_is_out_of_domain(measures):
    """Oracle: scikit-learn's area, by the distance where the graph gives one, else by the largest probability.

    The number that ends a text is its distance, or how sure the row is.
    """
    random = np.random.default_rng(1)
    inside, outside = random.gamma(4, size=50).round(2) + 0.01, random.gamma(2, size=30).round(2) + 0.01
    texts = [f"0 in {number}" for number in inside]
    answers, _ = answer_rows({"r": lambda: Reader(measures=measures)}, ask(texts, [f"0 out {n}" for n in outside]))
    found = evaluate(answers, [Example(text="", label=0)] * 50, INFO, reference="r", seed=1).rows["r"]
    # The score is a probability, in which sureness only grows, or the distance itself.
    scores = np.concatenate([inside, outside]) * (1 if measures else -1)
    area = roc_auc_score([0] * 50 + [1] * 30, scores)
    assert found.out_of_domain_auroc.value == pytest.approx(area, abs=1e-9)
    assert found.out_of_domain_auroc.low < area < found.out_of_domain_auroc.high
    assert found.out_of_domain_score == ("distance" if measures else "probability")


def make_answers(predictions):
    return Answers(predictions=predictions, seconds=0)


def make_evaluation(truths, **predictions):
    test = [Example(text=str(number), label=truth) for number, truth in enumerate(truths)]
    answers = {name: make_answers(each) for name, each in predictions.items()}
    return evaluate(answers, test, INFO, reference="reference", seed=1)


def test_scores_are_shares_of_the_examples():
    """Oracle: counted by hand."""
    found = make_evaluation([0, 1, 2, 0], reference=[0, 1, 2, 1], candidate=[0, 1, 0, 1])
    candidate, reference = found.rows["candidate"], found.rows["reference"]
    assert (reference.quality.value, candidate.quality.value) == (0.75, 0.5)
    assert candidate.ratio.value == 0.5 / 0.75
    assert candidate.agreement.value == 0.75
    assert (reference.ratio.low, reference.ratio.high, reference.agreement.value) == (1, 1, 1)
    assert candidate.predictions == (0, 1, 0, 1)
    assert candidate.out_of_domain_auroc is candidate.out_of_domain_score is None


def test_labels_are_compared_by_mcnemars_test():
    """Oracle: scipy's binomial test on the examples of which just one row is right; a row beside itself gives 1."""
    found = make_evaluation([0] * 40, reference=[0] * 31 + [1] * 9, candidate=[1] * 12 + [0] * 22 + [1] * 6)
    assert found.rows["candidate"].mcnemar_p == pytest.approx(binomtest(3, 15).pvalue)
    assert found.rows["reference"].mcnemar_p == 1


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
        "floor:bag-of-words": "out/demo/floors/bag-of-words",
    }
    assert stage.config == EvaluateConfig(
        rows=("teacher/pytorch", "teacher/float32", "teacher/int8", "student/float32", "student/int8", "bag-of-words"),
        reference="teacher/float32",
    )
