"""Spans are read as OpenTelemetry's own exporters hand them over; metrics as Prometheus reads them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from serve_bundles import make_bundle
from serve_client import Client, open_client

from artifact.errors import ConfigError
from serve.config import ServiceConfig, Telemetry, follow_environment
from serve.http.app import create_app
from serve.http.telemetry import trace
from serve.runtime import Runtime

TEXT = "wake me at seven"
NAME = "student/float32"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Runtime:
    return Runtime.open(make_bundle(tmp_path_factory.mktemp("bundles") / "student"), threads=1)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(engine, spans) -> Iterator[Client]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = create_app({engine.name: engine}, engine.name, ServiceConfig())
    trace(app, provider)
    with open_client(app) as opened:
        yield opened


def test_a_span_says_what_the_answer_says(client, spans):
    """Oracle: the answer's status and headers, and OpenTelemetry's names for what HTTP has."""
    answer = client.post("/predict", {"inputs": TEXT})
    (span,) = spans.get_finished_spans()
    assert span.name == "POST /predict"
    assert span.kind is SpanKind.SERVER
    assert span.parent is None
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "understudy.model": NAME,
        "understudy.tokenization_ms": float(answer.headers["x-tokenization-time"]),
        "understudy.queue_ms": float(answer.headers["x-queue-time"]),
        "understudy.inference_ms": float(answer.headers["x-inference-time"]),
    }


def test_a_span_joins_the_callers_trace(client, spans):
    """Oracle: the W3C recommendation's example of a `traceparent`; one that is broken begins a trace of its own."""
    client.post("/predict", {"inputs": TEXT}, traceparent=f"00-{TRACE}-{CALLER}-01")
    client.post("/predict", {"inputs": TEXT}, traceparent="00-zz-zz-01")
    joined, own = spans.get_finished_spans()
    assert format_trace_id(joined.context.trace_id) == TRACE
    assert format_span_id(joined.parent.span_id) == CALLER
    assert own.parent is None
    # The caller chose not to sample: neither do we.
    client.post("/predict", {"inputs": TEXT}, traceparent=f"00-{TRACE}-{CALLER}-00")
    assert len(spans.get_finished_spans()) == 2


def test_spans_hold_nothing_that_a_client_made_up(client, spans):
    """Oracle: the texts, paths and methods sent, which no span holds; probes and scrapers leave none."""
    client.request("GET", f"/{TEXT}")
    client.request(
        "POST", "/predict", content=b'{"inputs": 1, "x": "wake"}', headers={"content-type": "application/json"}
    )
    client.request("WAKE", "/predict")
    client.get("/metrics")
    client.get("/health")
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["GET other", "POST /predict", "_OTHER /predict"]
    assert [span.attributes["http.response.status_code"] for span in found] == [404, 422, 405]
    assert "wake" not in "".join(span.to_json() for span in found).lower()


class Broken(Runtime):
    """An engine whose inference always fails."""

    armed: ClassVar = False

    def compute(self, encodings, *, wide):
        if Broken.armed:
            raise RuntimeError(TEXT)
        return super().compute(encodings, wide=wide)


def test_a_fault_is_a_span_with_an_error(engine, spans):
    """Oracle: OpenTelemetry: a server's span is an error from status 500 on; the exception's message is not in it."""
    broken = Broken.open(engine.bundle, threads=1)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = create_app({broken.name: broken}, broken.name, ServiceConfig())
    trace(app, provider)
    with open_client(app) as client:
        Broken.armed = True
        assert client.post("/predict", {"inputs": TEXT}).status_code == 500
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert not span.events
    assert TEXT not in span.to_json()


class Collector(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        self.received.append((self.path, self.rfile.read(length)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


def test_spans_reach_a_collector_before_the_service_ends(engine):
    """Oracle: OTLP over HTTP as its schema reads it: one span, of our service, at the path the protocol names."""
    with HTTPServer(("127.0.0.1", 0), Collector) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.01)
        config = ServiceConfig(
            telemetry=Telemetry(endpoint=f"http://127.0.0.1:{server.server_port}", service_name="ours")
        )
        with open_client(create_app({engine.name: engine}, engine.name, config)) as client:
            client.post("/predict", {"inputs": TEXT})
        server.shutdown()
    ((path, body),) = Collector.received
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert path == "/v1/traces"
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "ours"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["POST /predict"]
    assert not [thread for thread in threading.enumerate() if "Otel" in thread.name]


def test_where_the_collector_is(tmp_path):
    """Oracle: the configuration first, then OpenTelemetry's variable, else none."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    named = ServiceConfig(telemetry=Telemetry(endpoint="https://other"))
    assert follow_environment(ServiceConfig(), {}).telemetry is None
    assert follow_environment(ServiceConfig(), environment).telemetry == Telemetry(endpoint="http://collector:4318")
    assert follow_environment(named, environment) is named
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        follow_environment(ServiceConfig(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector"})


def test_nothing_is_imported_unless_asked_for():
    """Oracle: the modules of a fresh process that has made an application."""
    code = "import sys, serve.http.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("module", ["serve.runtime", "export.session"])
def test_onnx_runtime_reports_to_nobody(module, tmp_path):
    """Oracle: the home folder, in which its builds of 1.32 otherwise store what they are about to send."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    code = f"import {module}, onnxruntime; print(onnxruntime.__version__)"
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert [path for path in tmp_path.rglob("*onnxruntime*") if path.is_file()] == []
    assert list(tmp_path.rglob("deviceid")) == []


def test_the_thread_plan_is_a_metric(engine):
    """Oracle: the plan that `/info` tells."""
    about = {"threads": {"cores": 8, "workers": 2, "intra_op_threads": 3}}
    app = create_app({engine.name: engine}, engine.name, ServiceConfig(), about)
    with open_client(app) as client:
        text = client.get("/metrics").text
        assert client.get("/info").json()["threads"] == about["threads"]
    for kind, count in (("cores", 8), ("workers", 2), ("intra_op", 3)):
        assert f'understudy_threads{{kind="{kind}"}} {count}.0' in text
    assert "understudy_workers 1.0" in text


WORKER = """
import sys
from serve.metrics import Metrics
metrics = Metrics()
metrics.show_plan({"cores": 4})
metrics.queued_tokens.labels("m").inc(100)
metrics.tokens.labels("m").inc(7)
print("counted", flush=True)
sys.stdin.read()
"""
READER = """
from serve.metrics import Metrics
print(Metrics().render().decode())
"""


def test_a_killed_worker_leaves_no_queue_behind(tmp_path):
    """Oracle: what it had queued is gone with it, the tokens it computed are not; the plan is no sum."""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def read() -> str:
        command = [sys.executable, "-c", READER]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", WORKER]
        worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert worker.stdout.readline() == b"counted\n"
        return worker

    with start() as first, start() as second:
        text = read()
        assert 'understudy_queued_tokens{model="m"} 200.0' in text
        assert 'understudy_threads{kind="cores"} 4.0' in text
        first.kill()
        first.wait()
        text = read()
        assert 'understudy_queued_tokens{model="m"} 100.0' in text
        assert 'understudy_tokens_total{model="m"} 14.0' in text
        second.kill()
