"""Task metrics: against scikit-learn, SciPy, seqeval, brute force and cases worked out by hand."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from artifact.errors import BenchError
from pipeline.scores import answers, clusters, domain, labels, selection, spans
from pipeline.scores.tally import Tally, draw, mean_tally


def random_labels(seed, examples=400, count=2, agreement=0.7):
    random = np.random.default_rng(seed)
    truths = random.integers(count, size=examples)
    said = np.where(random.random(examples) < agreement, truths, random.integers(count, size=examples))
    return truths.tolist(), said.tolist()


LABEL_METRICS = {
    "accuracy": (labels.accuracy, metrics.accuracy_score, 5),
    "f1": (labels.f1, metrics.f1_score, 2),
    "macro_f1": (
        lambda t, p: labels.macro_f1(t, p, labels=5),
        lambda t, p: metrics.f1_score(t, p, average="macro", labels=range(5), zero_division=0),
        5,
    ),
    "matthews_correlation": (labels.matthews_correlation, metrics.matthews_corrcoef, 2),
}


@pytest.mark.parametrize("name", LABEL_METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_label_metrics_are_those_of_scikit_learn(name, seed):
    """Oracle: scikit-learn, on the whole split and on draws of it."""
    ours, theirs, count = LABEL_METRICS[name]
    truths, said = random_labels(seed, count=count)
    tally = ours(truths, said)
    assert tally.metric == name
    assert tally.value == pytest.approx(theirs(truths, said))
    picked = np.random.default_rng(seed).integers(len(truths), size=90)
    drawn = [np.asarray(each)[picked] for each in (truths, said)]
    assert tally.take(picked).value == pytest.approx(theirs(*drawn))


@pytest.mark.parametrize("shift", [0, 1e6])
def test_correlations_are_those_of_scipy(shift):
    """Oracle: SciPy, with ties, and far from zero where sums of squares lose their digits."""
    random = np.random.default_rng(1)
    truths = np.round(random.random(500) * 5) + shift
    said = truths + random.normal(size=500)
    assert labels.pearson(truths, said).value == pytest.approx(stats.pearsonr(truths, said).statistic)
    assert labels.spearman(truths, said).value == pytest.approx(stats.spearmanr(truths, said).statistic)


def test_metrics_that_are_not_defined_are_zero():
    """Oracle: the definitions. No positive anywhere, one label only, no spread."""
    assert labels.f1([0, 0], [0, 0]).value == 0
    assert labels.matthews_correlation([1, 1], [1, 0]).value == 0
    assert labels.pearson([1.0, 1.0], [2.0, 3.0]).value == 0
    assert spans.span_f1([["O"]], [["O"]]).value == 0


def test_a_draw_is_the_metric_of_repeated_examples():
    """Oracle: the same draws longhand, each example repeated as often as it was drawn."""
    truths, said = random_labels(5, examples=60)
    _, others = random_labels(6, examples=60)
    tallies = [labels.f1(truths, said), labels.matthews_correlation(truths, others)]
    drawn = draw(tallies, seed=3, resamples=20)
    counts = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=20)
    for row, count in enumerate(counts):
        picked = np.repeat(np.arange(60), count)
        assert drawn[:, row] == pytest.approx([tally.take(picked).value for tally in tallies])


def test_draws_do_not_depend_on_how_they_are_cut():
    """Oracle: identity. More examples than a chunk holds give what a chunk at a time gives."""
    tally = mean_tally("mean", np.arange(300_000) % 7)
    assert draw([tally], seed=1, resamples=40).shape == (1, 40)
    assert abs(draw([tally], seed=1, resamples=40).mean() - 3) < 0.01


def test_a_row_beside_itself_draws_alike():
    """Oracle: identity. Shared draws of equal answers are equal, so their ratio is exactly 1."""
    truths, said = random_labels(2)
    first, second = draw([labels.accuracy(truths, said), labels.accuracy(truths, said)], seed=1, resamples=50)
    assert (first == second).all()


def test_intervals_cover():
    """Oracle: the binomial's standard error, which a bootstrap of an accuracy has to reproduce."""
    truths, said = random_labels(7, examples=2000)
    tally = labels.accuracy(truths, said)
    spread = draw([tally], seed=1, resamples=4000)[0].std()
    assert spread == pytest.approx(math.sqrt(tally.value * (1 - tally.value) / 2000), rel=0.05)


@pytest.mark.parametrize("count", [0, 3])
def test_unequal_examples_are_refused(count):
    """Oracle: the words of the error."""
    one, two = mean_tally("a", np.ones(count)), mean_tally("b", np.ones(0 if count == 0 else 4))
    with pytest.raises(BenchError, match="cannot be compared"):
        draw([one, two], seed=1)


def test_no_examples_have_no_value():
    """Oracle: the words of the error."""
    with pytest.raises(BenchError, match="accuracy of no examples"):
        _ = labels.accuracy([], []).value


SENTENCES = [
    (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "O", "B-LOC"]),
    (["B-PER", "I-PER", "O", "O"], ["B-PER", "O", "O", "O"]),
    (["O", "B-ORG", "B-ORG"], ["O", "B-ORG", "I-ORG"]),
    (["O", "O"], ["I-LOC", "I-LOC"]),
    ([], []),
]


def test_span_f1_is_seqevals():
    """Oracle: seqeval's strict F1, and by hand: 3 of 5 true spans, 5 found (an `I-` begins none)."""
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    truths, said = (list(each) for each in zip(*SENTENCES, strict=True))
    theirs = f1_score(truths, said, mode="strict", scheme=IOB2)
    assert spans.span_f1(truths, said).value == pytest.approx(theirs)
    assert spans.span_f1(truths, said).value == pytest.approx(2 * 2 / (4 + 5))
    assert spans.span_f1(truths, said, label="LOC").value == 1


def test_tag_accuracy_counts_tokens():
    """Oracle: by hand."""
    truths, said = (list(each) for each in zip(*SENTENCES, strict=True))
    assert spans.tag_accuracy(truths, said).value == pytest.approx(9 / 13)


def test_sentences_must_fit():
    """Oracle: the words of the error."""
    with pytest.raises(BenchError, match="sentence 1 has 2 tokens and got 1 tags"):
        spans.span_f1([["O"], ["O", "O"]], [["O"], ["O"]])


@pytest.mark.parametrize(
    ("references", "answer", "exact", "overlap"),
    [
        (["the Cat"], "cat.", 1, 1),
        (["a black cat"], "cat", 0, 2 / 3),
        (["black cat", "white cat"], "white  CAT!", 1, 1),
        ([], "", 1, 1),
        ([], "cat", 0, 0),
        (["cat"], "", 0, 0),
        (["cat cat dog"], "cat bird", 0, 2 / 5),
        (["the"], "", 1, 1),
    ],
)
def test_answers_by_hand(references, answer, exact, overlap):
    """Oracle: SQuAD 2.0's rules, applied by hand."""
    assert answers.exact_match([references], [answer]).value == exact
    assert answers.word_f1([references], [answer]).value == pytest.approx(overlap)


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all(seed):
    """Oracle: brute force over every threshold between two margins, ties included."""
    random = np.random.default_rng(seed)
    margins = random.integers(-3, 4, size=30) / 2
    answered, unanswered = random.random(30), random.integers(0, 2, size=30)
    found = answers.choose_threshold(margins, answered, unanswered)
    tries = [-10.0, *(m + 0.1 for m in set(margins)), 10.0]

    def mean(threshold):
        return np.where(margins > threshold, answered, unanswered).mean()

    assert mean(found) == pytest.approx(max(mean(each) for each in tries))


def test_a_reader_that_is_always_wrong_never_answers():
    """Oracle: by hand."""
    assert answers.choose_threshold([1.0, 2.0], [0, 0], [1, 1]) == math.inf
    assert answers.choose_threshold([], [], []) == math.inf


SCORES = [[0.1, 0.9, 0.3], [0.5, 0.5, 0.5], [0.9, 0.1, 0.2], [0.2, 0.3, 0.4]]
ANSWERS = [1, 2, 1, selection.NONE]


def test_ranks_by_hand():
    """Oracle: by hand; equal scores share the mean of their ranks, NONE has no rank."""
    assert selection.ranks_of(SCORES, ANSWERS).tolist() == [1, 2, 3, math.inf]


def test_selection_metrics_by_hand():
    """Oracle: by hand, over the three queries that have a right candidate."""
    ranks = selection.ranks_of(SCORES, ANSWERS)
    assert selection.recall_at(ranks, 1).value == pytest.approx(1 / 3)
    assert selection.recall_at(ranks, 2).value == pytest.approx(2 / 3)
    mrr = (1 + 1 / 2 + 1 / 3) / 3
    assert selection.mean_reciprocal_rank(ranks).value == pytest.approx(mrr)
    assert selection.track_score(ranks).value == pytest.approx((mrr + 1) / 2)


def test_a_model_that_scores_all_alike_recalls_by_chance():
    """Oracle: 100 equal scores put the right one in the middle, not first."""
    ranks = selection.ranks_of([[0.0] * 100], [7])
    assert ranks.tolist() == [50.5]


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_for_none_has_the_best_f1(seed):
    """Oracle: scikit-learn's F1 at every threshold between two scores, ties included."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 10, size=40) / 10
    truth = np.where(random.random(40) < 0.3 + 0.4 * scores, selection.NONE, 0)
    found = selection.choose_none_threshold(scores, truth)
    tries = [-1.0, *(score + 0.05 for score in set(scores))]

    def theirs(threshold):
        return metrics.f1_score(truth == selection.NONE, scores > threshold, zero_division=0)

    assert selection.none_f1(scores, truth, threshold=found).value == pytest.approx(max(map(theirs, tries)))
    assert selection.none_f1(scores, truth, threshold=0.45).value == pytest.approx(theirs(0.45))


def test_labels_that_are_no_candidate_are_refused():
    """Oracle: the words of the error."""
    with pytest.raises(BenchError, match="query 0 has the label 3 and 3 scores"):
        selection.ranks_of([[0.1, 0.2, 0.3]], [3])
    with pytest.raises(BenchError, match="no numbers"):
        selection.ranks_of([[0.1, math.nan]], [0])


@pytest.mark.parametrize("step", [0, 5])
def test_domain_metrics_are_those_of_scikit_learn(step):
    """Oracle: scikit-learn; with ties too, where scores are rounded."""
    random = np.random.default_rng(2)
    near, far = random.normal(size=300), random.normal(1.5, size=200)
    if step:
        near, far = np.round(near * step) / step, np.round(far * step) / step
    truth, scores = np.repeat([0, 1], [300, 200]), np.concatenate([near, far])
    found = domain.domain_scores(near, far)
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert found["aupr_out"] == pytest.approx(metrics.average_precision_score(truth, scores))
    assert found["aupr_in"] == pytest.approx(metrics.average_precision_score(1 - truth, -scores))
    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert found["dtacc"] == pytest.approx(((1 - false + true) / 2).max())


def test_false_positives_by_brute_force():
    """Oracle: the tightest threshold that passes 95 of 100 in-domain texts."""
    near, far = np.arange(100.0), np.array([50.0, 94.0, 94.5, 95.0, 200.0])
    assert domain.domain_scores(near, far)["fpr95"] == pytest.approx(2 / 5)


def _areas(truths, scores):
    """Mann and Whitney's statistic of each draw, by SciPy's ranks: scikit-learn's area, at once for all draws."""
    far = truths.sum(axis=1)
    ranks = np.where(truths, stats.rankdata(scores, axis=1), 0).sum(axis=1)
    return (ranks - far * (far + 1) / 2) / (far * (truths.shape[1] - far))


@pytest.mark.parametrize("step", [0, 4])
def test_an_area_is_drawn_as_the_bootstrap_draws_it(step):
    """Oracles: scikit-learn's area of all texts and of 99 draws, SciPy's of each draw, also of a paired difference."""
    random = np.random.default_rng(3)
    truths = np.repeat([0, 1], [150, 100])
    first = random.normal(1.2 * truths)
    second = first + random.normal(scale=0.5, size=250)
    rows = [np.round(each * step) / step if step else each for each in (first, second)]
    tallies = [domain.area(truths, row) for row in rows]
    assert [tally.value for tally in tallies] == pytest.approx([metrics.roc_auc_score(truths, row) for row in rows])
    places = random.integers(0, 250, size=(1500, 250))
    exact = np.stack([_areas(truths[places], row[places]) for row in rows], axis=1)
    theirs = [[metrics.roc_auc_score(truths[draw], row[draw]) for row in rows] for draw in places[:99]]
    np.testing.assert_allclose(exact[:99], theirs, atol=1e-12)
    ours = draw(tallies, seed=1)
    for found, wanted in ((ours[0], exact[:, 0]), (ours[1] - ours[0], exact[:, 1] - exact[:, 0])):
        assert found.std() == pytest.approx(wanted.std(), rel=0.08)
        assert found.mean() == pytest.approx(wanted.mean(), abs=0.003)


def test_an_area_needs_both_sides():
    """Oracle: the words of the errors."""
    with pytest.raises(BenchError, match="out-of-domain scores"):
        domain.area([0, 0], [1.0, 2.0])
    with pytest.raises(BenchError, match="2 truths and 1 distances"):
        domain.area([0, 1], [1.0])


def test_domain_scores_must_be_numbers():
    """Oracle: the words of the error."""
    with pytest.raises(BenchError, match="out-of-domain scores"):
        domain.domain_scores([1.0], [])


def test_clusters_by_hand():
    """Oracle: by hand. Of the true {0,1}, {2,3}, {4} the first was found, {2} and {3,4} were not."""
    found = clusters.cluster_scores(["a", "a", "b", "b", "c"], [1, 1, 2, 3, 3])
    assert (found["precision"], found["recall"], found["f1"]) == (1 / 2, 1 / 2, 1 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_variation_of_information_longhand(seed):
    """Oracle: VI = H(X) + H(Y) - 2 I(X; Y), with scikit-learn's mutual information."""
    random = np.random.default_rng(seed)
    truths, found = random.integers(6, size=(2, 50)).tolist()
    entropies = [stats.entropy(np.bincount(each), base=2) for each in (truths, found)]
    variation = sum(entropies) - 2 * metrics.mutual_info_score(truths, found) / math.log(2)
    assert clusters.scaled_variation(truths, found) == pytest.approx(1 - variation / math.log2(50))


def test_equal_clusterings_are_perfect():
    """Oracle: identity, whatever the names."""
    found = clusters.cluster_scores([1, 1, 2, 2, 3], ["x", "x", "y", "y", "z"])
    assert all(value == pytest.approx(1) for value in found.values())


def test_scores_of_columns_broadcast():
    """Oracle: shape. Every metric takes `[..., columns]`, which the draws rely on."""
    tallies = [
        labels.accuracy([0, 1], [0, 1]), labels.f1([0, 1], [0, 1]), labels.macro_f1([0, 1], [0, 1], labels=2),
        labels.matthews_correlation([0, 1], [0, 1]), labels.pearson([0, 1], [0, 1]), spans.span_f1([["O"]], [["O"]]),
    ]  # fmt: skip
    for tally, shape in product(tallies, [(), (3,), (2, 3)]):
        assert isinstance(tally, Tally)
        assert tally.score(np.ones((*shape, tally.columns.shape[1]))).shape == shape
