"""Choosing among candidates at `/rerank`: NONE, turns, what is kept of candidates, and one model before another."""

import asyncio
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from serve_bundles import HIDDEN, MAX_TOKENS, make_bundle
from serve_client import open_client

from artifact.errors import ConfigError, ServeError
from serve.batching.crew import Crew
from serve.batching.lane import ModelLane
from serve.config import ServiceConfig, read_service_config
from serve.engine import normalize
from serve.http.app import create_app
from serve.http.requests_rerank import Turn, join_turns
from serve.keys import make_key
from serve.limits import Limits
from serve.metrics import Metrics
from serve.runtime import Runtime
from serve.selection.cache import ENTRY_BYTES, CandidateCache
from serve.settings import Settings, check_settings

TASKS = {"cross": "ranking", "bi": "embedding", "student": "classification"}
TEXTS = ["rain tomorrow", "wake me", "play some jazz", "will it rain", "at seven", "some rain"]
QUERY = "will it rain at seven"
TURNS = [
    {"speaker": "ann", "utterance": "wake me at seven tomorrow"},
    {"utterance": "play some jazz"},
    {"speaker": "bo", "utterance": "will it rain"},
]
JOINED = "ann: wake me at seven tomorrow\nplay some jazz\nbo: will it rain"
THRESHOLD = 0.4


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {name: make_bundle(folder / name, name=name, seed=seed, task=TASKS[name]) for seed, name in enumerate(TASKS)}


@pytest.fixture(scope="module")
def engines(bundles) -> dict[str, Runtime]:
    opened = [Runtime.open(bundle, threads=1) for bundle in bundles.values()]
    return {engine.name: engine for engine in opened}


def open_app(engines, **config):
    return create_app(engines, "cross/float32", ServiceConfig(**config), threads=2)


@pytest.fixture(scope="module")
def client(engines):
    with open_client(open_app(engines)) as client:
        yield client


def chances_of(engine: Runtime, query: str, texts: list[str], **options: object) -> np.ndarray:
    pairs = [(query, text) for text in texts]
    logits = engine.infer(engine.tokenize(pairs, **options)).logits[:, 0]
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def cosines_of(engine: Runtime, query: str, texts: list[str], **options: object) -> np.ndarray:
    vectors = normalize(engine.infer(engine.tokenize([query, *texts], **options)).embeddings)
    return (vectors[1:] @ vectors[0]).astype(np.float64)


def scores_by_index(ranks: list[dict]) -> list[float]:
    return [item["score"] for item in sorted(ranks, key=lambda item: item["index"])]


def counted(client, name: str) -> float:
    pattern = rf'^understudy_{name}{{model="bi/float32"}} (\S+)$'
    found = re.search(pattern, client.get("/metrics").text, flags=re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_none_is_asked_for(engines):
    """Oracle: the runtime on each pair; 1 less the best chance, against the threshold of the service's file."""
    selection = {"cross/float32": {"none_threshold": THRESHOLD}, "bi/float32": {"none_threshold": 0.0}}
    with open_client(open_app(engines, selection=selection)) as client:
        for model, expected, threshold in (
            ("cross", chances_of(engines["cross/float32"], QUERY, TEXTS), THRESHOLD),
            ("bi", cosines_of(engines["bi/float32"], QUERY, TEXTS), 0.0),
        ):
            asked = {"model": model, "query": QUERY, "texts": TEXTS}
            plain = client.post("/rerank", asked).json()
            assert [set(item) for item in plain] == [{"index", "score"}] * len(TEXTS), "a client of others meets theirs"
            for raw in (False, True):
                told = client.post("/rerank", asked | {"return_none": True, "raw_scores": raw}).json()
                assert [item["index"] for item in told["ranks"]] == np.argsort(-expected, kind="stable").tolist()
                assert told["none"]["score"] == pytest.approx(1 - expected.max(), abs=1e-5)
                assert told["none"]["threshold"] == threshold
                assert told["none"]["flag"] is bool(1 - expected.max() > threshold)
        root = client.post("/", {"query": QUERY, "texts": TEXTS, "return_none": True}).json()
        assert root == client.post("/rerank", {"query": QUERY, "texts": TEXTS, "return_none": True}).json()


def test_none_without_a_threshold(client):
    """Oracle: by hand: a service that was told none flags nothing."""
    told = client.post("/rerank", {"query": QUERY, "texts": TEXTS, "return_none": True}).json()
    assert (told["none"]["threshold"], told["none"]["flag"]) == (None, None)


def test_turns_are_joined_and_keep_the_last(client, engines):
    """Oracle: the text written out, through the runtime, cut at the left, where a request does not say otherwise."""
    assert join_turns([Turn(**turn) for turn in TURNS]) == JOINED
    for name, score in (("cross", chances_of), ("bi", cosines_of)):
        engine = engines[f"{name}/float32"]
        assert len(engine.whole.encode(JOINED)) > MAX_TOKENS
        for direction, cut in ((None, "left"), ("Left", "left"), ("right", "right")):
            asked = {"model": name, "query": TURNS, "texts": TEXTS, "truncation_direction": direction}
            answer = client.post("/rerank", asked).json()
            np.testing.assert_allclose(scores_by_index(answer), score(engine, JOINED, TEXTS, cut=cut), atol=1e-5)
        plain = client.post("/rerank", {"model": name, "query": JOINED, "texts": TEXTS}).json()
        np.testing.assert_allclose(scores_by_index(plain), score(engine, JOINED, TEXTS), atol=1e-5)
        assert not np.allclose(score(engine, JOINED, TEXTS), score(engine, JOINED, TEXTS, cut="left"), atol=1e-3)


def test_what_is_kept_changes_no_answer(engines):
    """Oracle: the same requests of a service that keeps nothing, bit for bit: this graph's answers know no company."""
    requests = [
        {"query": query, "texts": texts, "model": "bi", "truncation_direction": direction}
        for query, texts, direction in (
            (QUERY, TEXTS, None), ("rain", TEXTS, None), ("rain", [*TEXTS[:2], "jazz", "jazz"], None),
            ("rain", ["rain " * 30, *TEXTS], "Left"), ("rain", ["rain " * 30, *TEXTS], "Right"),
        )
    ]  # fmt: skip
    with open_client(open_app(engines, candidate_cache_bytes=0)) as plain, open_client(open_app(engines)) as keeping:
        for asked in [*requests, *requests]:
            expected, found = plain.post("/rerank", asked), keeping.post("/rerank", asked)
            assert found.json() == expected.json()
        assert counted(plain, "candidate_misses_total") == 0
        # Six texts; again; "jazz", twice; then seven for each end, of which none was cut at a named end before.
        assert counted(keeping, "candidate_misses_total") == 6 + 1 + 7 + 7
        everything = 2 * sum(len(asked["texts"]) for asked in requests)
        assert counted(keeping, "candidate_hits_total") == everything - 21
        refused = keeping.post("/rerank", {"model": "bi", "query": "rain", "texts": ["rain " * 30], "truncate": False})
        assert refused.status_code == 413
        again = keeping.post("/rerank", {"model": "bi", "query": "rain", "texts": ["rain " * 30], "truncate": False})
        assert (again.status_code, again.json()) == (413, refused.json()), "that it was too long is kept too"


def test_a_request_whose_candidates_are_known_computes_its_query_alone(engines):
    """Oracle: the counter of tokens, which knows what the graph was given."""
    with open_client(open_app(engines)) as client:
        asked = {"model": "bi", "query": "rain", "texts": TEXTS}
        client.post("/rerank", asked)
        before = counted(client, "tokens_total")
        client.post("/rerank", asked)
        assert counted(client, "tokens_total") - before == 3


def test_what_is_kept_is_bounded(engines):
    """Oracle: room for three vectors, counted by hand; the one that was longest unused goes first."""
    entry = HIDDEN * 4 + ENTRY_BYTES

    async def work() -> None:
        crew = Crew(1)
        cache = CandidateCache(3 * entry, CollectorRegistry())
        lane = ModelLane(engines["bi/float32"], crew, Limits(), Metrics())
        for texts, left in (("a b c", 3), ("a", 3), ("d", 3), ("a c d", 3), ("e f g h", 3)):
            await cache.run(lane, ["query", *texts.split()])
            assert (len(cache), cache.size_bytes) == (left, left * entry)
        await cache.run(lane, ["query", "e"])  # the first of four had to go again
        assert cache.size_bytes == 3 * entry
        crew.close()

    asyncio.run(work())


def test_a_swapped_model_finds_nothing_of_the_one_before(bundles, tmp_path):
    """Oracle: each bundle's own cosines. A threshold of another bundle flags nothing."""
    for seed, name in ((20, "one"), (30, "two")):
        make_bundle(tmp_path / name, name="bi", seed=seed, task="embedding")
    key, entry = make_key("operator", "admin")
    engines = {name: Runtime.open(tmp_path / name, threads=1, name="bi/float32") for name in ("one", "two")}
    settings = {"bi/float32": {"none_threshold": 0.5, "digest": engines["one"].digest}}
    config = ServiceConfig(swap_from=tmp_path, api_keys=(entry,), selection=settings)
    app = create_app({"bi/float32": engines["one"]}, "bi/float32", config, threads=1)

    async def work() -> None:
        headers = {"authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers) as client,
        ):
            for name in ("one", "two", "one"):
                done = await client.post("/admin/swap", json={"model": "bi", "bundle": name})
                assert done.status_code == 200, done.text
                for _ in range(2):
                    body = {"query": QUERY, "texts": TEXTS, "return_none": True}
                    told = (await client.post("/rerank", json=body)).json()
                    expected = cosines_of(engines[name], QUERY, TEXTS)
                    np.testing.assert_allclose(scores_by_index(told["ranks"]), expected, atol=1e-6)
                    assert (told["none"]["threshold"] is None) == (name == "two")

    asyncio.run(work())


@pytest.mark.parametrize("raw", [False, True])
def test_one_model_picks_and_another_reads(client, engines, raw):
    """Oracle: both runtimes: the first three by cosine in the order of their chances, the others by cosine."""
    cosines = cosines_of(engines["bi/float32"], QUERY, TEXTS)
    order = np.argsort(-cosines, kind="stable").tolist()
    chances = chances_of(engines["cross/float32"], QUERY, TEXTS)
    best = sorted(order[:3], key=lambda index: -chances[index])
    asked = {"query": QUERY, "texts": TEXTS, "retriever": "bi", "k": 3, "return_text": True, "raw_scores": raw}
    answer = client.post("/rerank", asked)
    ranks = answer.json()
    assert [rank["index"] for rank in ranks] == best + order[3:]
    assert [rank["rescored"] for rank in ranks] == [True] * 3 + [False] * 3
    assert [rank["text"] for rank in ranks] == [TEXTS[rank["index"]] for rank in ranks]
    shown = np.log(chances / (1 - chances)) if raw else chances
    expected = [shown[index] for index in best] + [cosines[index] for index in order[3:]]
    np.testing.assert_allclose([rank["score"] for rank in ranks], expected, atol=1e-4)
    assert (answer.headers["x-model"], answer.headers["x-retriever"]) == ("cross/float32", "bi/float32")
    told = client.post("/rerank", asked | {"return_none": True}).json()
    assert told["none"]["score"] == pytest.approx(1 - chances[best[0]], abs=1e-5), "of those that were read"


def test_a_retriever_of_the_configuration(engines):
    """Oracle: the same request with its fields written out; few texts are all read, and then it is not asked."""
    config = {"selection": {"cross/float32": {"retriever": "bi/float32", "k": 2}}}
    with open_client(open_app(engines)) as plain, open_client(open_app(engines, **config)) as configured:
        asked = {"query": QUERY, "texts": TEXTS}
        expected = plain.post("/rerank", asked | {"retriever": "bi/float32", "k": 2}).json()
        assert configured.post("/rerank", asked).json() == expected
        everything = configured.post("/rerank", asked | {"k": len(TEXTS)})
        assert "x-retriever" not in everything.headers
        scores = {rank["index"]: rank["score"] for rank in everything.json()}
        assert scores == {rank["index"]: rank["score"] for rank in plain.post("/rerank", asked).json()}
        assert all(rank["rescored"] for rank in everything.json())
        assert len(plain.post("/rerank", asked | {"retriever": "bi"}).json()) == len(TEXTS)


@pytest.mark.parametrize(("body", "status", "words"), [
    ({"retriever": "nobody"}, 404, "there is no model 'nobody'"),
    ({"retriever": "student"}, 422, "student/float32 is no embedding model"),
    ({"retriever": "bi", "model": "bi"}, 422, "bi/float32 reads no pairs"),
    ({"k": 3}, 422, "none is named"),
    ({"k": 0, "retriever": "bi"}, 422, "`k`"),
    ({"query": [{"speaker": "ann"}]}, 422, "a list of turns"),
    ({"query": 3}, 422, "a list of turns"),
    ({"truncation_direction": "up"}, 422, "`Left` or `Right`"),
    ({"model": "student", "return_none": True}, 422, "it does not rank"),
])  # fmt: skip
def test_refusals(client, body, status, words):
    """Oracle: by hand."""
    answer = client.post("/rerank", {"query": QUERY, "texts": TEXTS} | body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, "Validation")
    assert words in answer.json()["error"]


@pytest.mark.parametrize(("asked", "words"), [
    ("{nobody/int8: {}}", "'nobody/int8', which is not served"),
    ("{student/int8: {none_threshold: 0.5}}", "gives no chance"),
    ("{cross/int8: {none_threshold: 0.5, digest: abc}}", "was chosen for the bundle abc"),
    ("{cross/int8: {retriever: student/int8}}", "is no embedding model"),
    ("{bi/int8: {retriever: bi/int8}}", "reads no pairs"),
])  # fmt: skip
def test_a_configuration_that_does_not_fit_starts_nothing(bundles, tmp_path, asked, words):
    """Oracle: by hand; the message comes before any worker starts."""
    path = tmp_path / "service.yaml"
    path.write_text(f"selection: {asked}\n", encoding="utf-8")
    with pytest.raises(ServeError, match=words):
        check_settings(Settings(bundles=bundles, config=path))


def test_a_configuration_that_fits(bundles, tmp_path):
    """Oracle: what was written."""
    path = tmp_path / "service.yaml"
    path.write_text("selection: {cross/int8: {none_threshold: 0.5, retriever: bi/int8}}\n", encoding="utf-8")
    check_settings(Settings(bundles=bundles, config=path))
    found = read_service_config(path).selection
    assert found is not None
    assert (found["cross/int8"].retriever, found["cross/int8"].k) == ("bi/int8", 10)
    path.write_text("selection: {cross/int8: {none_threshold: 3}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="none_threshold"):
        read_service_config(path)
