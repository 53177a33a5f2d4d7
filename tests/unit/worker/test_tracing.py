"""tracing: the spans of requests, as OpenTelemetry's SDK gets them."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from mms_handler.worker import tracing
from mms_handler.worker.phases import Phases
from mms_handler.worker.reply import Response
from mms_handler.worker.request import Request

trace = pytest.importorskip("opentelemetry.trace")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

TRACE, PARENT = f"{7:032x}", f"{9:016x}"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@pytest.fixture(autouse=True)
def no_provider(monkeypatch):
    """Nobody has set a provider; afterwards it is as before."""
    once = type(trace._TRACER_PROVIDER_SET_ONCE)()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", once)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    for name in (*ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start():
    """Start the spans of a model; they go to an exporter in memory."""

    def build(exporter):
        made = tracing.Tracing("iris")
        made._processor, made._exporter = SimpleSpanProcessor, lambda: exporter
        made.start()
        return made

    return build


def received(name, **headers):
    return SimpleNamespace(request_id=name, headers=headers)


def answered(made, batch, statuses, answer=None):
    """Answer a batch with these statuses; returns what the traced answer returns."""
    phases = Phases()
    phases.begin()
    responses = [Response(status, "", {}, b"") for status in statuses]
    return made.answering(answer or (lambda batch: responses), phases)(batch)


def spans(exporter):
    return exporter.get_finished_spans()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_where_spans_are_made(monkeypatch, endpoint):
    assert tracing.prepared("iris") is None
    monkeypatch.setenv(endpoint, "http://127.0.0.1:1")
    assert isinstance(tracing.prepared("iris"), tracing.Tracing)
    monkeypatch.setenv("OTEL_SDK_DISABLED", " True")
    assert tracing.prepared("iris") is None


def test_a_missing_sdk_is_named(monkeypatch, caplog):
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    assert tracing.prepared("iris") is None
    assert "no spans are made: " in caplog.text
    assert caplog.text.endswith("pip install 'mms_handler[otel]'\n")


def test_the_spans_of_a_request(start):
    """Its own, with one for the time before, and one for each phase, end to end."""
    exporter = InMemorySpanExporter()
    made = start(exporter)
    headers = {"traceparent": SAMPLED, "x-queue-microseconds": "5000"}
    answered(made, [received("a", **headers)], [200])
    *children, root = spans(exporter)
    assert [each.name for each in children] == ["queue", "decode", "predict", "encode"]
    assert root.name == "request"
    assert (root.context.trace_id, root.parent.span_id) == (7, 9)
    assert {each.parent.span_id for each in children} == {root.context.span_id}
    assert dict(root.attributes) == {
        "mms_handler.model": "iris",
        "mms_handler.request_id": "a",
        "mms_handler.batch_size": 1,
        "http.response.status_code": 200,
    }
    assert root.kind is trace.SpanKind.SERVER
    assert children[0].end_time - children[0].start_time == 5_000_000
    for first, second in zip(children, children[1:]):
        assert first.end_time == second.start_time
    assert root.start_time <= children[0].start_time
    assert children[-1].end_time <= root.end_time


@pytest.mark.parametrize(
    ("waited", "ns"), [("7", 7000), ("", 0), ("-7", 0), ("x", 0), ("٣", 0), (None, 0)]
)
def test_how_long_a_request_has_waited(start, waited, ns):
    exporter = InMemorySpanExporter()
    headers = {} if waited is None else {"x-queue-microseconds": waited}
    answered(start(exporter), [received("a", **headers)], [200])
    queue = spans(exporter)[0]
    assert queue.end_time - queue.start_time == ns


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (499, False), (500, True)])
def test_a_fault_of_the_server_is_an_error(start, status, is_error):
    exporter = InMemorySpanExporter()
    answered(start(exporter), [received("a")], [status])
    root = spans(exporter)[-1]
    assert (root.status.status_code is trace.StatusCode.ERROR) is is_error
    assert root.attributes["http.response.status_code"] == status


def test_requests_of_a_batch(start):
    """Each has its status; one that is not sampled has no spans, one of no trace begins one."""
    exporter = InMemorySpanExporter()
    batch = [
        received("a", traceparent=SAMPLED),
        received("b", traceparent=f"{SAMPLED[:-1]}0"),
        received("c", traceparent="no trace"),
    ]
    answered(start(exporter), batch, [200, 200, 404])
    first, second = (each for each in spans(exporter) if each.name == "request")
    assert len(spans(exporter)) == 10
    assert [each.attributes["mms_handler.request_id"] for each in (first, second)] == ["a", "c"]
    assert [each.attributes["http.response.status_code"] for each in (first, second)] == [200, 404]
    assert {each.attributes["mms_handler.batch_size"] for each in (first, second)} == {3}
    assert second.parent is None
    assert second.context.trace_id not in (0, 7)


def test_a_scripts_spans_belong_to_the_request(start):
    """While a step runs for it; not those of a step for several, nor after the batch."""
    exporter = InMemorySpanExporter()
    made = start(exporter)
    run = made.step(lambda request, function, *arguments: function(*arguments))

    def current(*arguments):
        span = trace.get_current_span().get_span_context()
        return (span.trace_id, *arguments)

    def request(name):
        return Request(b"", "a/b", "", {"request_id": name})

    def answer(batch):
        assert run(request("a"), current, 1, 2) == (7, 1, 2)
        assert run(request("b"), current) == (0,)
        assert run([request("a")], current) == (0,)
        assert current() == (0,)
        return [Response(200, "", {}, b"")]

    answered(made, [received("a", traceparent=SAMPLED)], [], answer)
    assert run(request("a"), current) == (0,)

    def fails(batch):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answered(made, [received("a", traceparent=SAMPLED)], [], fails)
    assert run(request("a"), current) == (0,)


@pytest.mark.parametrize("name", [None, "mine"])
def test_what_the_spans_say_of_the_service(start, monkeypatch, name):
    if name:
        monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    exporter = InMemorySpanExporter()
    answered(start(exporter), [received("a")], [200])
    resource = spans(exporter)[0].resource.attributes
    assert resource["service.name"] == (name or "mms_handler")
    assert resource["mms_handler.model"] == "iris"
    assert resource["process.pid"] == os.getpid()


def test_spans_of_a_script_go_the_same_way(start):
    """Unless the script has set a provider of its own."""
    exporter = InMemorySpanExporter()
    start(exporter)
    trace.get_tracer("script").start_span("lookup").end()
    assert [each.name for each in spans(exporter)] == ["lookup"]
    start(other := InMemorySpanExporter())
    trace.get_tracer("script").start_span("lookup").end()
    assert len(spans(exporter)) == 2
    assert not spans(other)
