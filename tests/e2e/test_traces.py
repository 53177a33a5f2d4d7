"""Spans of requests, at a collector of the test's own; and none, at no cost, without one."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from running_mms import Serving, free_ports, wait_for

from mms_handler import client
from mms_handler.names import FORK_SERVER

SCRIPT = """\
import json, sys, threading, time

def model_fn(model_dir):
    return None

def input_fn(data, content_type):
    time.sleep(0.02)
    return json.loads(data)

def predict_fn(told, model, context, headers):
    time.sleep(told.get("seconds", 0.05))
    if told.get("fails"):
        raise RuntimeError("it fails")
    current = None
    if "opentelemetry" in sys.modules:
        from opentelemetry import trace
        with trace.get_tracer("script").start_as_current_span("lookup"):
            current = f"{trace.get_current_span().get_span_context().trace_id:032x}"
    return {
        "traceparent": context.get_request_header(0, "Traceparent"),
        "header": headers.get("traceparent"),
        "current": current,
        "waited": "x-queue-microseconds" in headers,
        "modules": [name for name in sys.modules if name.startswith("opentelemetry")],
        "threads": threading.active_count(),
    }

def output_fn(prediction, accept):
    time.sleep(0.01)
    return json.dumps(prediction), "application/json"
"""

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collector:
    """What a collector of OTLP over HTTP was sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: Any) -> None:
        for each in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in each.resource.attributes})
            self.spans += [span for scope in each.scope_spans for span in scope.spans]

    def traces(self) -> dict[str, dict[str, Any]]:
        """The spans by name of each trace."""
        traces: dict[str, dict[str, Any]] = defaultdict(dict)
        for span in list(self.spans):
            traces[span.trace_id.hex()][span.name] = span
        return traces

    def trace(self, trace_id: str) -> dict[str, Any]:
        wait_for(lambda: "request" in self.traces().get(trace_id, {}), 15)
        return self.traces()[trace_id]


def milliseconds(span: Any) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    with contextlib.closing(collector.server.socket):
        yield collector
        collector.server.shutdown()


def served(folder: Path, **variables: str) -> Serving:
    (folder / "m" / "code").mkdir(parents=True)
    (folder / "m" / "code" / "inference.py").write_text(SCRIPT)
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env.update(variables, OTEL_BSP_SCHEDULE_DELAY="200")
    words = (folder / "m", "--workers", "1")
    return Serving(free_ports(), *words, env=env, log=folder / "log")


def ask(serving: Serving, headers: dict[str, str], **told: object) -> client.Answer:
    sent = {"Content-Type": "application/json", **headers}
    body = json.dumps(told).encode()
    return client.call("POST", f"{serving.inference}/predictions/m", body, sent)


def test_the_spans_of_requests(collector, tmp_path):
    """Of the client's trace; with those of the script; their times add up."""
    with served(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as serving:
        answer = ask(serving, {"traceparent": TRACEPARENT})
        found = json.loads(answer.body)
        assert (found["traceparent"], found["header"]) == (TRACEPARENT, TRACEPARENT)
        assert found["current"] == TRACE
        spans = collector.trace(TRACE)
        assert set(spans) == {"request", "queue", "decode", "predict", "encode", "lookup"}
        root = spans["request"]
        assert root.parent_span_id.hex() == PARENT
        children = [spans[name] for name in ("queue", "decode", "predict", "encode")]
        assert {child.parent_span_id for child in children} == {root.span_id}
        assert spans["lookup"].parent_span_id == root.span_id
        for name, least_ms in {"decode": 20, "predict": 50, "encode": 10}.items():
            assert least_ms <= milliseconds(spans[name]), name
        for one, next_one in zip(children, children[1:]):
            assert one.end_time_unix_nano == next_one.start_time_unix_nano
        assert root.start_time_unix_nano <= children[0].start_time_unix_nano
        assert children[-1].end_time_unix_nano <= root.end_time_unix_nano
        assert attributes(root) == {
            "mms_handler.model": "m",
            "mms_handler.request_id": answer.headers["x-request-id"],
            "mms_handler.batch_size": 1,
            "http.response.status_code": 200,
        }
        assert collector.resources[0]["service.name"] == "mms_handler"
        assert any(process.name() == FORK_SERVER for process in serving.family)
        waiting_is_in_the_queue(serving, collector)
        failures_are_errors(serving, collector)
        spans_of_no_client(serving, collector)


def waiting_is_in_the_queue(serving: Serving, collector: Collector) -> None:
    """A client cannot say how long it has waited."""
    ids = [f"{number:032x}" for number in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        for trace_id in ids:
            headers = {"traceparent": f"00-{trace_id}-{PARENT}-01", "X-Queue-Microseconds": "9"}
            pool.submit(ask, serving, headers, seconds=0.4)
            time.sleep(0.1)
    first, second = (milliseconds(collector.trace(trace_id)["queue"]) for trace_id in ids)
    assert first < 50
    assert 250 < second < 450


def failures_are_errors(serving: Serving, collector: Collector) -> None:
    trace_id = f"{3:032x}"
    assert ask(serving, {"traceparent": f"00-{trace_id}-{PARENT}-01"}, fails=True).status == 500
    root = collector.trace(trace_id)["request"]
    assert root.status.code == root.status.STATUS_CODE_ERROR
    assert attributes(root)["http.response.status_code"] == 500


def spans_of_no_client(serving: Serving, collector: Collector) -> None:
    """A request without a traceparent begins a trace; one that is not sampled has no spans."""
    before = set(collector.traces())
    assert ask(serving, {"traceparent": f"00-{4:032x}-{PARENT}-00"}).status == 200
    assert ask(serving, {"traceparent": "no trace"}).status == 200
    wait_for(lambda: set(collector.traces()) > before, 10)
    (new,) = set(collector.traces()) - before
    assert collector.trace(new)["request"].parent_span_id == b""


def test_a_collector_that_is_gone(tmp_path):
    """Costs its spans, and no request."""
    with served(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as serving:
        start = time.monotonic()
        assert [ask(serving, {}).status for _ in range(5)] == [200] * 5
        assert time.monotonic() - start < 5


def test_without_a_collector_there_is_nothing(tmp_path):
    """No module, no thread, no header more; the traceparent is for the script."""
    with served(tmp_path) as serving:
        found = json.loads(ask(serving, {"traceparent": TRACEPARENT}).body)
        assert found["traceparent"] == TRACEPARENT
        assert (found["modules"], found["waited"], found["current"]) == ([], False, None)
        (worker,) = (p for p in serving.of_model("m")[1] if psutil.pid_exists(p.pid))
        assert worker.num_threads() < 10


def test_the_sdk_is_missing(tmp_path, monkeypatch):
    """A line in the log says what to install."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError('none here')\n")
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(tmp_path)}
    with served(tmp_path, **variables) as serving:
        assert ask(serving, {}).status == 200
    words = "no spans are made: none here; pip install 'mms_handler[otel]'"
    assert words in (tmp_path / "log").read_text()
