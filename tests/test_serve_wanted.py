"""Work ends when nobody waits for it: the client's time is over, or it hung up."""

import asyncio
import json

import httpx
import pytest
from test_serve_app import Echo

from serve.config import ServiceConfig
from serve.http.app import create_app

HELD, WANTED = "held", "unwanted"


async def beside_a_held_text(work) -> Echo:
    """`work` while the only thread is at another request's text, which must then be answered all the same."""
    echo = Echo()
    app = create_app({"echo/float32": echo}, "echo", ServiceConfig())
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
    ):
        held = asyncio.create_task(client.post("/predict", json={"inputs": HELD}))
        await asyncio.to_thread(echo.started.wait, 20)
        await work(app, client)
        metrics = (await client.get("/metrics")).text
        assert 'understudy_queued_requests{model="echo/float32"} 1.0' in metrics
        echo.gate.set()
        assert (await held).status_code == 200
    return echo


def test_a_client_that_waits_no_longer_frees_its_work():
    """Oracle: 504, and the engine's record of what it ran."""

    async def work(_, client):
        answer = await client.post("/predict", json={"inputs": WANTED}, headers={"X-Request-Timeout": "0.02"})
        assert (answer.status_code, answer.json()["error_type"]) == (504, "Timeout")
        assert "0.02 s" in answer.json()["error"]
        below = {"X-Request-Timeout": "0.02"}
        answer = await client.post("/v1/embeddings", json={"input": WANTED}, headers=below)
        assert answer.status_code == 422  # this model gives none, whatever the time

    assert WANTED not in asyncio.run(beside_a_held_text(work)).seen


def test_a_client_that_hangs_up_frees_its_work(caplog):
    """Oracle: the engine's record of what it ran; nothing in the log, no exception out of the application."""

    async def work(app, _):
        sent, read = [], asyncio.Event()
        body = json.dumps({"inputs": WANTED}).encode()

        async def receive():
            if not read.is_set():
                read.set()
                return {"type": "http.request", "body": body, "more_body": False}
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b"",
                 "app": app}  # fmt: skip
        await app(scope, receive, send)
        assert [message["status"] for message in sent if "status" in message] == [499]

    assert WANTED not in asyncio.run(beside_a_held_text(work)).seen
    assert not [record for record in caplog.records if record.name == "understudy.serve"]


def test_a_client_that_hangs_up_as_its_answer_comes():
    """Oracle: an answer or nobody there to have it; no cancellation is left; the next request is answered."""

    async def run():
        app = create_app({"echo/float32": (echo := Echo())}, "echo", ServiceConfig())
        echo.gate.set()
        async with app.router.lifespan_context(app):
            statuses = []
            for turns in range(40):
                statuses += await hang_up_after(app, turns)
                assert asyncio.current_task().cancelling() == 0
                await asyncio.sleep(0)
            assert statuses[0] == 499
            assert set(statuses) <= {200, 499}
            assert len(statuses) == 40
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
                assert (await client.post("/predict", json={"inputs": "x"})).status_code == 200

    asyncio.run(run())


async def hang_up_after(app, turns: int) -> list[int]:
    sent = []
    left = iter([{"type": "http.request", "body": b'{"inputs": "x"}', "more_body": False}])

    async def receive():
        if (message := next(left, None)) is not None:
            return message
        for _ in range(turns):
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        await asyncio.sleep(0)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b"", "app": app}
    await app(scope, receive, send)
    return [message["status"] for message in sent if "status" in message]


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_timeout_is_a_positive_number(value):
    """Oracle: 400, before anything is computed."""

    async def work(_, client):
        answer = await client.post("/predict", json={"inputs": WANTED}, headers={"X-Request-Timeout": value})
        assert (answer.status_code, "positive number" in answer.json()["error"]) == (400, True)

    assert WANTED not in asyncio.run(beside_a_held_text(work)).seen
