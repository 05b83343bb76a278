"""A model exchanged under load: no request fails, no answer is of two bundles, what does not fit changes nothing."""

import asyncio
import contextlib
import gc
import json
import logging
import shutil
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_bundles import LABELS, describe, make_bundle

from artifact.errors import ConfigError, ServeError
from artifact.manifest import open_artifact
from serve.batching.crew import Crew
from serve.batching.lane import ModelLane
from serve.config import ServiceConfig, read_service_config
from serve.http.app import create_app
from serve.keys import make_key
from serve.limits import Limits
from serve.metrics import Metrics
from serve.problem import Problem
from serve.runtime import Runtime
from serve.settings import home_from
from serve.swap.journal import FILE, Entry, Journal, Place
from serve.swap.shelf import NAME, Shelf, differences

ADMIN, ADMIN_ENTRY = make_key("operator", "admin")
CLIENT, CLIENT_ENTRY = make_key("shop", "client")
TEXTS = ["wake me at seven", "play some jazz", "will it rain tomorrow"]
FIXED = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """The bundles `one` and `two`, of other weights, and some that cannot take their place."""
    folder = tmp_path_factory.mktemp("shelf")
    for seed, name in enumerate(("one", "two", "damaged", "lacking", "relabelled")):
        make_bundle(folder / name, seed=10 * seed)
    make_bundle(folder / "embedder", task="embedding")
    content = bytearray((folder / "damaged/onnx/model.onnx").read_bytes())
    content[-20] ^= 1
    (folder / "damaged/onnx/model.onnx").write_bytes(content)
    described = describe("student")
    reseal(folder / "lacking", described | {"precisions": {"float32": "onnx/model.onnx"}})
    reseal(folder / "relabelled", described | {"labels": list(reversed(LABELS))})
    return folder


def reseal(directory: Path, description: dict[str, object]) -> None:
    from artifact.manifest import Request, seal

    (directory / "understudy.json").write_text(json.dumps(description), encoding="utf-8")
    request = Request(stage="export", version=1, config={"changed": str(directory)}, inputs={})
    seal(directory, kind="bundle", request=request, lineage={}, facts={})


def make_app(folder: Path, *, home: Path | None = None, started: str = "one", **config):
    bundle = folder / started
    engines = {
        f"student/{each}": Runtime.open(bundle, each, name=f"student/{each}", threads=1) for each in ("float32", "int8")
    }
    asked = {"swap_from": folder, "api_keys": (ADMIN_ENTRY, CLIENT_ENTRY), "limits": Limits(queue_seconds=1000)}
    return create_app(engines, "student/int8", ServiceConfig(**(asked | config)), threads=2, home=home)


@contextlib.asynccontextmanager
async def asking(app, key: str = ADMIN) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", headers=headers) as client,
    ):
        yield client


async def swap(client: httpx.AsyncClient, bundle: object, model: object = "student") -> httpx.Response:
    return await client.post("/admin/swap", json={"model": model, "bundle": bundle})


async def scores_from(client: httpx.AsyncClient, text: str) -> dict[str, float]:
    answer = await client.post("/predict", json={"inputs": text, "raw_scores": True})
    assert answer.status_code == 200, answer.text
    return {item["label"]: item["score"] for item in answer.json()}


def logits_of(directory: Path, text: str) -> dict[str, float]:
    logits = Runtime.open(directory, "int8", threads=1).run([text]).logits[0]
    return dict(zip(LABELS, logits.tolist(), strict=True))


def same(left: dict[str, float], right: dict[str, float]) -> bool:
    return all(abs(left[label] - right[label]) < 1e-4 for label in LABELS)


@pytest.mark.long
def test_fifty_swaps_under_load(shelf):
    """Oracle: each bundle's own logits of each text; every answer to three texts is wholly of one of them."""
    expected = {name: [logits_of(shelf / name, text) for text in TEXTS] for name in ("one", "two")}
    assert not any(same(*pair) for pair in zip(expected["one"], expected["two"], strict=True))
    served = {"one": 0, "two": 0}

    async def ask(client: httpx.AsyncClient, done: asyncio.Event) -> None:
        while not done.is_set():
            answer = await client.post("/predict", json={"inputs": TEXTS, "raw_scores": True})
            assert answer.status_code == 200, answer.text
            rows = [{item["label"]: item["score"] for item in row} for row in answer.json()]
            (name,) = [name for name, logits in expected.items() if all(map(same, rows, logits))]
            served[name] += 1

    async def run() -> list[str]:
        done, outcomes = asyncio.Event(), []
        async with asking(make_app(shelf)) as client:
            clients = [asyncio.create_task(ask(client, done)) for _ in range(3)]
            for number in range(50):
                answer = await swap(client, ("two", "one")[number % 2])
                outcomes.append((answer.status_code, answer.json()["to"]))
                assert same(await scores_from(client, TEXTS[0]), expected[outcomes[-1][1]][0])
            done.set()
            await asyncio.gather(*clients)
            metrics = (await client.get("/metrics")).text
        assert 'understudy_swaps_total{model="student",outcome="done"} 50.0' in metrics
        assert 'understudy_queued_tokens{model="student/int8"} 0.0' in metrics
        return outcomes

    assert asyncio.run(run()) == [(200, name) for _ in range(25) for name in ("two", "one")]
    assert min(served.values()) > 0


def test_a_swap_says_what_changed_and_is_taken_back(shelf):
    """Oracle: the manifests' digests, and the bundles' own logits after each step."""
    digests = {name: open_artifact(shelf / name).digest for name in ("one", "two")}

    async def run() -> None:
        async with asking(make_app(shelf)) as client:
            first = (await swap(client, "two")).json()
            assert first.pop("seconds") >= 0
            told = {"model": "student", "from": "original", "to": "two"}
            assert first == told | {"digests": {"from": digests["one"], "to": digests["two"]}}
            info = (await client.get("/info")).json()
            assert info["digests"] == dict.fromkeys(("student/float32", "student/int8"), digests["two"])
            assert info["model_sha"] == digests["two"]
            assert same(await scores_from(client, TEXTS[0]), logits_of(shelf / "two", TEXTS[0]))
            assert (await swap(client, "two")).json()["from"] == "two"  # nothing to do, and `previous` stays
            back = (await swap(client, "previous")).json()
            assert (back["from"], back["to"]) == ("two", "original")
            assert same(await scores_from(client, TEXTS[0]), logits_of(shelf / "one", TEXTS[0]))
            assert (await swap(client, "previous")).json()["to"] == "two"
            assert (await swap(client, "original")).json()["to"] == "original"
            lines = (await client.get("/metrics")).text.splitlines()
        for name, workers in (("one", 1.0), ("two", 0.0)):
            assert f'understudy_bundle_info{{digest="{digests[name]}",model="student/int8"}} {workers}' in lines

    asyncio.run(run())


@pytest.mark.parametrize(
    ("bundle", "status", "words"),
    [
        ("absent", 404, "there is no bundle 'absent'"),
        ("damaged", 422, "onnx/model.onnx was changed"),
        ("lacking", 409, "it lacks the precision int8"),
        ("relabelled", 409, "its labels are in another order"),
        ("embedder", 409, "its task is 'embedding', not 'classification'"),
        ("previous", 409, "there is no previous bundle"),
        (7, 422, "`bundle`"),
    ],
)
def test_what_does_not_fit_changes_nothing(shelf, bundle, status, words):
    """Oracle: the status and the reason; the same answers after as before, and no path of the server in any word."""

    async def run() -> None:
        async with asking(make_app(shelf)) as client:
            before = await scores_from(client, TEXTS[0])
            answer = await swap(client, bundle)
            assert answer.status_code == status
            assert words in answer.json()["error"]
            assert str(shelf) not in answer.text
            assert await scores_from(client, TEXTS[0]) == before
            assert (await client.get("/health")).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../one",
        "one/../two",
        "/etc",
        "one/",
        "./one",
        ".x",
        "one\0",
        "..%2fone",
        "a\\b",
        "é",
        "~",
        "x" * 129,
    ],
)
def test_names_that_are_paths_reach_nothing(shelf, name):
    """Oracle: 404 for each, although several of them would be a bundle if they were read as paths."""

    async def run() -> None:
        async with asking(make_app(shelf)) as client:
            answer = await swap(client, name)
            assert answer.status_code == 404
            assert answer.text.isascii()

    asyncio.run(run())


@FIXED
@given(st.text(max_size=20))
def test_any_name_stays_on_the_shelf(tmp_path_factory, name):
    """Oracle: pathlib: what is found lies directly in the folder."""
    folder = tmp_path_factory.getbasetemp() / "any"
    (folder / "within").mkdir(parents=True, exist_ok=True)
    found = folder.resolve() / "nowhere"
    with contextlib.suppress(Problem):
        found = Shelf(folder=folder, original={}).find("student", name)
    assert found.parent == folder.resolve()
    assert NAME.fullmatch(name) is None or "/" not in name


def test_a_link_out_of_the_shelf_is_no_bundle(shelf, tmp_path):
    """Oracle: 404, as if it were not there; a link to a neighbour on the shelf is that neighbour."""
    (tmp_path / "shelf/here").mkdir(parents=True)
    (tmp_path / "shelf/out").symlink_to(shelf / "one")
    (tmp_path / "shelf/latest").symlink_to(tmp_path / "shelf/here")
    found = Shelf(folder=tmp_path / "shelf", original={})
    with pytest.raises(Problem, match="no bundle 'out'"):
        found.find("student", "out")
    assert found.find("student", "latest") == (tmp_path / "shelf/here").resolve()


def test_who_may_swap(shelf):
    """Oracle: 401 without a key, 403 with a client's, without an admin's in the config, or without a shelf."""

    async def status_of(app, key: str) -> tuple[int, str]:
        async with asking(app, key) as client:
            answer = await swap(client, "two")
            return answer.status_code, answer.json().get("error", "")

    assert asyncio.run(status_of(make_app(shelf), ADMIN))[0] == 200
    assert asyncio.run(status_of(make_app(shelf), "wrong"))[0] == 401
    assert asyncio.run(status_of(make_app(shelf), CLIENT)) == (403, "this takes an API key of role admin")
    for keys in ((), (CLIENT_ENTRY,)):
        status, message = asyncio.run(status_of(make_app(shelf, api_keys=keys), CLIENT))
        assert (status, "the config of this service has none" in message) == (403, True)
    status, message = asyncio.run(status_of(make_app(shelf, swap_from=None), ADMIN))
    assert (status, "`swap_from`" in message) == (403, True)


def test_models_that_cannot_be_named(shelf):
    """Oracle: 404: of no such model, and of one precision alone, since a bundle holds them all."""

    async def run() -> None:
        async with asking(make_app(shelf)) as client:
            for model in ("nobody", "student/int8", "", "default"):
                assert (await swap(client, "two", model)).status_code == 404

    asyncio.run(run())


def test_one_swap_at_a_time(shelf, tmp_path):
    """Oracle: of two that are asked at once, one is done and one hears 409; the same when another worker is at it."""

    async def run() -> None:
        async with asking(make_app(shelf, home=tmp_path)) as client:
            answers = await asyncio.gather(swap(client, "two"), swap(client, "two"))
            assert sorted(answer.status_code for answer in answers) == [200, 409]
            with Journal(tmp_path).held():
                answer = await swap(client, "one")
            assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
            assert (await swap(client, "one")).status_code == 200

    asyncio.run(run())


def test_a_graph_that_does_not_run_is_refused(shelf, tmp_path, caplog):
    """Oracle: 422 and the old answers; its lanes have left the crew, its message is nowhere."""
    import onnx

    shutil.copytree(shelf / "one", tmp_path / "broken")
    model = onnx.load(tmp_path / "broken/onnx/model.onnx")
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    small = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table)[:1], "table")  # any word is then beyond it
    table.CopyFrom(small)
    (tmp_path / "broken/onnx/model.onnx").write_bytes(model.SerializeToString())
    reseal(tmp_path / "broken", describe("student"))
    shutil.copytree(shelf / "one", tmp_path / "one")

    async def run() -> None:
        async with asking(make_app(tmp_path)) as client:
            before = await scores_from(client, TEXTS[0])
            answer = await swap(client, "broken")
            assert (answer.status_code, answer.json()["error"]) == (422, "'broken' does not run")
            assert await scores_from(client, TEXTS[0]) == before

    asyncio.run(run())
    assert "warm" not in caplog.text.replace("warm_up", "")


def test_workers_follow_one_another(shelf, tmp_path, caplog):
    """Oracle: the digest each serves: after a swap at one, the other has it once it looks; so has one that starts."""
    digests = {name: open_artifact(shelf / name).digest for name in ("one", "two")}

    async def digest_at(client: httpx.AsyncClient) -> str:
        return (await client.get("/info")).json()["model_sha"]

    async def run() -> None:
        first, second = make_app(shelf, home=tmp_path), make_app(shelf, home=tmp_path)
        async with asking(first) as one, asking(second) as two:
            assert (await swap(one, "two")).status_code == 200
            await second.state.swapper.follow()
            assert [await digest_at(each) for each in (one, two)] == [digests["two"]] * 2
            async with asking(make_app(shelf, home=tmp_path)) as late:
                assert await digest_at(late) == digests["two"]
            assert (await swap(two, "previous")).json()["to"] == "original"
            await first.state.swapper.follow()
            assert await digest_at(one) == digests["one"]
            metrics = (await one.get("/metrics")).text
            assert 'understudy_swaps_total{model="student",outcome="followed"} 1.0' in metrics

    asyncio.run(run())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("content", ["absent", "two", "{", '{"models": 1}'])
def test_what_cannot_be_followed_leaves_the_worker_as_it_is(shelf, tmp_path, caplog, content):
    """Oracle: the answers of the first bundle, health, one error in the log; of another content than was swapped to."""

    async def run() -> None:
        app = make_app(shelf, home=tmp_path)
        async with asking(app) as client:
            if content in ("absent", "two"):
                wanted = Place(bundle=content, digest="of another bundle")
                Journal(tmp_path).write("student", Entry(now=wanted, before=wanted))
            else:
                (tmp_path / FILE).write_text(content)
            await app.state.swapper.follow()
            await app.state.swapper.follow()
            assert same(await scores_from(client, TEXTS[0]), logits_of(shelf / "one", TEXTS[0]))
            assert (await client.get("/health")).status_code == 200

    asyncio.run(run())
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "cannot follow" in record.getMessage()


def test_a_swap_back_must_find_what_it_left(shelf, tmp_path):
    """Oracle: 409 when the folder now holds another bundle than was served from it."""
    for name in ("one", "two"):
        shutil.copytree(shelf / name, tmp_path / name)

    async def run() -> None:
        async with asking(make_app(tmp_path)) as client:
            await swap(client, "two")
            await swap(client, "original")
            shutil.rmtree(tmp_path / "two")
            shutil.copytree(shelf / "one", tmp_path / "two")
            answer = await swap(client, "previous")
            assert (answer.status_code, "no longer the bundle" in answer.json()["error"]) == (409, True)

    asyncio.run(run())


def test_the_old_model_is_freed(shelf):
    """Oracle: a weak reference to it, dead after the swap without the garbage collector."""

    async def run() -> None:
        app = make_app(shelf)
        async with asking(app) as client:
            await scores_from(client, TEXTS[0])
            await swap(client, "two")  # the first engines are also held by the list this test made
            old = weakref.ref(app.state.swapper._desk.roster.lanes["student/int8"].engine)
            await scores_from(client, TEXTS[0])
            gc.collect()
            gc.disable()
            try:
                await swap(client, "one")
                await scores_from(client, TEXTS[0])
                assert old() is None
            finally:
                gc.enable()

    asyncio.run(run())


def test_a_lane_that_was_replaced_answers_a_late_step(shelf):
    """Oracle: the engine's own logits, asked of a lane after it was drained; then it has left its crew again."""
    engine = Runtime.open(shelf / "one", "int8", threads=1)

    async def run() -> np.ndarray:
        crew = Crew(1)
        lane = ModelLane(engine, crew, Limits(), Metrics())
        await lane.drain()
        await lane.drain()
        assert not crew._posts
        answer = await lane.run(TEXTS)
        assert not crew._posts
        await asyncio.to_thread(crew.close)
        return answer.outputs.logits

    np.testing.assert_allclose(asyncio.run(run()), engine.run(TEXTS).logits, atol=1e-5)


def test_differences_name_all_that_clients_would_notice(shelf):
    """Oracle: a description changed in one field at a time."""
    served = Runtime.open(shelf / "one", threads=1).bundle.info
    assert differences(served, served, ["float32", "int8"]) == []
    assert differences(served, served.model_copy(update={"max_tokens": 3, "name": "other"}), ["int8"]) == []
    for change in (
        {"task": "ranking"}, {"problem": "multi-label"}, {"labels": LABELS[:-1]}, {"labels": LABELS[::-1]},
        {"embedding_size": 1}, {"precisions": {"float32": "x"}}, {"outputs": {}},
    ):  # fmt: skip
        assert len(differences(served, served.model_copy(update=change), ["int8"])) == 1, change


def test_settings_of_swaps(shelf, tmp_path):
    """Oracle: a folder seen from the config's own; several workers need a home, and agree there once they have it."""
    path = tmp_path / "service.yaml"
    path.write_text("swap_from: bundles\n")
    with pytest.raises(ConfigError, match="there is no folder"):
        read_service_config(path)
    shutil.copytree(shelf / "one", tmp_path / "bundles/one")
    config = read_service_config(path)
    assert config.swap_from == (tmp_path / "bundles").resolve()
    with pytest.raises(ServeError, match="2 workers"):
        home_from({}, 2, config)
    assert home_from({}, 1, config) is None
    assert home_from({}, 2, ServiceConfig()) is None
    assert home_from({"UNDERSTUDY_HOME": str(tmp_path / "home")}, 2, config) == tmp_path / "home"
