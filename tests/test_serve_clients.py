"""Clients as their authors wrote them, against the service as it is really started; nothing leaves this machine."""

import base64
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serve_bundles import HIDDEN, make_bundle
from serve_client import serving

from serve.engine import normalize
from serve.runtime import Runtime

TEXTS = ["wake me at seven", "will it rain tomorrow", "rain " * 40]
TASKS = {"embedder": "embedding", "ranker": "ranking", "student": "classification"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {name: make_bundle(folder / name, name=name, seed=seed, task=TASKS[name]) for seed, name in enumerate(TASKS)}


@pytest.fixture(scope="module")
def url(bundles, tmp_path_factory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("log") / "log"
    with serving(*map(str, bundles.values()), "--default", "embedder/float32", log=log) as url:
        yield url
    assert not any(text in log.read_text() for text in TEXTS)


@pytest.fixture(scope="module")
def engines(bundles) -> dict[str, Runtime]:
    return {name: Runtime.open(bundle, threads=1) for name, bundle in bundles.items()}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def import_client(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a client's own imports deprecate is not ours to judge
        return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture
def hub():
    """huggingface_hub with sessions that reach this machine; the tests' environment otherwise forbids it any."""
    hub = import_client("huggingface_hub")
    requests = import_client("requests")
    hub.configure_http_backend(requests.Session)
    yield hub
    hub.configure_http_backend()


def embeddings_of(engine: Runtime) -> np.ndarray:
    return normalize(engine.run(TEXTS).embeddings)


def test_hugging_face_feature_extraction(url, hub, engines):
    """Oracle: the runtime's vectors; with no more than an address, as with the route's own."""
    for client in (hub.InferenceClient(base_url=url), hub.InferenceClient(base_url=f"{url}/embed")):
        found = client.feature_extraction(TEXTS, truncate=True, truncation_direction="Right")
        np.testing.assert_allclose(found, embeddings_of(engines["embedder"]), atol=1e-6)
        from_the_end = client.feature_extraction("jazz " * 3 + "rain " * 14, truncate=True, truncation_direction="Left")
        np.testing.assert_allclose(
            from_the_end, normalize(engines["embedder"].run(["rain " * 14]).embeddings), atol=1e-6
        )
        raw = client.feature_extraction(TEXTS[0], normalize=False)
        np.testing.assert_allclose(raw, engines["embedder"].run(TEXTS[:1]).embeddings, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"truncation_direction": "Middle"}, "`Left` or `Right`"),
        ({"prompt_name": "query"}, "bundles hold no prompts"),
        ({"truncate": False}, "a text is longer than 16 tokens"),
    ],
)
def test_hugging_face_hears_why(url, hub, options, words):
    """Oracle: the service's own message, in the error that the client raises."""
    with pytest.raises(hub.errors.HfHubHTTPError, match=words):
        hub.InferenceClient(base_url=url).feature_extraction(TEXTS[2], **options)


def test_hugging_face_text_classification(url, hub, engines):
    """Oracle: the runtime's best label. The client hands on the first of the list, as with text-embeddings-inference.

    Its own service wraps the list of a single text in another, and that is what it unwraps.
    """
    scores = engines["student"].scores(TEXTS[:1])[0]
    by_header = hub.InferenceClient(base_url=url, headers={"X-Model": "student"})
    by_route = hub.InferenceClient(base_url=f"{url}/predict", headers={"X-Model": "student"})
    for client in (by_header, by_route):
        best = client.text_classification(TEXTS[0])
        assert best.label == engines["student"].labels[int(scores.argmax())]
        assert best.score == pytest.approx(float(scores.max()), abs=1e-5)


def test_hugging_face_sentence_similarity(url, hub, engines):
    """Oracle: the runtime's cosines. The client has no route of its own for it, so the address names ours."""
    vectors = embeddings_of(engines["embedder"])
    client = hub.InferenceClient(base_url=f"{url}/similarity")
    found = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    np.testing.assert_allclose(found, vectors[1:] @ vectors[0], atol=1e-5)


@pytest.mark.parametrize("model", ["ranker", "embedder"])
def test_text_embeddings_inference_rerank(url, engines, model):
    """Oracle: text-embeddings-inference's description of the route: all its fields at their defaults, and its list.

    No client here has the route; those that do send this.
    """
    body = {
        "query": "will it rain", "texts": ["rain tomorrow", "play some jazz"], "raw_scores": False,
        "return_text": True, "truncate": False, "truncation_direction": "right",
    }  # fmt: skip
    ranks = httpx.post(f"{url}/rerank", json=body, headers={"X-Model": model}).json()
    assert [set(rank) for rank in ranks] == [{"index", "score", "text"}] * 2
    assert all(rank["text"] == body["texts"][rank["index"]] for rank in ranks)
    if model == "ranker":
        scores = engines["ranker"].scores([("will it rain", rank["text"]) for rank in ranks])[:, 0]
    else:
        vectors = normalize(engines["embedder"].run(["will it rain", *(rank["text"] for rank in ranks)]).embeddings)
        scores = vectors[1:] @ vectors[0]
    np.testing.assert_allclose([rank["score"] for rank in ranks], scores, atol=1e-5)
    assert scores[0] >= scores[1]


def test_hugging_face_endpoint_info(url, hub):
    """Oracle: what was started."""
    client = hub.InferenceClient(base_url=url, provider="hf-inference")  # where it is left out, it does not know
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the client is about to drop them
        info = client.get_endpoint_info()
        assert client.health_check()
    assert (info["model_id"], info["model_type"]) == ("embedder/float32", {"embedding": {"pooling": "mean"}})


def test_openai_embeddings(url, engines):
    """Oracle: the runtime's vectors, in the client's own choice of encoding (base64) and as numbers."""
    openai = import_client("openai")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        for options in ({}, {"encoding_format": "base64"}, {"encoding_format": "float"}):
            answer = client.embeddings.create(input=TEXTS, model="default", **options)
            assert answer.model == "embedder/float32"
            assert answer.usage.prompt_tokens == int(engines["embedder"].run(TEXTS).tokens.sum())
            vectors = [unpack(item.embedding) for item in answer.data]
            np.testing.assert_allclose(vectors, embeddings_of(engines["embedder"]), atol=1e-6)
        cut = client.embeddings.create(input=TEXTS[0], model="embedder", dimensions=2).data[0].embedding
        expected = normalize(embeddings_of(engines["embedder"])[:1, :2])[0]
        np.testing.assert_allclose(cut, expected, atol=1e-6)
        listed = [model.id for model in client.models.list()]
        assert listed[0] == "embedder/float32"
        assert len(client.embeddings.create(input="rain", model=listed[-1]).data[0].embedding) == HIDDEN


def unpack(embedding: list[float] | str) -> list[float]:
    """The client decodes base64 that it asked for itself, and hands on what its user asked for."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4").tolist()
    return embedding


def test_openai_hears_why(url):
    """Oracle: the client's own exceptions, with the service's message and code."""
    openai = import_client("openai")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="there is no model 'text-embedding-3-small'") as caught:
            client.embeddings.create(input="rain", model="text-embedding-3-small")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.UnprocessableEntityError, match="not token ids"):
            client.embeddings.create(input=[1, 2, 3], model="default")
        with pytest.raises(openai.NotFoundError, match="no such route"):
            client.models.retrieve("embedder")


def test_langchain_embeddings(url, hub, engines):
    """Oracle: the runtime's vectors."""
    langchain = import_client("langchain_huggingface")
    client = langchain.HuggingFaceEndpointEmbeddings(model=url)
    expected = embeddings_of(engines["embedder"])
    np.testing.assert_allclose(client.embed_documents(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(client.embed_query(TEXTS[0]), expected[0], atol=1e-6)
