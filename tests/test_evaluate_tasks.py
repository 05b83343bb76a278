"""Every task from data and bundles to scores, on tiny random models; scores beside the field's own libraries."""

import functools
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as span_f1_score
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score
from task_data import TAGS, make_bundle, make_data, make_examples, make_trained
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

from artifact.dataset import read_split
from pipeline.bench import contestants
from pipeline.bench_config import BenchRequest
from pipeline.bench_inputs import make_inputs
from pipeline.evaluate import EvaluateConfig, run_evaluation
from pipeline.results import Evaluation
from pipeline.tasks import TASKS
from serve.http.requests import PredictRequest
from serve.http.requests_passages import AnswerRequest, TagRequest
from serve.http.requests_rerank import RerankRequest
from serve.latency.client import Target
from serve.latency.worker import work

pytestmark = pytest.mark.slow

ROWS = ("teacher/pytorch", "teacher/float32", "student/float32")
KINDS = {
    "classification": "classification",
    "regression": "regression",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "cross-encoder": "response-selection",
    "bi-encoder": "response-selection",
}


def make_root(root, kind):
    head = "embedding" if kind == "bi-encoder" else KINDS[kind]
    make_data(root / "data", KINDS[kind])
    for name, shape in (("teacher", {}), ("student", {"num_hidden_layers": 1})):
        make_trained(root / "models" / name, head, name, **shape)
        make_bundle(root / "models" / name, root / "bundles" / name, name)
    return root


@pytest.fixture(scope="module")
def evaluate_kind(tmp_path_factory):
    """What the stage found of each kind of data and model, evaluated once."""

    @functools.cache
    def evaluate(kind):
        root = make_root(tmp_path_factory.mktemp(kind), kind)
        (root / "evaluation").mkdir()
        facts = run_evaluation(EvaluateConfig(rows=ROWS, reference="teacher/float32"), root, root / "evaluation")
        found = Evaluation.model_validate_json((root / "evaluation" / "evaluation.json").read_bytes())
        return root, found, facts

    return evaluate


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in ("token-classification", "question-answering") else pytest.param(kind, marks=pytest.mark.long)
        for kind in KINDS
    ],
)
def test_a_bundle_answers_as_pytorch_does(evaluate_kind, kind):
    """Oracle: PyTorch on the model that the bundle was made of."""
    _, found, facts = evaluate_kind(kind)
    ours, theirs = (found.rows[row] for row in ("teacher/float32", "teacher/pytorch"))
    if found.task in ("regression", "response-selection"):
        np.testing.assert_allclose(np.array(ours.predictions), np.array(theirs.predictions), atol=1e-4)
    else:
        assert ours.predictions == theirs.predictions
    assert theirs.ratio.value == pytest.approx(1, abs=1e-4)
    assert (ours.ratio.low, ours.ratio.high) == (1, 1)
    assert len(found.truths) == len(ours.predictions) == facts["examples"] == 40
    assert facts["quality"]["student/float32"] == found.rows["student/float32"].quality.model_dump()


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_is_scored_apart_from_its_teacher(evaluate_kind, kind):
    """Oracle: the intervals' own order, and that the two models are not one."""
    _, found, _ = evaluate_kind(kind)
    row = found.rows["student/float32"]
    assert row.predictions != found.rows["teacher/float32"].predictions
    for interval in (row.quality, *row.more.values(), *row.groups.values(), *filter(None, [row.ratio, row.agreement])):
        assert interval.low <= interval.value <= interval.high


def test_f1_of_pairs_is_scikit_learns(evaluate_kind):
    """Oracle: scikit-learn on the predictions, and transformers' own on both texts of a pair."""
    root, found, _ = evaluate_kind("classification")
    row = found.rows["student/float32"]
    assert row.quality.value == pytest.approx(f1_score(found.truths, row.predictions))
    assert row.more["accuracy"].value == pytest.approx(accuracy_score(found.truths, row.predictions))
    model = AutoModelForSequenceClassification.from_pretrained(root / "models/student").eval()
    tokenizer = AutoTokenizer.from_pretrained(root / "models/student")
    for example, label in zip(read_split(root / "data", "test"), row.predictions, strict=True):
        inputs = tokenizer(example.text, example.pair, truncation=True, max_length=24, return_tensors="pt")
        with torch.inference_mode():
            assert int(model(**inputs).logits.argmax()) == label


def test_quantities_correlate_as_scipy_says(evaluate_kind):
    """Oracle: scipy."""
    _, found, _ = evaluate_kind("regression")
    row = found.rows["student/float32"]
    assert row.quality.value == pytest.approx(spearmanr(found.truths, row.predictions).statistic)
    assert row.more["pearson"].value == pytest.approx(pearsonr(found.truths, row.predictions).statistic)
    assert row.agreement is None


def test_spans_are_scored_as_seqeval_does(evaluate_kind):
    """Oracle: seqeval in its strict mode, also on each group; transformers' tags of the words of a text that fits."""
    root, found, _ = evaluate_kind("token-classification")
    row, examples = found.rows["student/float32"], read_split(root / "data", "test")
    truths, said = ([[TAGS[tag] for tag in tags] for tags in each] for each in (found.truths, row.predictions))
    assert row.quality.value == pytest.approx(span_f1_score(truths, said, mode="strict", scheme=IOB2))
    flat = [tag for tags in truths for tag in tags], [tag for tags in said for tag in tags]
    assert row.more["tag_accuracy"].value == pytest.approx(accuracy_score(*flat))
    for group in ("en", "da"):
        places = [place for place, example in enumerate(examples) if example.group == group]
        mine = [[each[place] for place in places] for each in (truths, said)]
        assert row.groups[group].value == pytest.approx(span_f1_score(*mine, mode="strict", scheme=IOB2))
    model = AutoModelForTokenClassification.from_pretrained(root / "models/student").eval()
    tokenizer = AutoTokenizer.from_pretrained(root / "models/student")
    for example, tags in zip(examples, row.predictions, strict=True):
        assert len(tags) == len(example.words)
        if len(tags) <= 22:
            with torch.inference_mode():
                inputs = tokenizer(example.text, truncation=True, max_length=24, return_tensors="pt")
                best = model(**inputs).logits[0, 1:-1].argmax(-1)
            assert tuple(best.tolist()) == tags


def test_answers_are_scored_as_squads_script_does(evaluate_kind):
    """Oracle: transformers' copy of the script, best of the references; every answer is of the context, or none."""
    root, found, _ = evaluate_kind("question-answering")
    row = found.rows["student/float32"]
    for score, value in ((compute_f1, row.quality.value), (compute_exact, row.more["exact_match"].value)):
        each = [
            max(score(reference, said) for reference in truth or ("",))
            for truth, said in zip(found.truths, row.predictions, strict=True)
        ]
        assert value == pytest.approx(np.mean(each))
    assert all(
        said in example.pair
        for example, said in zip(read_split(root / "data", "test"), row.predictions, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["cross-encoder", "bi-encoder"])
def test_ranks_are_counted_by_hand(evaluate_kind, kind):
    """Oracle: ranks of the scores of transformers' own model, pair by pair, or cosines of its mean vectors."""
    root, found, facts = evaluate_kind(kind)
    row = found.rows["student/float32"]
    tokenizer = AutoTokenizer.from_pretrained(root / "models/student")
    crosses = kind == "cross-encoder"
    loader = AutoModelForSequenceClassification if crosses else AutoModel
    model = loader.from_pretrained(root / "models/student").eval()

    def ask(*texts):
        inputs = tokenizer(*texts, truncation=True, max_length=24, return_tensors="pt")
        with torch.inference_mode():
            answer = model(**inputs)
        if crosses:
            return float(torch.sigmoid(answer.logits[0, 0]))
        return torch.nn.functional.normalize(answer.last_hidden_state[0].mean(0), dim=0)

    ranks = []
    for example, (rank, best) in zip(read_split(root / "data", "test"), row.predictions, strict=True):
        if crosses:
            scores = np.array([ask(example.text, each) for each in example.candidates])
        else:
            scores = np.array([float(ask(example.text) @ ask(each)) for each in example.candidates])
        assert best == pytest.approx(scores.max(), abs=1e-4)
        if example.label == -1:
            assert rank == 0
            continue
        assert abs(rank - 1 - (scores > scores[example.label]).sum()) <= (np.abs(np.diff(np.sort(scores))) < 1e-4).sum()
        ranks.append(rank)
    ranks = np.array(ranks)
    assert row.more["mrr"].value == pytest.approx((1 / ranks).mean())
    for k in (1, 2, 5, 10):
        assert row.more[f"recall_{k}"].value == pytest.approx((ranks <= k).mean())
    assert row.quality.value == pytest.approx(((1 / ranks).mean() + (ranks <= 10).mean()) / 2)
    assert row.none_threshold.model_dump() == facts["none_thresholds"]["student/float32"]
    assert (row.none_threshold.split, row.none_threshold.queries) == ("validation", 20)
    said = [1 - best > row.none_threshold.value for _, best in row.predictions]
    truth = [label == -1 for label in found.truths]
    assert row.more["none_f1"].value == pytest.approx(f1_score(truth, said, zero_division=0))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_can_be_benchmarked(evaluate_kind, kind, tmp_path):
    """Oracle: what the bundle answers to the same calls at once; a query of candidates is one call."""
    root, _, _ = evaluate_kind(kind)
    request = BenchRequest(rows=ROWS, rounds=2, calls_per_round=3, batch_size=2, texts=5, threads=1, http=False)
    inputs = make_inputs(request, root)
    task = inputs.workload.task(0)
    (contestant,) = [each for each in contestants(request, root, inputs) if each.name == "student/float32"]
    engine = pickle.loads(pickle.dumps(contestant.factory))()  # noqa: S301 - our own, as the worker gets it
    turn = work(engine, task)
    assert (len(turn.single_ms), len(turn.multi_ms)) == (3, 0 if inputs.path == "/rerank" else 10)
    if inputs.path == "/rerank":
        query = task.singles[0]
        (scores,) = engine.run([query])
        example = next(each for each in read_split(root / "data", "test") if each.text == query[0])
        assert query == (example.text, *example.candidates)
        assert float(scores.max()) == pytest.approx(best_of(evaluate_kind(kind)[1], root, example), abs=1e-5)


def best_of(found, root, example):
    place = read_split(root / "data", "test").index(example)
    return found.rows["student/float32"].predictions[place][1]


@pytest.mark.parametrize(
    ("task", "parsed", "meant"),
    [
        ("classification", PredictRequest, lambda body: body.texts),
        ("regression", PredictRequest, lambda body: body.texts),
        ("token-classification", TagRequest, lambda body: body.texts),
        ("question-answering", AnswerRequest, lambda body: body.pairs),
        ("response-selection", RerankRequest, lambda body: [(body.query, *body.texts)]),
    ],
)
def test_the_service_reads_what_a_benchmark_posts(task, parsed, meant):
    """Oracle: the service's own parsing of the body, one call and several."""
    asked = [TASKS[task].benched(example) for example in make_examples(task, 3, 1)]
    target = Target(name="r", port=1, path=TASKS[task].path)
    head, _, body = target.request(asked[0]).partition(b"\r\n\r\n")
    assert head.startswith(f"POST {TASKS[task].path} HTTP/1.1".encode())
    assert meant(parsed.model_validate_json(body)) == asked[:1]
    if task != "response-selection":
        body = target.request_all(asked).partition(b"\r\n\r\n")[2]
        assert meant(parsed.model_validate_json(body)) == asked
