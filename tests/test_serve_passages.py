"""`/tag`, `/answer` and `/classify`: against the graph's equations, brute force, and transformers' own pipelines."""

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_models import make_model
from onnx import numpy_helper
from serve_bundles import MAX_TOKENS, TAGS, make_bundle, make_tokenizer
from serve_client import open_client
from transformers import AutoTokenizer, PreTrainedTokenizerFast, pipeline

from artifact.manifest import Request, seal
from export.bundle import FILES, write_bundle
from export.graph import export_graph
from export.source import load_source
from serve.batching.lane import Answer
from serve.config import ServiceConfig
from serve.engine import Outputs, softmax
from serve.http.app import create_app
from serve.http.routes_ours import describe_classes
from serve.limits import Limits
from serve.runtime import Runtime

CONFIG = ServiceConfig(limits=Limits(texts=4, characters=3000))
TASKS = {
    "student": "classification",
    "ranker": "ranking",
    "tagger": "token-classification",
    "reader": "question-answering",
}
TEXTS = [
    "wake me at seven",
    "",
    "caf\u0065\u0301 me \U0001f44d\U0001f3fd jazz",
    "\u0645\u0631\u062d\u0628\u0627 \u65e5\u672c up",
]
LONG = "wake m\u00e9 at seven, play some jazz. " * 12
QUESTION = "will it rain"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        name: make_bundle(folder / name, name=name, seed=seed, task=task)
        for seed, (name, task) in enumerate(TASKS.items())
    }


@pytest.fixture(scope="module")
def engines(bundles) -> dict[str, Runtime]:
    opened = [Runtime.open(bundle, threads=1) for bundle in bundles.values()]
    return {engine.name: engine for engine in opened}


@pytest.fixture(scope="module")
def client(engines):
    with open_client(create_app(engines, "student", CONFIG, threads=2)) as client:
        yield client


def compute_longhand(bundle: Path, engine: Runtime, text: object, *matrices: str) -> tuple[list[np.ndarray], list]:
    """What the graph says of every token of the whole text, for it knows of no token but that one; and the tokens."""
    graph = onnx.load(bundle / "onnx/model.onnx").graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    encoding = engine.whole.encode(*text) if isinstance(text, tuple) else engine.whole.encode(text)
    states = weights["table"][encoding.ids] + weights["types"][encoding.type_ids]
    return [states @ weights[matrix] for matrix in matrices], encoding


@pytest.mark.parametrize("text", [*TEXTS, LONG])
def test_every_token_is_tagged_once(client, bundles, engines, text):
    """Oracle: the graph's equations on the whole text at once, whatever windows it was read in."""
    (logits,), encoding = compute_longhand(bundles["tagger"], engines["tagger/float32"], text, "matrix")
    scores = softmax(logits[1:-1])
    answer = client.post("/tag", {"model": "tagger", "inputs": text, "aggregation": "tokens"})
    assert answer.headers["x-model"] == "tagger/float32"
    tokens = answer.json()
    assert [(token["start"], token["end"]) for token in tokens] == encoding.offsets[1:-1]
    assert [token["label"] for token in tokens] == [TAGS[column] for column in scores.argmax(axis=1)]
    np.testing.assert_allclose([token["score"] for token in tokens], scores.max(axis=1, initial=0), atol=1e-5)
    assert all(token["text"] == text[token["start"] : token["end"]] for token in tokens)


@pytest.mark.parametrize("text", [*TEXTS, LONG])
def test_spans_are_those_of_the_tokens(client, text):
    """Oracle: the labels of single tokens, of the first of each word, merged by hand."""
    tokens = client.post("/tag", {"model": "tagger", "inputs": text, "aggregation": "tokens"}).json()
    firsts = [token for token in tokens if is_first(text, token["start"])]
    expected: list[tuple[str, int]] = []
    before = "O"
    for token in firsts:
        label = token["label"]
        if label != "O" and not (label[0] == "I" and before[1:] == label[1:]):
            expected.append((label[2:], token["start"]))
        before = label
    spans = client.post("/tag", {"model": "tagger", "inputs": text}).json()
    assert [(span["label"], span["start"]) for span in spans] == expected
    for left, right in itertools.pairwise(spans):
        assert left["end"] <= right["start"]
    assert all(span["text"] == text[span["start"] : span["end"]] for span in spans)
    assert all(span["text"].strip() == span["text"] != "" for span in spans)


def is_first(text: str, start: int) -> bool:
    """Of this tokenizer: after a space, at a sign, or at an ideograph or what follows one."""
    return (
        start == 0
        or not text[start - 1].isalnum()
        or text[start] in "\u65e5\u672c,."
        or text[start - 1] in "\u65e5\u672c"
    )


def test_a_batch_of_tags(client):
    """Oracle: each text alone."""
    alone = [client.post("/tag", {"model": "tagger", "inputs": text}).json() for text in (*TEXTS[:3], LONG)]
    together = client.post("/tag", {"model": "tagger", "inputs": [*TEXTS[:3], LONG]}).json()
    for row, expected in zip(together, alone, strict=True):
        assert [{**span, "score": 0} for span in row] == [{**span, "score": 0} for span in expected]
        np.testing.assert_allclose([span["score"] for span in row], [span["score"] for span in expected], atol=1e-5)


def test_truncated_tags_are_the_first_of_all(client):
    """Oracle: the tokens of the whole text."""
    asked = {"model": "tagger", "inputs": LONG, "aggregation": "tokens"}
    everything = client.post("/tag", asked).json()
    assert client.post("/tag", asked | {"truncate": True}).json() == everything[: MAX_TOKENS - 2]


@pytest.mark.parametrize("text", ["rain tomorrow", LONG, "caf\u0065\u0301 seven", " "])
@pytest.mark.parametrize("most", [1, 4])
def test_answers_by_brute_force(client, bundles, engines, text, most):
    """Oracle: every span of the whole context, for a token's logits are the same in every window."""
    matrices = ("begins", "finishes")
    (starts, ends), encoding = compute_longhand(
        bundles["reader"], engines["reader/float32"], (QUESTION, text), *matrices
    )
    places = [place for place, number in enumerate(encoding.sequence_ids) if number == 1]
    sums = {(-1, -1): float(starts[0, 0] + ends[0, 0])}
    for first, last in itertools.product(places, places):
        if first <= last < first + most:
            sums[first, last] = float(starts[first, 0] + ends[last, 0])
    total = sum(np.exp(value) for value in sums.values())
    best = max(sums, key=lambda place: sums[place])
    asked = {"model": "reader", "inputs": {"question": QUESTION, "context": text}, "max_answer_tokens": most}
    answer = client.post("/answer", asked).json()
    assert answer["answer"] == text[answer["start"] : answer["end"]]
    assert answer["score"] == pytest.approx(np.exp(sums[best]) / total, rel=1e-4)
    assert answer["no_answer_score"] == pytest.approx(np.exp(sums[-1, -1]) / total, rel=1e-4)
    start = 0 if best[0] < 0 else encoding.offsets[best[0]][0]
    assert answer["start"] == start
    several = client.post("/answer", asked | {"top_k": 5}).json()
    assert several[0] == answer
    assert [each["score"] for each in several] == sorted((each["score"] for each in several), reverse=True)
    assert len({(each["start"], each["end"]) for each in several}) == len(several) == min(5, len(sums))


def test_a_batch_of_answers(client):
    """Oracle: each context alone."""
    inputs = [{"question": QUESTION, "context": context} for context in ("rain tomorrow", "", LONG)]
    for more in ({}, {"top_k": 3}):
        alone = [client.post("/answer", {"model": "reader", "inputs": each} | more).json() for each in inputs]
        together = client.post("/answer", {"model": "reader", "inputs": inputs} | more).json()
        assert [shape_of(each) for each in together] == [shape_of(each) for each in alone]
    one = client.post("/answer", {"model": "reader", "inputs": inputs[:1]}).json()
    assert len(one) == 1


def shape_of(answer: object) -> object:
    if isinstance(answer, list):
        return [shape_of(each) for each in answer]
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in answer.items()}


def test_an_empty_context_has_no_answer(client):
    """Oracle: by hand; there is nothing else it could be."""
    asked = {"model": "reader", "inputs": {"question": QUESTION, "context": ""}}
    answer = {"answer": "", "score": 1.0, "start": 0, "end": 0, "no_answer_score": 1.0}
    assert client.post("/answer", asked).json() == answer
    assert client.post("/answer", asked | {"top_k": 9}).json() == [answer]


def test_classify(client):
    """Oracle: `/predict`, told with more words."""
    ranked = client.post("/predict", {"inputs": "wake me"}).json()
    answer = client.post("/classify", {"inputs": "wake me"}).json()
    assert answer == {
        "model": "student/float32",
        "label": ranked[0]["label"],
        "score": ranked[0]["score"],
        "scores": ranked,
        "answered_by": "student/float32",
        "confidence": ranked[0]["score"],
        "out_of_domain": None,
        "escalated": False,
    }
    assert client.post("/classify", {"inputs": "wake me", "top_k": 2}).json()["scores"] == ranked[:2]
    raw = client.post("/classify", {"inputs": "wake me", "raw_scores": True}).json()
    assert raw["scores"] == client.post("/predict", {"inputs": "wake me", "raw_scores": True}).json()
    assert raw["confidence"] == answer["confidence"]


@pytest.mark.parametrize(
    ("inputs", "many"),
    [("rain", False), (["rain"], False), (["rain", "jazz"], False), ([["rain"]], True), (["a", "b", "c"], True)],
)
def test_classify_takes_what_predict_takes(client, inputs, many):
    """Oracle: `/predict`, which says what is one text or pair and what a batch."""
    predicted = client.post("/predict", {"inputs": inputs}).json()
    answer = client.post("/classify", {"inputs": inputs}).json()
    assert isinstance(answer, list) == many
    assert [each["scores"] for each in (answer if many else [answer])] == (predicted if many else [predicted])


@pytest.mark.parametrize(
    ("problem", "expected", "confidence"),
    [
        ("single-label", {"a": 0.25, "b": 0.75}, 0.75),
        ("multi-label", {"a": 0.5, "b": 0.75}, 0.75),
        ("regression", {"a": 0.0, "b": np.log(3)}, None),
    ],
)
def test_what_classes_mean(engines, problem, expected, confidence):
    """Oracle: by hand, the logits 0 and ln 3; how far a text is from the known is told where the graph says it."""
    logits = np.array([[0, np.log(3)]], dtype=np.float32)
    distances = np.array([2.5], dtype=np.float32)
    nothing = np.zeros((1, 0), dtype=np.float32)
    outputs = Outputs(logits=logits, embeddings=nothing, tokens=np.array([3]), domain=distances)
    answer = Answer(outputs=outputs, tokenization=0, queue=0, inference=0)

    class Engine:
        name = "m/float32"

    Engine.problem = problem
    (told,) = describe_classes(["a", "b"], answer, Engine(), raw=False, top_k=None)
    assert {each["label"]: each["score"] for each in told["scores"]} == pytest.approx(expected)
    assert told["confidence"] == (None if confidence is None else pytest.approx(confidence))
    assert told["out_of_domain"] == {"score": 2.5, "flag": None}
    json.dumps(told)


PAIR = {"question": QUESTION, "context": "rain"}
REFUSED = [
    ("/tag", {"inputs": "a"}, 422, "student/float32 labels no tokens"),
    ("/tag", {"inputs": "a", "model": "reader"}, 422, "reader/float32 labels no tokens"),
    ("/tag", {"inputs": [], "model": "tagger"}, 422, "`inputs` is empty"),
    ("/tag", {"inputs": [["a"]], "model": "tagger"}, 422, "One text, or a list of texts"),
    ("/tag", {"inputs": "a", "aggregation": "words", "model": "tagger"}, 422, "`aggregation`"),
    ("/tag", {"inputs": LONG, "truncate": False, "model": "tagger"}, 413, "longer than 16 tokens"),
    ("/tag", {"inputs": "a" * 3001, "model": "tagger"}, 413, "at most 3000"),
    ("/tag", {"inputs": ["a"] * 5, "model": "tagger"}, 413, "at most 4"),
    ("/answer", {"inputs": PAIR}, 422, "student/float32 finds no answers"),
    ("/answer", {"inputs": [], "model": "reader"}, 422, "`inputs` is empty"),
    ("/answer", {"inputs": "rain", "model": "reader"}, 422, "`question` and `context`"),
    ("/answer", {"inputs": {"question": "rain"}, "model": "reader"}, 422, "`question` and `context`"),
    ("/answer", {"inputs": PAIR, "top_k": 0, "model": "reader"}, 422, "`top_k`"),
    ("/answer", {"inputs": PAIR, "max_answer_tokens": 101, "model": "reader"}, 422, "`max_answer_tokens`"),
    ("/answer", {"inputs": {"question": "rain " * 12, "context": LONG}, "model": "reader"}, 413, "to its context"),
    ("/answer", {"inputs": {"question": "a" * 2999, "context": "ab"}, "model": "reader"}, 413, "at most 3000"),
    ("/classify", {"inputs": "a", "model": "tagger"}, 422, "no labels to predict"),
    ("/classify", {"inputs": "a", "model": "reader"}, 422, "no labels to predict"),
    ("/classify", {"inputs": "a", "top_k": 0}, 422, "`top_k`"),
    ("/predict", {"inputs": "a", "model": "tagger"}, 422, "no labels to predict"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), REFUSED)
def test_refusals(client, path, body, status, words):
    """Oracle: the documented status, and words that hold nothing of the texts."""
    answer = client.post(path, body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"}
    assert words in answer.json()["error"]


def test_broken_unicode_is_sent_back_as_it_came(client):
    """Oracle: the text itself; the one word of the context is the only answer there could be."""
    text = "a\ud800a"
    inputs = {"question": QUESTION, "context": text}
    answers = client.post("/answer", {"model": "reader", "inputs": inputs, "top_k": 4}).json()
    assert sorted(answer["answer"] for answer in answers) == ["", "a", "a", text]
    tokens = client.post("/tag", {"model": "tagger", "inputs": f"{text} me", "aggregation": "tokens"}).json()
    assert [(token["start"], token["end"]) for token in tokens] == [(0, 1), (2, 3), (4, 6)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, tuple[Path, Runtime]]:
    """Random transformers, as saved and as bundles."""
    folder = tmp_path_factory.mktemp("exported")
    made = {}
    for task in ("token-classification", "question-answering"):
        tokenizer = make_tokenizer()
        model = make_model(folder / task, task, labels=len(TAGS), vocab_size=tokenizer.get_vocab_size())
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=24, **names).save_pretrained(model)
        config = json.loads((model / "config.json").read_text())
        if task == "token-classification":
            config |= {"id2label": dict(enumerate(TAGS)), "label2id": {tag: place for place, tag in enumerate(TAGS)}}
        (model / "config.json").write_text(json.dumps(config))
        source, out = load_source(model), folder / f"{task}-bundle"
        (out / "onnx").mkdir(parents=True)
        export_graph(source, out / FILES["float32"], opset=17)
        write_bundle(out, source, name="student", precisions=("float32",))
        seal(out, kind="bundle", request=Request(stage="export", version=1, config={}, inputs={}), lineage={}, facts={})
        made[task] = (model, Runtime.open(out, threads=1))
    return made


SAMPLES = [
    "wake me at seven tomorrow", "play some jazzy music", "will it rain, tomorrow?", "up up warm up",
    "Caf\u00e9 at seven", "some (jazz) will wake me",
]  # fmt: skip


def test_spans_are_those_of_transformers(exported):
    """Oracle: transformers' pipeline, which labels a word by its first token too, on the model's own weights."""
    model, engine = exported["token-classification"]
    theirs = pipeline("token-classification", str(model), aggregation_strategy="first", device="cpu")
    with open_client(create_app({engine.name: engine}, engine.name, CONFIG)) as client:
        found = [client.post("/tag", {"inputs": text}).json() for text in SAMPLES]
    for spans, text in zip(found, SAMPLES, strict=True):
        expected = theirs(text)
        assert [(span["label"], span["start"], span["end"]) for span in spans] == [
            (group["entity_group"], group["start"], group["end"]) for group in expected
        ]
        np.testing.assert_allclose([span["score"] for span in spans], [group["score"] for group in expected], atol=1e-4)
    assert sum(len(spans) for spans in found) > len(SAMPLES)
    assert any(" " in span["text"] for spans in found for span in spans)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, with NumPy 2
def test_answers_are_those_of_transformers(exported):
    """Oracle: transformers' pipeline where one window holds all; its scores are shares of more, in equal proportion."""
    model, engine = exported["question-answering"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    theirs = pipeline("question-answering", str(model), tokenizer=tokenizer, device="cpu")
    options = {"top_k": 4, "max_answer_len": 3, "handle_impossible_answer": True, "align_to_words": False}
    with open_client(create_app({engine.name: engine}, engine.name, CONFIG)) as client:
        for context in SAMPLES:
            asked = {"inputs": {"question": QUESTION, "context": context}, "top_k": 4, "max_answer_tokens": 3}
            found = client.post("/answer", asked).json()
            expected = theirs(question=QUESTION, context=context, **options)
            assert [(each["start"], each["end"]) for each in found] == [
                (each["start"], each["end"]) for each in expected
            ]
            ratios = [ours["score"] / other["score"] for ours, other in zip(found, expected, strict=True)]
            np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)
