"""The application in process: TEI's shapes on the way out, and a clear 4xx for each way in that is wrong."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from serve_bundles import LABELS, MAX_TOKENS, make_bundle
from serve_client import open_client

from artifact.errors import ServeError
from serve.batching.lane import estimate_tokens
from serve.config import ServiceConfig
from serve.engine import Computed, Tokens, normalize
from serve.http.app import WARM_UP, create_app
from serve.http.desk import find_aliases
from serve.limits import Limits
from serve.runtime import Runtime

CONFIG = ServiceConfig(limits=Limits(body_bytes=20_000, texts=4, characters=100, queue_tokens=1000))
JSON = {"content-type": "application/json"}


@dataclass
class Echo:
    """An engine whose only logit is the text's length, and which can be held, or made to fail."""

    name: str = "echo/float32"
    labels: Sequence[str] = ("length",)
    embedding_size: int = 0
    problem: str | None = "single-label"
    max_tokens: int = 100
    pooling: str = "mean"
    batch_tokens: int = 100
    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    seen: list[str] = field(default_factory=list)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        lengths = np.array([max(1, len(text)) for text in texts], dtype=np.int64)
        return Tokens(encodings=texts, lengths=lengths, truncated=np.zeros(len(texts), dtype=bool), seconds=0.0)

    def compute(self, encodings: Sequence[str], *, wide: bool) -> Computed:  # noqa: ARG002
        if encodings[0] not in WARM_UP:
            self.started.set()
            self.gate.wait(20)
        self.seen += encodings
        if "fail" in encodings:
            raise RuntimeError(f"secret {encodings}")
        vector = np.zeros(self.embedding_size, dtype=np.float32)
        return {
            "logits": [np.array([len(text)], dtype=np.float32) for text in encodings],
            "sentence_embedding": [vector for _ in encodings],
        }


@pytest.fixture(scope="module")
def engines(tmp_path_factory) -> dict[str, Runtime]:
    folder: Path = tmp_path_factory.mktemp("bundles")
    bundles = [make_bundle(folder / name, name=name, seed=seed) for seed, name in enumerate(("teacher", "student"))]
    opened = [Runtime.open(bundle, each, threads=1) for bundle in bundles for each in ("float32", "int8")]
    return {engine.name: engine for engine in opened}


@pytest.fixture(scope="module")
def client(engines):
    with open_client(create_app(engines, "student/int8", CONFIG, {"threads": {"cores": 1}})) as client:
        yield client


def test_predict_one_text(client, engines):
    """Oracle: the runtime's own softmax, sorted."""
    answer = client.post("/predict", {"inputs": "wake me"})
    scores = engines["student/int8"].scores(["wake me"])[0]
    expected = [{"label": LABELS[column], "score": float(scores[column])} for column in np.argsort(-scores)]
    assert (answer.status_code, answer.json()) == (200, expected)
    assert answer.headers["x-model"] == "student/int8"
    for phase in ("tokenization", "queue", "inference"):
        assert 0 <= float(answer.headers[f"x-{phase}-time"]) < 5000


@pytest.mark.parametrize("inputs", [["wake me", "rain", ""], [["wake me"], ["rain"], [""]]])
def test_predict_many_keeps_order(client, inputs):
    """Oracle: each text asked alone."""
    alone = [client.post("/predict", {"inputs": text}).json() for text in ("wake me", "rain", "")]
    together = client.post("/predict", {"inputs": inputs}).json()
    for row, expected in zip(together, alone, strict=True):
        assert [item["label"] for item in row] == [item["label"] for item in expected]
        np.testing.assert_allclose([item["score"] for item in row], [item["score"] for item in expected], atol=1e-5)


def test_raw_scores_are_logits(client, engines):
    """Oracle: the runtime's logits."""
    answer = client.post("/predict", {"inputs": "rain", "raw_scores": True}).json()
    logits = engines["student/int8"].run(["rain"]).logits[0]
    np.testing.assert_allclose([item["score"] for item in answer], sorted(logits, reverse=True), atol=1e-6)


def test_embed(client, engines):
    """Oracle: the runtime's embeddings, scaled to length one unless told otherwise."""
    expected = engines["student/int8"].run(["rain", "jazz"]).embeddings
    one = client.post("/embed", {"inputs": "rain"}).json()
    np.testing.assert_allclose(one, normalize(expected[:1]), atol=1e-6)
    many = client.post("/embed", {"inputs": ["rain", "jazz"], "normalize": False}).json()
    np.testing.assert_allclose(many, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("student", "student/int8"),
        ("teacher", "teacher/float32"),
        ("student/float32", "student/float32"),
        ("teacher/int8", "teacher/int8"),
    ],
)
def test_names_of_models(client, asked, meant):
    """Oracle: a bare name is the default's precision, or the first given; field and header say the same."""
    assert client.post("/predict", {"inputs": "rain"}, **{"X-Model": asked}).headers["x-model"] == meant
    answer = client.post("/predict", {"inputs": "rain", "model": asked}, **{"X-Model": "nobody"})
    assert answer.headers["x-model"] == meant


def test_default_must_exist():
    """Oracle: the list of names given."""
    assert find_aliases(["a/x", "a/y"], "a/y")["a"] == "a/y"
    with pytest.raises(ServeError, match="there is no model 'b'"):
        find_aliases(["a/x", "a/y"], "b")


DEEP = b'{"inputs":' + b"[" * 9000 + b"]" * 9000 + b"}"

BAD_REQUESTS = [
    (b"", 400), (b"{", 400), (b"nonsense", 400), (b'{"inputs": "\xff"}', 400), (b'{"inputs": NaN}', 400),
    (b'{"inputs": Infinity}', 400), (b"\xef\xbb\xbf{}", 400), (DEEP, 400), (b'{"inputs":' + b"9" * 5000 + b"}", 400),
    (b'{"inputs": "a"} {"inputs": "b"}', 400),
    (b"[]", 422), (b"null", 422), (b'"text"', 422), (b"{}", 422), (b'{"inputs": null}', 422), (b'{"inputs": 1}', 422),
    (b'{"inputs": 1e999}', 422), (b'{"inputs": {}}', 422), (b'{"inputs": [1]}', 422), (b'{"inputs": ["a", null]}', 422),
    (b'{"inputs": [[["a"]]]}', 422), (b'{"inputs": "\\ud800"}', 200), (b'{"inputs": []}', 422),
    (b'{"inputs": "a", "truncate": "yes"}', 422), (b'{"inputs": "a", "model": 1}', 422),
    (b'{"inputs": ["a", "a", "a", "a", "a"]}', 413), (b'{"inputs": "' + b"a" * 101 + b'"}', 413),
    (b'{"inputs": "' + b"rain " * 20 + b'", "truncate": false}', 413), (b'{"inputs": "' + b"a" * 20_000 + b'"}', 413),
    (b'{"inputs": "a", "model": "nobody\\n\\u001b[2J"}', 404),
    (b'{"inputs": "a", "model": ""}', 200), (b'{"inputs": "a", "model": "\\ud800"}', 404),
    (b'{"inputs": "\\u0000", "unknown": [1]}', 200), (b'{"inputs": ""}', 200), (b'{"inputs": "a", "inputs": "b"}', 200),
]  # fmt: skip


@pytest.mark.parametrize("path", ["/predict", "/embed"])
@pytest.mark.parametrize(("body", "status"), BAD_REQUESTS)
def test_bad_requests(client, path, body, status):
    """Oracle: the status the specification of HTTP and the documented limits give; never a 500, always JSON."""
    answer = client.post(path, body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    if status >= 400:
        assert set(answer.json()) == {"error", "error_type"}
        assert answer.content.isascii()
        assert not any(control in answer.json()["error"] for control in "\n\r\x1b")
    assert client.get("/health").status_code == 200


def test_predict_pairs(client, engines):
    """Oracle: the runtime on a pair; text-embeddings-inference's rule of which list is one answer and which many."""

    def scores(inputs):
        return client.post("/predict", {"inputs": inputs, "raw_scores": True}).json()

    pair, text = (sorted(engines["student/int8"].run([each]).logits[0])[::-1] for each in [("rain", "jazz"), "rain"])
    for inputs, expected in ((["rain", "jazz"], pair), (["rain"], text), ("rain", text)):
        np.testing.assert_allclose([item["score"] for item in scores(inputs)], expected, atol=1e-5)
    for inputs, expected in (([["rain", "jazz"], ["rain"]], [pair, text]), ([["rain"]], [text])):
        found = [[item["score"] for item in row] for row in scores(inputs)]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("inputs", [[["a", "b", "c"]], [[]], [["a"], "b"], ["a", ["b"]], [[1]]])
def test_predict_of_no_such_shape(client, inputs):
    """Oracle: the shapes of text-embeddings-inference; the message says what they are."""
    answer = client.post("/predict", {"inputs": inputs})
    assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")
    assert "a list of lists of one or two texts" in answer.json()["error"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_other_content_types(client, content_type):
    """Oracle: 415 of RFC 9110."""
    headers = {"content-type": content_type} if content_type else {}
    answer = client.request("POST", "/predict", content=b'{"inputs": "a"}', headers=headers)
    assert answer.status_code == 415
    assert client.post("/predict", {"inputs": "a"}, **{"content-type": "Application/JSON; charset=utf-8"}).is_success


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/absent", 404), ("GET", "/predict/", 404), ("POST", "/%00", 404),
        ("GET", "/predict", 405), ("DELETE", "/embed", 405), ("POST", "/info", 405), ("DELETE", "/", 405),
    ],
)  # fmt: skip
def test_wrong_routes_and_methods(client, method, path, status):
    """Oracle: 404 and 405 of RFC 9110, as JSON; 405 says what is allowed."""
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "error_type"}
    assert ("allow" in answer.headers) == (status == 405)


def test_streamed_body_is_cut_off(client):
    """Oracle: the limit holds without a Content-Length, after no more than one chunk too many was read."""
    sent = 0

    async def chunks():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 1000

    answer = client.request("POST", "/predict", content=chunks(), headers=JSON)
    assert answer.status_code == 413
    assert sent <= CONFIG.limits.body_bytes // 1000 + 2
    lying = client.post("/predict", b"{}", **{"content-length": "99999999999999999999999"})
    assert lying.status_code == 413
    assert client.post("/predict", b"{}", **{"content-length": "-1"}).status_code == 400


def test_slow_body_is_given_up(engines):
    """Oracle: a body that never ends is answered with 408 once the limit is past."""

    async def receive():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    app = create_app(engines, "student", ServiceConfig(limits=Limits(body_seconds=0.1)))
    assert asyncio.run(call(app, receive)) == 408


def test_client_that_hangs_up(engines, caplog):
    """Oracle: no error in the log, no exception out of the application."""

    async def receive():
        return {"type": "http.disconnect"}

    asyncio.run(call(create_app(engines, "student", CONFIG), receive))
    assert not caplog.records


async def call(app, receive) -> int:
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b"", "app": app}
    await app(scope, receive, send)
    return sent[0]["status"]


def test_info(client, engines):
    """Oracle: what was given to create_app."""
    info = client.get("/info").json()
    assert info["default"] == "student/int8"
    assert [model["id"] for model in info["models"]] == list(engines)
    assert info["models"][0]["labels_count"] == len(LABELS)
    assert info["models"][0]["max_tokens"] == MAX_TOKENS
    assert (info["threads"], info["limits"]["texts"]) == ({"cores": 1}, CONFIG.limits.texts)


def test_metrics(engines):
    """Oracle: counts of the requests this test made; a path a client makes up is not a label."""
    with open_client(create_app(engines, "student", CONFIG)) as client:
        client.post("/predict", {"inputs": [["rain"], ["wake me at"]]})
        client.post("/predict", b"{")
        client.get("/made/up")
        lines = client.get("/metrics").text.splitlines()
    assert 'understudy_requests_total{route="/predict",status="200"} 1.0' in lines
    assert 'understudy_requests_total{route="/predict",status="400"} 1.0' in lines
    assert 'understudy_requests_total{route="other",status="404"} 1.0' in lines
    assert 'understudy_errors_total{status="400"} 1.0' in lines
    assert 'understudy_queued_tokens{model="student/float32"} 0.0' in lines
    assert f'understudy_tokens_total{{model="student/float32"}} {3 + 5}.0' in lines
    assert f'understudy_padded_tokens_total{{model="student/float32"}} {3 + 5}.0' in lines
    for phase in ("tokenization", "queue", "inference"):
        assert any(f'phase_seconds_count{{model="student/float32",phase="{phase}"}} 1.0' in line for line in lines)
    assert not any("made" in line for line in lines)


def test_health_before_it_is_warm(engines):
    """Oracle: 503 until the lifespan has run, 200 inside it."""
    app = create_app(engines, "student", CONFIG)
    with open_client(app, warm=False) as client:
        answer = client.get("/health")
    assert (answer.status_code, answer.json()["error_type"]) == (503, "Unhealthy")
    with open_client(app) as client:
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_self_contained(client, path):
    """Oracle: no address of another machine in the page, and a policy that would forbid one."""
    answer = client.get(path)
    assert "text/html" in answer.headers["content-type"]
    assert "://" not in answer.text
    assert "innerHTML" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def ask_together(app, bodies: list[dict[str, object]], during=None) -> list[httpx.Response]:
    async def run():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
        ):
            asked = [asyncio.create_task(client.post("/predict", json=body)) for body in bodies]
            await asyncio.sleep(0.05)
            if during:
                await during(client)
            return await asyncio.gather(*asked)

    return asyncio.run(run())


def test_answers_never_cross(engines):
    """Oracle: an engine whose answer is the text's length, asked from 60 clients at once."""
    echo = Echo()
    echo.gate.set()
    bodies = [{"inputs": [["x" * number], ["y" * (number + 1)]], "raw_scores": True} for number in range(60)]
    answers = ask_together(
        create_app({"echo/float32": echo}, "echo", ServiceConfig(limits=Limits(queue_tokens=100_000))), bodies
    )
    for number, answer in enumerate(answers):
        assert [row[0]["score"] for row in answer.json()] == [number, number + 1]


def test_full_queue_answers_at_once():
    """Oracle: the bound. Ten requests of 3 tokens each into 14: four are held, six hear 429 before any is computed."""
    echo = Echo()
    app = create_app({"echo/float32": echo}, "echo", ServiceConfig(limits=Limits(queue_tokens=14)))

    async def release(client):
        metrics = (await client.get("/metrics")).text
        assert 'understudy_queued_requests{model="echo/float32"} 4.0' in metrics
        assert f'understudy_queued_tokens{{model="echo/float32"}} {4 * 3}.0' in metrics
        assert "held" not in echo.seen
        echo.gate.set()

    assert estimate_tokens(["xxx"], 100) == 3
    answers = ask_together(app, [{"inputs": "xxx"}] * 10, release)
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 6
    for answer in answers[4:]:
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error_type"] == "Overloaded"


def test_idle_lane_takes_a_request_over_the_bound():
    """Oracle: otherwise such a request would be told for ever to come back later."""
    echo = Echo()
    echo.gate.set()
    app = create_app({"echo/float32": echo}, "echo", ServiceConfig(limits=Limits(queue_tokens=1)))
    assert ask_together(app, [{"inputs": "x" * 50}])[0].status_code == 200


def test_failing_inference_fails_alone(caplog):
    """Oracle: a 500 without its insides for one, answers for the others, and no text in the log."""
    echo = Echo()
    echo.gate.set()
    app = create_app({"echo/float32": echo}, "echo", ServiceConfig())
    with caplog.at_level(logging.INFO):
        answers = ask_together(app, [{"inputs": text} for text in ("before", "fail", "after")])
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[1].json() == {"error": "an unexpected fault of the service", "error_type": "Backend"}
    (record,) = [record for record in caplog.records if record.name == "understudy.serve"]
    assert "RuntimeError" in record.getMessage()
    assert "lane.py" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_failing_inference_below_v1():
    """Oracle: OpenAI's shape for a 500 too, though it is the outermost frame that answers."""
    echo = Echo(embedding_size=1)
    echo.gate.set()
    with open_client(create_app({"echo/float32": echo}, "echo", ServiceConfig())) as client:
        answer = client.post("/v1/embeddings", {"input": "fail"})
    told = {"message": "an unexpected fault of the service", "type": "server_error", "param": None, "code": None}
    assert (answer.status_code, answer.json()) == (500, {"error": told})


def test_busy_engine_leaves_the_loop_free(engines):
    """Oracle: while one text is held on all threads, health is answered; the other model's text comes after it."""
    echo = Echo()
    app = create_app({"echo/float32": echo, **engines}, "echo", ServiceConfig())

    async def others(client):
        assert (await client.get("/health")).status_code == 200
        other = asyncio.create_task(client.post("/predict", json={"inputs": "rain", "model": "student"}))
        await asyncio.sleep(0.05)
        assert not other.done()
        echo.gate.set()
        assert (await other).status_code == 200

    assert ask_together(app, [{"inputs": "held"}], others)[0].status_code == 200


def test_models_without_labels_or_embedding():
    """Oracle: 422, since the request cannot be served by that model however it is written."""
    echo = Echo(labels=())
    echo.gate.set()
    with open_client(create_app({"echo/float32": echo}, "echo", ServiceConfig())) as client:
        assert client.post("/predict", {"inputs": "a"}).status_code == 422
        assert client.post("/embed", {"inputs": "a"}).status_code == 422
