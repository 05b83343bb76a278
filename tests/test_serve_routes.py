"""The routes that existing clients expect: text-embeddings-inference's beside `/predict` and `/embed`, and OpenAI's."""

import base64
import json
import re
import tomllib
from pathlib import Path

import httpx
import numpy as np
import pytest
from openapi_spec_validator import validate
from serve_bundles import HIDDEN, LABELS, MAX_TOKENS, TAGS, make_bundle
from serve_client import open_client

from serve import VERSION
from serve.config import ServiceConfig
from serve.engine import normalize
from serve.http.app import create_app
from serve.http.ranking import rank_labels
from serve.http.routes_rerank import rank_texts
from serve.limits import Limits
from serve.runtime import Runtime

CONFIG = ServiceConfig(limits=Limits(body_bytes=20_000, texts=4, characters=100, queue_tokens=1000))
TEXTS = ["rain tomorrow", "wake me", "play some jazz"]
QUERY = "will it rain"


@pytest.fixture(scope="module")
def engines(tmp_path_factory) -> dict[str, Runtime]:
    folder: Path = tmp_path_factory.mktemp("bundles")
    tasks = {
        "embedder": "embedding",
        "ranker": "ranking",
        "student": "classification",
        "tagger": "token-classification",
        "reader": "question-answering",
    }
    bundles = [make_bundle(folder / name, name=name, seed=seed, task=tasks[name]) for seed, name in enumerate(tasks)]
    opened = [Runtime.open(bundle, threads=1) for bundle in bundles]
    return {engine.name: engine for engine in opened}


@pytest.fixture(scope="module")
def client(engines):
    with open_client(create_app(engines, "embedder", CONFIG)) as client:
        yield client


def cosines(engines) -> np.ndarray:
    vectors = engines["embedder/float32"].run([QUERY, *TEXTS]).embeddings.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors[1:] @ vectors[0] / lengths[1:] / lengths[0]


@pytest.mark.parametrize("raw", [False, True])
def test_rerank_reads_pairs(client, engines, raw):
    """Oracle: the runtime on each pair alone; a chance by the logistic function, unless raw."""
    asked = {"model": "ranker", "query": QUERY, "texts": TEXTS, "raw_scores": raw}
    answer = client.post("/rerank", asked)
    logits = np.array([engines["ranker/float32"].run([(QUERY, text)]).logits[0, 0] for text in TEXTS])
    expected = logits if raw else 1 / (1 + np.exp(-logits))
    assert answer.headers["x-model"] == "ranker/float32"
    assert [item["index"] for item in answer.json()] == np.argsort(-expected).tolist()
    np.testing.assert_allclose([item["score"] for item in answer.json()], np.sort(expected)[::-1], atol=1e-5)
    assert all(set(item) == {"index", "score"} for item in answer.json())
    told = client.post("/rerank", asked | {"return_text": True}).json()
    assert [item["text"] for item in told] == [TEXTS[item["index"]] for item in told]


def test_rerank_by_embeddings(client, engines):
    """Oracle: the cosine in float64."""
    answer = client.post("/rerank", {"query": QUERY, "texts": TEXTS}).json()
    expected = cosines(engines)
    assert [item["index"] for item in answer] == np.argsort(-expected).tolist()
    np.testing.assert_allclose([item["score"] for item in answer], np.sort(expected)[::-1], atol=1e-5)


def test_similarity(client, engines):
    """Oracle: the cosine in float64, in the order of the sentences."""
    inputs = {"source_sentence": QUERY, "sentences": TEXTS}
    answer = client.post("/similarity", {"inputs": inputs, "parameters": {"truncate": True}})
    np.testing.assert_allclose(answer.json(), cosines(engines), atol=1e-5)
    refused = client.post("/similarity", {"inputs": {"sentences": TEXTS}})
    assert refused.status_code == 422
    assert "`source_sentence`, a text" in refused.json()["error"]


def test_ranks_keep_the_order_of_equals():
    """Oracle: by hand."""
    scores = np.array([0.5, 0.75, 0.5], dtype=np.float32)
    assert [item["index"] for item in rank_texts(scores, None)] == [1, 0, 2]
    assert [item["label"] for item in rank_labels(["a", "b", "c"], scores[None])[0]] == ["b", "a", "c"]


def test_tokenize(client, engines):
    """Oracle: the tokenizer itself; each token's text is the slice of the original that its offsets name."""
    tokenizer = engines["embedder/float32"].tokenizer
    text = "Wake \U0001f600 me jazzy"
    for special in (True, False):
        asked = {"inputs": [text, "rain " * 20], "add_special_tokens": special}
        shown, long = client.post("/tokenize", asked).json()
        expected = tokenizer.encode(text, add_special_tokens=special)
        assert [token["id"] for token in shown] == expected.ids
        assert len(long) == 20 + 2 * special > MAX_TOKENS
        for token in shown:
            if token["special"]:
                assert (token["start"], token["stop"]) == (None, None)
            else:
                assert token["text"] == text[token["start"] : token["stop"]]
    assert client.post("/tokenize", {"inputs": text}).json() == client.post("/tokenize", {"inputs": [text]}).json()


@pytest.mark.parametrize(("model", "body", "path"), [
    ("embedder", {"inputs": "rain"}, "/embed"),
    ("ranker", {"query": QUERY, "texts": TEXTS}, "/rerank"),
    ("tagger", {"inputs": "rain tomorrow"}, "/tag"),
    ("reader", {"inputs": {"question": QUERY, "context": "rain tomorrow"}}, "/answer"),
    ("student", {"inputs": [["rain"]]}, "/predict"),
])  # fmt: skip
def test_root_is_what_suits_the_model(client, model, body, path):
    """Oracle: the route itself, by field and by header."""
    expected = client.post(path, body | {"model": model}).json()
    assert client.post("/", body | {"model": model}).json() == expected
    assert client.post("/", body, **{"X-Model": model}).json() == expected


def test_embed_cuts_dimensions(client, engines):
    """Oracle: the first columns, scaled to length one after the cut."""
    vectors = engines["embedder/float32"].run(["rain"]).embeddings
    for normalized in (True, False):
        found = client.post("/embed", {"inputs": "rain", "dimensions": 3, "normalize": normalized}).json()
        expected = normalize(vectors[:, :3]) if normalized else vectors[:, :3]
        np.testing.assert_allclose(found, expected, atol=1e-6)


REFUSED = [
    ("/embed", {"inputs": "a", "dimensions": HIDDEN + 1}, 422, "`dimensions` is 9, embedder/float32 gives 8"),
    ("/embed", {"inputs": "a", "dimensions": 0}, 422, "greater than or equal to 1"),
    ("/embed", {"inputs": "a", "truncation_direction": "Middle"}, 422, "`Left` or `Right`"),
    ("/embed", {"inputs": "a", "prompt_name": "query"}, 422, "Only null"),
    ("/embed", {"inputs": [1, 2]}, 422, "a list of texts"),
    ("/rerank", {"query": QUERY, "texts": TEXTS, "model": "student"}, 422, "tells 4 labels apart, it does not rank"),
    ("/rerank", {"query": QUERY, "texts": []}, 422, "`texts` is empty"),
    ("/rerank", {"texts": TEXTS}, 422, "`query` is missing"),
    ("/rerank", {"query": QUERY, "texts": "a"}, 422, "A list of texts"),
    ("/rerank", {"query": QUERY, "texts": ["a"] * 5}, 413, "at most 4"),
    ("/rerank", {"query": "a" * 60, "texts": ["a" * 60]}, 413, "at most 100"),
    ("/rerank", {"query": "rain " * 9, "texts": ["rain " * 9], "model": "ranker", "truncate": False}, 413, "tokens"),
    ("/rerank", {"query": "rain " * 18, "texts": ["rain"], "truncate": False}, 413, "16 tokens"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 422, "`inputs` is empty"),
    ("/similarity", {"inputs": {"source_sentence": "a" * 101, "sentences": ["a"]}}, 413, "at most 100"),
    ("/similarity", {"inputs": "a"}, 422, "`sentences`, a list of texts"),
    ("/tokenize", {"inputs": []}, 422, "`inputs` is empty"),
    ("/tokenize", {"inputs": "a", "model": "nobody"}, 404, "there is no model 'nobody'"),
    ("/", {"inputs": "a", "model": 1}, 422, "`model`"),
    ("/", {"query": "a"}, 422, "`inputs` is missing"),
    ("/v1/embeddings", {"input": []}, 422, "`input` is empty"),
    ("/v1/embeddings", {"input": [1, 2]}, 422, "not token ids"),
    ("/v1/embeddings", {"input": [[1, 2]]}, 422, "not token ids"),
    ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 422, "'float' or 'base64'"),
    ("/v1/embeddings", {"input": "a", "dimensions": 9}, 422, "embedder/float32 gives 8"),
    ("/v1/embeddings", {"input": "a", "model": "text-embedding-3-small"}, 404, "'text-embedding-3-small'"),
    ("/v1/embeddings", {"input": ["a"] * 5}, 413, "at most 4"),
    ("/v1/embeddings", b"{", 400, "not valid JSON"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), REFUSED)
def test_refusals(client, path, body, status, words):
    """Oracle: the documented status, and the shape of the family the route belongs to."""
    answer = client.post(path, body)
    assert answer.status_code == status, answer.text
    assert words in message_of(answer, path)
    assert answer.content.isascii()


def message_of(answer: httpx.Response, path: str) -> str:
    told = answer.json()
    if path.startswith("/v1/"):
        assert set(told) == {"error"}
        assert set(told["error"]) == {"message", "type", "param", "code"}
        return told["error"]["message"]
    assert set(told) == {"error", "error_type"}
    return told["error"]


def test_faults_below_v1_say_which_field_and_code(client):
    """Oracle: OpenAI's words."""
    wrong = client.post("/v1/embeddings", {"input": "a", "model": "gpt"}).json()["error"]
    assert (wrong["type"], wrong["param"], wrong["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert client.post("/v1/embeddings", {"input": "a", "dimensions": 9}).json()["error"]["param"] == "dimensions"
    for method, path, status in (("GET", "/v1/absent", 404), ("GET", "/v1/embeddings", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        message_of(answer, path)


def test_openai_embeddings(client, engines):
    """Oracle: the runtime's vectors, scaled to length one; the tokens it read; both encodings the same bits."""
    texts = ["rain", "wake me at seven"]
    outputs = engines["embedder/float32"].run(texts)
    answer = client.post("/v1/embeddings", {"input": texts, "model": "embedder", "user": "somebody"}).json()
    tokens = int(outputs.tokens.sum())
    assert (answer["object"], answer["model"]) == ("list", "embedder/float32")
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    floats = np.array([item["embedding"] for item in answer["data"]], dtype=np.float32)
    np.testing.assert_allclose(floats, normalize(outputs.embeddings), atol=1e-6)
    packed = client.post("/v1/embeddings", {"input": texts, "model": "default", "encoding_format": "base64"}).json()
    decoded = [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in packed["data"]]
    assert np.array_equal(np.array(decoded), floats)
    cut = client.post("/v1/embeddings", {"input": "rain", "dimensions": 3}).json()["data"][0]["embedding"]
    np.testing.assert_allclose(cut, normalize(outputs.embeddings[:1, :3])[0], atol=1e-6)


def test_openai_models(client, engines):
    """Oracle: the engines that give embeddings; each name listed is one that may be asked for."""
    listed = client.get("/v1/models").json()
    assert [item["id"] for item in listed["data"]] == list(engines)
    assert all(client.post("/v1/embeddings", {"input": "a", "model": name}).is_success for name in engines)


def test_info_in_the_words_of_tei(client, engines):
    """Oracle: the fields that text-embeddings-inference's clients read, of the default model."""
    info = client.get("/info").json()
    digest = engines["embedder/float32"].bundle.digest
    assert (info["model_id"], info["model_sha"], info["model_dtype"]) == ("embedder/float32", digest, "float32")
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (MAX_TOKENS, CONFIG.limits.texts)
    assert info["max_concurrent_requests"] == CONFIG.limits.queue_tokens // MAX_TOKENS
    assert info["version"] == VERSION == tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
    for name, kind, labels in (
        ("student", "classifier", LABELS),
        ("ranker", "reranker", ("LABEL_0",)),
        ("tagger", "tagger", TAGS),
    ):
        with open_client(create_app(engines, name, CONFIG), warm=False) as other:
            described = other.get("/info").json()["model_type"]
        numbers = {label: index for index, label in enumerate(labels)}
        named = {str(index): label for label, index in numbers.items()}
        assert described == {kind: {"id2label": named, "label2id": numbers}}


def test_openapi_is_valid_and_complete(engines):
    """Oracle: the OpenAPI 3.1 schema, and the application's own routes and methods, both ways."""
    app = create_app(engines, "embedder", CONFIG)
    with open_client(app, warm=False) as client:
        document = client.get("/openapi.json").json()
    validate(document)
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.path, method) for route in app.router.routes for method in route.methods - {"HEAD"}}
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert references == set(document["components"]["schemas"])


def test_openapi_examples_are_answered(client):
    """Oracle: the service itself: what is shown as a request is one."""
    models = {
        "PredictRequest": "student",
        "ClassifyRequest": "student",
        "RerankRequest": "ranker",
        "TagRequest": "tagger",
        "AnswerRequest": "reader",
    }
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        if "post" not in methods or path.startswith("/admin/"):  # that asks no model: test_serve_swap.py
            continue
        examples = methods["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert examples
        for name, example in examples.items():
            model = models.get(name.partition("-")[0], "embedder")
            answer = client.post(path, example["value"] | {"model": model})
            assert answer.status_code == 200, (path, example, answer.text)
