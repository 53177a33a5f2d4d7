"""Make OpenTelemetry spans of requests, if OTEL_EXPORTER_OTLP_ENDPOINT says where to send them.

client ──traceparent──▶ gate ──and how long it waited──▶ worker ──spans, in batches──▶ collector

    request ── queue ── decode ── predict ── encode

The SDK reads the standard variables.  It is imported before workers are forked, and has a thread
only in a process that forks none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import Any, Callable, Iterator, Mapping, Sequence

from mms_handler import settings
from mms_handler.worker.phases import Phases
from mms_handler.worker.reply import Response
from mms_handler.worker.request import Received, Request

log = logging.getLogger(__name__)

_Answer = Callable[[Sequence[Received]], Sequence[Response]]

#: The header in which the gate says how long a request has waited for a worker.
_WAITED = "x-queue-microseconds"

_PHASES = ("decode", "predict", "encode")


def prepared(model: str) -> Tracing | None:
    """What makes the spans of this process; None if none are wanted, or if the SDK is missing."""
    if not settings.traces():
        return None
    try:
        return Tracing(model)
    except ImportError as exc:
        log.warning("no spans are made: %s; pip install 'mms_handler[otel]'", exc)
        return None


class Tracing:
    """The spans of the requests that a worker answers."""

    def __init__(self, model: str) -> None:
        """Import what is needed.

        Raises:
            ImportError: the extra ``otel`` is not installed.
        """
        from opentelemetry import context, propagate, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk import resources
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._context, self._propagate, self._trace = context, propagate, trace
        self._resource, self._provider = resources.Resource, TracerProvider
        self._processor, self._exporter = BatchSpanProcessor, OTLPSpanExporter
        self._model = model
        self._tracer: Any = None
        self._spans: dict[str, Any] = {}  # of the requests that are being answered, by their ids

    def start(self) -> None:
        """Have a thread that sends spans from now on; this process forks no workers any more."""
        attributes: dict[str, Any] = {"mms_handler.model": self._model, "process.pid": os.getpid()}
        if not settings.environment().get("OTEL_SERVICE_NAME"):
            attributes["service.name"] = "mms_handler"
        provider = self._provider(resource=self._resource.create(attributes))
        provider.add_span_processor(self._processor(self._exporter()))
        with contextlib.suppress(Exception):  # a script may have set one; its spans stay its own
            self._trace.set_tracer_provider(provider)
        self._tracer = provider.get_tracer("mms_handler")

    def answering(self, answer: _Answer, phases: Phases) -> _Answer:
        """``answer``, with spans; ``phases`` are told what it does."""

        def answer_traced(batch: Sequence[Received]) -> Sequence[Response]:
            spans = [self._begun(received, len(batch)) for received in batch]
            self._spans = {each.request_id: span for each, (span, _) in zip(batch, spans)}
            start_ns = time.time_ns()
            try:
                responses = answer(batch)
            finally:
                self._spans = {}
            for (span, waited_ns), response in zip(spans, responses):
                self._end(span, start_ns, waited_ns, response.status, phases.so_far_us())
            return responses

        return answer_traced

    def step(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """``run``, with a request's span as the current one: a script's own spans belong to it."""

        def run_traced(request: Any, function: Callable[..., Any], *arguments: Any) -> Any:
            with self._current(request):
                return run(request, function, *arguments)

        return run_traced

    @contextlib.contextmanager
    def _current(self, request: Any) -> Iterator[None]:
        is_one = isinstance(request, Request)
        span = self._spans.get(request.by_name["request_id"]) if is_one else None
        if span is None:
            yield
            return
        token = self._context.attach(self._trace.set_span_in_context(span))
        try:
            yield
        finally:
            self._context.detach(token)

    def _begun(self, received: Received, batch_size: int) -> tuple[Any, int]:
        """The span of a request, and the nanoseconds that it has waited."""
        headers = received.headers
        waited_ns = _waited_ns(headers)
        span = self._tracer.start_span(
            "request",
            context=self._propagate.extract(headers),
            kind=self._trace.SpanKind.SERVER,
            start_time=time.time_ns() - waited_ns,
            attributes={
                "mms_handler.model": self._model,
                "mms_handler.request_id": received.request_id,
                "mms_handler.batch_size": batch_size,
            },
        )
        return span, waited_ns

    def _end(
        self, span: Any, start_ns: int, waited_ns: int, status: int, phases_us: Sequence[int]
    ) -> None:
        parent = self._trace.set_span_in_context(span)
        at_ns = start_ns - waited_ns
        times = [("queue", waited_ns), *zip(_PHASES, (us * 1000 for us in phases_us))]
        for name, took_ns in times if span.is_recording() else ():
            child = self._tracer.start_span(name, context=parent, start_time=at_ns)
            at_ns += took_ns
            child.end(end_time=at_ns)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(end_time=max(time.time_ns(), at_ns))


def _waited_ns(headers: Mapping[str, str]) -> int:
    text = headers.get(_WAITED, "")
    return int(text) * 1000 if text.isdecimal() and text.isascii() else 0
