"""Cascade and shadow over HTTP: who answered, what is counted, and what happens where the teacher has no room."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from serve_bundles import LABELS, WORDS, make_bundle
from serve_client import open_client

from artifact.errors import ConfigError, ServeError
from serve.batching.crew import Crew
from serve.batching.lane import Answer, ModelLane
from serve.config import ServiceConfig, read_service_config
from serve.engine import Outputs, scores_of
from serve.http.app import create_app
from serve.limits import Limits
from serve.metrics import Metrics
from serve.problem import Problem
from serve.runtime import Runtime
from serve.settings import Settings, check_settings
from serve.trust.calibration import calibrate
from serve.trust.cascade import Cascade, CascadeEngine
from serve.trust.confidence import confidence_of
from serve.trust.config import CascadeConfig, ShadowConfig
from serve.trust.metrics import TrustMetrics
from serve.trust.shadow import PENDING, Shadow
from serve.trust.watchers import DomainWatch

STUDENT, TEACHER = "student/int8", "teacher/float32"
TEXTS = [" ".join(np.random.default_rng(row).choice(WORDS, size=1 + row % 4)) for row in range(40)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {name: make_bundle(folder / name, name=name, seed=seed) for seed, name in ((0, "student"), (7, "teacher"))}


@pytest.fixture(scope="module")
def engines(bundles) -> dict[str, Runtime]:
    opened = [
        Runtime.open(bundles["student"], "int8", threads=1), Runtime.open(bundles["teacher"], "float32", threads=1),
    ]  # fmt: skip
    return {engine.name: engine for engine in opened}


@pytest.fixture(scope="module")
def threshold(engines) -> float:
    """Between the two middle texts, far from both, so that rounding in another batch decides nothing."""
    ordered = np.sort(confidence_of(engines[STUDENT].run(TEXTS).logits))
    gaps = np.diff(ordered[10:30])
    return float(ordered[10 + gaps.argmax()] + gaps.max() / 2)


def config_of(threshold: float, **more) -> ServiceConfig:
    cascade = CascadeConfig(student=STUDENT, teacher=TEACHER, threshold=threshold)
    return ServiceConfig(cascades={"cascade": cascade}, **more)


def read_metrics(client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def expected_scores(engines, threshold) -> tuple[list[str], np.ndarray]:
    student, teacher = (engines[name].run(TEXTS).logits for name in (STUDENT, TEACHER))
    sure = confidence_of(student) > threshold
    assert 10 <= sure.sum() <= 30
    logits = np.where(sure[:, None], student, teacher)
    return [STUDENT if each else TEACHER for each in sure], scores_of(logits, "single-label")


def test_each_text_is_answered_by_who_should(engines, threshold):
    """Oracle: both models asked everything, and each row chosen by the rule; alone and in batches."""
    answered_by, scores = expected_scores(engines, threshold)
    with open_client(create_app(engines, STUDENT, config_of(threshold))) as client:
        for text, by, row in zip(TEXTS, answered_by, scores, strict=True):
            answer = client.post("/predict", {"inputs": text, "model": "cascade"})
            assert answer.headers["x-answered-by"] == by
            assert float(answer.headers["x-confidence"]) == pytest.approx(row.max(), abs=1e-5)
            assert answer.headers["x-model"] == "cascade"
            assert [item["score"] for item in answer.json()] == pytest.approx(sorted(row, reverse=True), abs=1e-5)
            assert answer.json()[0]["label"] == LABELS[row.argmax()]
        batch = client.post("/predict", {"inputs": [[text] for text in TEXTS[:16]]}, **{"X-Model": "cascade"})
        assert batch.headers["x-answered-by"].split(",") == answered_by[:16]
        assert [row[0]["label"] for row in batch.json()] == [LABELS[column] for column in scores[:16].argmax(axis=1)]
        many = client.post("/predict", {"inputs": [[text] for text in TEXTS], "model": "cascade"})
        assert "x-answered-by" not in many.headers
        counted = read_metrics(client)
    both = answered_by * 2 + answered_by[:16]
    for by in (STUDENT, TEACHER):
        name = f'understudy_cascade_texts_total{{answered_by="{by}",cascade="cascade"}}'
        assert counted[name] == both.count(by)
    asked = answered_by.count(TEACHER) + 2
    assert counted['understudy_cascade_escalations_total{cascade="cascade"}'] == asked


@pytest.mark.parametrize(("threshold", "by"), [(0.0, STUDENT), (1.0, TEACHER)])
def test_the_ends_are_one_model(engines, threshold, by):
    """Oracle: the model itself."""
    with open_client(create_app(engines, STUDENT, config_of(threshold))) as client:
        body = {"inputs": [[text] for text in TEXTS[:9]]}
        cascade = client.post("/predict", body | {"model": "cascade"})
        alone = client.post("/predict", body | {"model": by})
    assert set(cascade.headers["x-answered-by"].split(",")) == {by}
    for found, expected in zip(cascade.json(), alone.json(), strict=True):
        assert [item["label"] for item in found] == [item["label"] for item in expected]
        assert [item["score"] for item in found] == pytest.approx([item["score"] for item in expected], abs=1e-6)


def test_what_a_cascade_is_to_the_other_routes(engines, threshold):
    """Oracle: it is a classifier of the student's labels and no embedding model; it may be the default."""
    with open_client(create_app(engines, "cascade", config_of(threshold))) as client:
        info = client.get("/info").json()
        assert info["default"] == "cascade"
        about = {model["id"]: model for model in info["models"]}["cascade"]
        assert (about["kind"], about["labels"], about["embedding_size"]) == ("classifier", list(LABELS), 0)
        assert about["cascade"] == {"student": STUDENT, "teacher": TEACHER, "threshold": threshold}
        assert client.post("/predict", {"inputs": "rain"}).headers["x-model"] == "cascade"
        assert client.post("/embed", {"inputs": "rain"}).status_code == 422
        assert client.post("/rerank", {"query": "rain", "texts": ["jazz"]}).status_code == 422
        tokens = client.post("/tokenize", {"inputs": "rain"}).json()
        assert tokens == client.post("/tokenize", {"inputs": "rain", "model": STUDENT}).json()
        too_long = client.post("/predict", {"inputs": "rain " * 40, "truncate": False})
        assert too_long.status_code == 413
        assert "x-answered-by" not in client.post("/predict", {"inputs": "rain", "model": STUDENT}).headers


def test_a_teacher_without_room(engines):
    """Oracle: 429 as its lane tells it, whose queue is full; with `degrade` the student's answer, which is counted."""

    async def ask(*, degrade: bool) -> Answer:
        crew, metrics = Crew(1), Metrics()
        try:
            student = ModelLane(engines[STUDENT], crew, Limits(), metrics)
            teacher = ModelLane(engines[TEACHER], crew, Limits(queue_tokens=1), metrics)
            teacher.queued_tokens = 2
            pair = {"student": engines[STUDENT], "teacher": engines[TEACHER]}
            engine = CascadeEngine(name="cascade", threshold=1.0, **pair)
            cascade = Cascade(engine, student, teacher, TrustMetrics(metrics.registry), degrade=degrade)
            answer = await cascade.run(TEXTS[:3])
            await cascade.drain()
            assert b'understudy_cascade_degraded_texts_total{cascade="cascade"} 3.0' in metrics.render()
            return answer
        finally:
            crew.close()

    with pytest.raises(Problem) as refused:
        asyncio.run(ask(degrade=False))
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    answer = asyncio.run(ask(degrade=True))
    assert answer.answered_by == (STUDENT,) * 3
    np.testing.assert_allclose(answer.outputs.logits, engines[STUDENT].run(TEXTS[:3]).logits, atol=1e-6)


def test_draining_waits_for_what_lies_between_two_models(engines):
    """Oracle: the order of events; the teacher is asked after the drain began, and the drain ends after its answer."""

    async def scenario() -> list[str]:
        crew, metrics, events = Crew(1), Metrics(), []
        try:
            student, teacher = (ModelLane(engines[name], crew, Limits(), metrics) for name in (STUDENT, TEACHER))
            engine = CascadeEngine(name="cascade", threshold=1.0, student=engines[STUDENT], teacher=engines[TEACHER])
            cascade = Cascade(engine, student, teacher, TrustMetrics(metrics.registry))

            async def drain():
                await cascade.drain()
                events.append("drained")

            async def ask():
                await cascade.run(TEXTS[:3])
                events.append("answered")

            asked = asyncio.create_task(ask())
            await asyncio.sleep(0)
            await asyncio.gather(asyncio.create_task(drain()), asked)
            return events
        finally:
            crew.close()

    assert asyncio.run(scenario()) == ["answered", "drained"]


def write_service(folder: Path, **tree) -> Path:
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_calibration_is_of_what_is_served(bundles, engines, tmp_path):
    """Oracle: the digests; the file is found beside the service's own."""
    found = calibrate(engines[STUDENT], engines[TEACHER], TEXTS, level=0.2, texts_digest="0" * 64)
    (tmp_path / "calibration.json").write_text(found.model_dump_json())
    pair = {"student": STUDENT, "teacher": TEACHER}
    path = write_service(tmp_path, cascades={"cascade": pair | {"calibration": "calibration.json"}})
    config = read_service_config(path)
    served = {"student": bundles["student"], "teacher": bundles["teacher"]}
    check_settings(Settings(bundles=served, config=path, default="cascade"))
    with open_client(create_app(engines, "cascade", config)) as client:
        assert client.post("/predict", {"inputs": "rain"}).is_success
    other = make_bundle(tmp_path / "other", name="student", seed=3)
    with pytest.raises(ServeError, match="understudy calibrate"):
        check_settings(Settings(bundles=served | {"student": other}, config=path))
    swapped = write_service(
        tmp_path,
        cascades={
            "cascade": pair | {"student": "student/float32", "threshold": None} | {"calibration": "calibration.json"}
        },
    )
    with pytest.raises(ServeError, match="was made with the student student/int8"):
        check_settings(Settings(bundles=served, config=swapped))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("student", {}, "cannot be called 'student'"),
        ("default", {}, "cannot be called 'default'"),
        ("a/b", {}, "cannot be called 'a/b'"),
        ("cascade", {"student": "nobody/int8"}, "names 'nobody/int8', which is not served"),
        ("cascade", {"threshold": None, "calibration": "absent.json"}, "there is no calibration"),
    ],
)
def test_cascades_that_do_not_fit(engines, name, changes, message):
    """Oracle: the message, which names what is wrong."""
    asked = {"student": STUDENT, "teacher": TEACHER, "threshold": 0.5} | changes
    config = ServiceConfig(cascades={name: CascadeConfig(**asked)})
    with pytest.raises(ServeError, match=message):
        create_app(engines, STUDENT, config)


def test_models_that_cannot_be_compared(engines, tmp_path):
    """Oracle: a ranking bundle has one label."""
    ranking = Runtime.open(make_bundle(tmp_path / "ranking", name="ranking", task="ranking"), "float32", threads=1)
    cascade = CascadeConfig(student=STUDENT, teacher=ranking.name, threshold=0.5)
    with pytest.raises(ServeError, match="does not choose one of several labels"):
        create_app(engines | {ranking.name: ranking}, STUDENT, ServiceConfig(cascades={"cascade": cascade}))
    shadow = ShadowConfig(student="nobody", teacher=TEACHER)
    with pytest.raises(ServeError, match="the shadow names 'nobody'"):
        create_app(engines, STUDENT, ServiceConfig(shadow=shadow))


def test_a_threshold_or_a_calibration(tmp_path):
    """Oracle: one of the two, and neither more nor less."""
    for more in ({}, {"threshold": 0.5, "calibration": "a.json"}, {"threshold": 1.5}):
        path = write_service(tmp_path, cascades={"cascade": {"student": STUDENT, "teacher": TEACHER} | more})
        with pytest.raises(ConfigError, match="cascades"):
            read_service_config(path)


def wait_until(client, condition) -> None:
    """Let the event loop, which runs during requests alone, go on until `condition`."""
    for _ in range(2_000):
        if condition():
            return
        client.get("/health")
    pytest.fail("it never came: " + client.get("/metrics").text)


def shadow_counts(client) -> dict[str, float]:
    found = read_metrics(client)
    where = f'{{student="{STUDENT}",teacher="{TEACHER}"}}'
    return {
        name.removeprefix("understudy_shadow_").removesuffix(where): value
        for name, value in found.items()
        if name.startswith("understudy_shadow_") and name.endswith(where)
    }


def test_the_shadow_tells_the_agreement(engines, threshold):
    """Oracle: both models asked everything here; the interval is Wilson's of that count."""
    from scipy import stats

    config = config_of(threshold, shadow=ShadowConfig(student=STUDENT, teacher=TEACHER, share=1.0, window=20))
    student, teacher = (engines[name].run(TEXTS).logits.argmax(axis=1) for name in (STUDENT, TEACHER))
    agreed = student == teacher
    assert 0 < agreed.sum() < len(TEXTS)
    with open_client(create_app(engines, STUDENT, config)) as client:
        for number, text in enumerate(TEXTS, start=1):
            client.post("/predict", {"inputs": text})
            client.post("/predict", {"inputs": text, "model": TEACHER})  # no text of the student's
            wait_until(client, lambda: shadow_counts(client).get("texts_total") == number)  # noqa: B023 - run at once
        found = shadow_counts(client)
        drift = read_metrics(client)[f'understudy_score_drift{{model="{STUDENT}"}}']
    assert (found["texts_total"], found["agreed_total"]) == (len(TEXTS), agreed.sum())
    last = int(agreed[-20:].sum())
    interval = stats.binomtest(last, 20).proportion_ci(0.95, method="wilson")
    assert found["agreement"] == last / 20
    assert (found["agreement_low"], found["agreement_high"]) == pytest.approx((interval.low, interval.high))
    confidence = confidence_of(engines[STUDENT].run(TEXTS).logits)
    assert drift == pytest.approx(stats.ks_2samp(confidence[:20], confidence[20:], method="exact").statistic)


@contextlib.contextmanager
def busy_shadow(engines, share: float) -> Iterator[tuple[Shadow, dict[str, ModelLane], Callable[[], float]]]:
    """A shadow while something waits at the teacher's lane, its lanes, and how many texts it dropped."""
    crew, metrics = Crew(1), Metrics()
    lanes = {name: ModelLane(engine, crew, Limits(), metrics) for name, engine in engines.items()}
    lanes[TEACHER].queued_tokens = 5
    trusted = TrustMetrics(metrics.registry)
    config = ShadowConfig(student=STUDENT, teacher=TEACHER, share=share)
    try:
        yield (
            Shadow(config, lambda: lanes, trusted),
            lanes,
            trusted.shadow_dropped.labels(STUDENT, TEACHER, "busy")._value.get,
        )
    finally:
        crew.close()


def answer_of(outputs: Outputs) -> Answer:
    return Answer(outputs=outputs, tokenization=0, queue=0, inference=0)


def test_the_shadow_waits_while_anything_is_queued(engines):
    """Oracle: texts drawn are kept to a bound, the rest is dropped and counted; there is no loop to ask anything in."""
    answer = answer_of(engines[STUDENT].run(TEXTS))
    with busy_shadow(engines, share=1.0) as (shadow, lanes, count_dropped):
        for _ in range(3):
            shadow(lanes[STUDENT], TEXTS, answer)
        assert count_dropped() == 3 * len(TEXTS) - PENDING
        # Another student: what was kept is of the last one, and so is forgotten.
        lanes[STUDENT].engine = replace(engines[STUDENT])
        shadow(lanes[STUDENT], TEXTS, answer)
        assert len(shadow._pending) == len(TEXTS)


def test_the_shadow_draws_the_share_it_is_told(engines):
    """Oracle: the binomial's own spread, five deviations wide."""
    answer = answer_of(engines[STUDENT].run(TEXTS))
    with busy_shadow(engines, share=0.2) as (shadow, lanes, count_dropped):
        for _ in range(100):
            shadow(lanes[STUDENT], TEXTS, answer)
        assert abs(count_dropped() + PENDING - 800) < 5 * np.sqrt(4000 * 0.2 * 0.8)


def test_a_failing_teacher_hurts_nobody(engines):
    """Oracle: the student's answers go on; what failed is counted and never raised."""

    jazz = engines[TEACHER].tokenizer.token_to_id("jazz")

    class Failing:
        def __getattr__(self, name):
            return getattr(engines[TEACHER], name)

        def compute(self, encodings, *, wide):
            if jazz in encodings[0].ids:
                raise RuntimeError("secret")
            return engines[TEACHER].compute(encodings, wide=wide)

    config = ServiceConfig(shadow=ShadowConfig(student=STUDENT, teacher=TEACHER, share=1.0))
    broken = {STUDENT: engines[STUDENT], TEACHER: Failing()}
    failed = f'understudy_shadow_dropped_total{{reason="failed",student="{STUDENT}",teacher="{TEACHER}"}}'
    with open_client(create_app(broken, STUDENT, config)) as client:
        assert client.post("/predict", {"inputs": "jazz"}).is_success
        wait_until(client, lambda: read_metrics(client).get(failed) == 1)
        client.post("/predict", {"inputs": "rain"})
        wait_until(client, lambda: shadow_counts(client).get("texts_total") == 1)


def test_the_rate_of_texts_out_of_domain():
    """Oracle: counted by hand, over the last four."""

    class Engine:
        name = "student/int8"
        domain_threshold = 2.0

    class Lane:
        engine = Engine()

    metrics = Metrics()
    watch = DomainWatch(TrustMetrics(metrics.registry), window=4)

    def answer(distances) -> Answer:
        rows = None if distances is None else np.array(distances, dtype=np.float32)
        nothing = np.zeros((0, 0), dtype=np.float32)
        return answer_of(Outputs(logits=nothing, embeddings=nothing, tokens=np.zeros(0, dtype=np.int64), domain=rows))

    for distances, rate in (([1, 3], 0.5), ([3, 3], 0.75), ([2.0], 0.75), (None, 0.75), ([1, 1, 1], 0.0)):
        watch(Lane(), [], answer(distances))
        assert f'understudy_out_of_domain_rate{{model="student/int8"}} {rate}'.encode() in metrics.render()
