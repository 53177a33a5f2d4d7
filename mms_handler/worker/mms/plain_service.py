"""Serve a handler that is not ours from the gate: a failed request harms no other one.

gate ──bodies as they came──▶ answer ──those that can be decoded──▶ Service.predict ──▶ handler
                                └── the others: 400

In plain MMS a body that the codec cannot decode ends the worker, with every request that it has.
So does an exception of the handler in a batch of several (BatchAggregator.java, sendResponse).
"""

from __future__ import annotations

import http.client
import json
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import mms.service
from mms.model_loader import MmsModelLoader
from mms.service import Service

from mms_handler import media, names, settings, worker_files
from mms_handler.causes import cause
from mms_handler.errors import BadInput, OutOfResources
from mms_handler.worker.mms import bodies, lifeline, plane, reply_frame
from mms_handler.worker.mms.current_requests import CurrentRequests
from mms_handler.worker.mms.output import Output
from mms_handler.worker.phases import PREDICT, Phases
from mms_handler.worker.reply import Response
from mms_handler.worker.request import Received

log = logging.getLogger(__name__)

#: What MMS's front end says when a worker gave an error for a request.
_TYPE_OF_ERRORS = "InternalServerException"


class _Outcome(NamedTuple):
    """What MMS's Service makes of a batch, by the arguments of its create_predict_response."""

    replies: Any
    ids: Any
    message: str
    status: int
    context: Any = None


class _Refusal(NamedTuple):
    """The reply to a request that fails."""

    status: int
    phrase: str
    type: str
    message: str

    def response(self, request_id: str) -> Response:
        fields = {"code": self.status, "type": self.type, "message": self.message}
        body = json.dumps({**fields, "request_id": request_id}).encode()
        return reply_frame.response(body, media.JSON, self.status, self.phrase, None)


def install() -> None:
    """Have MMS's classes of this process serve as described above."""
    bodies.keep_undecoded()
    mms.service.create_predict_response = _Outcome
    load = MmsModelLoader.load

    def load_and_join(
        loader: Any, name: str, model_dir: str, handler: str, *arguments: Any
    ) -> Service:
        connection = lifeline.attach()
        output = Output(name, settings.current()) if connection else None
        if output:
            output.clean()
        try:
            service = load(loader, names.of_model(name), model_dir, handler, *arguments)
        except BaseException as exc:
            reason = f"handler {handler}: {cause(exc, model_dir)}"
            worker_files.write_load_error(Path(model_dir), reason)
            raise
        if connection:
            PlainWorker(service, output, connection).join()
        return service

    MmsModelLoader.load = load_and_join


class PlainWorker:
    """A worker with a handler that is not ours."""

    def __init__(self, service: Service, output: Any, connection: Any) -> None:
        """``service`` is MMS's; ``output`` and ``connection`` are this process's."""
        self._service, self._output, self._connection = service, output, connection
        self._phases = Phases()
        current = settings.current()
        self._max_bytes, self._timeout_s = current.max_response_bytes, current.timeout_s
        decode = settings.environment().get("MMS_DECODE_INPUT_REQUEST")
        self._decodes = decode in (None, "true")
        folder = Path(service.context.system_properties["model_dir"])
        self._current = CurrentRequests(worker_files.requests_path(folder, os.getpid()))

    def join(self) -> None:
        """Serve the gate once MMS has been told that the model is loaded."""
        line, context = self._connection, self._service.context
        line.limit(self._timeout_s)
        plane.join(self.answer, self._takes, context, line, self._phases)

    def _takes(self) -> int:
        batch_size: int = self._service.context.system_properties["batch_size"]
        return batch_size

    def answer(self, batch: Sequence[Received]) -> list[Response]:
        """Answer requests; MMS's objects are made for those that can be decoded."""
        self._phases.enter(PREDICT)
        ids = [received.request_id for received in batch]
        self._current.set(ids)
        self._output.tag(ids[0] if len(ids) == 1 else "")
        try:
            with self._connection:
                return self._answer(batch)
        finally:
            self._output.tag("")
            self._current.clear()

    def _answer(self, batch: Sequence[Received]) -> list[Response]:
        requests = [_request(received, self._decodes) for received in batch]
        predicted = iter(self._predict([r for r in requests if not isinstance(r, _Refusal)]))
        replies = [r if isinstance(r, _Refusal) else next(predicted) for r in requests]
        return [
            reply.response(received.request_id) if isinstance(reply, _Refusal) else reply
            for received, reply in zip(batch, replies)
        ]

    def _predict(self, requests: Sequence[Any]) -> list[Response | _Refusal]:
        """Let MMS's Service answer requests that are as its codec reads them."""
        if not requests:
            return []
        outcome = self._service.predict(requests)
        if outcome.status != 200:
            return [_mms_error(outcome.status, outcome.message)] * len(requests)
        processors = self._service.context.request_processor
        return [self._response(*each) for each in zip(outcome.replies, processors)]

    def _response(self, reply: Any, processor: Any) -> Response | _Refusal:
        """As MMS writes it (otf_message_handler.py:73-130), if it can be sent."""
        if not isinstance(reply, (bytes, bytearray)):
            try:
                text = reply if isinstance(reply, str) else json.dumps(reply, indent=2)
            except TypeError:
                log.warning("Unable to serialize model output.", exc_info=True)
                return _mms_error(503, "Unsupported model output data type.")
            reply = text.encode()
        if len(reply) > self._max_bytes:
            text = f"the reply has {len(reply)} bytes, the server sends at most {self._max_bytes}"
            return _Refusal(507, OutOfResources.phrase, "OutOfResources", text)
        headers = {str(name).lower(): v for name, v in processor.get_response_headers().items()}
        return reply_frame.response(
            bytes(reply),
            headers.get("content-type") or "",
            processor.get_response_status_code() or 200,
            processor.get_response_status_phrase(),
            headers,
        )


def _request(received: Received, decodes: bool) -> dict[str, Any] | _Refusal:
    """A request as MMS's codec reads it, or the reply to one that cannot be decoded."""
    headers, of_body = received.sent_headers(), received.headers.get("content-type", "")
    parameters = []
    try:
        for name, part in received.parts().items():
            of_part = headers.get(name)  # a form's part has a dict
            typed = of_part["content-type"] if isinstance(of_part, dict) else of_body
            content_type, value = typed.partition(";")[0], bytearray(part)
            if decodes:
                subject = "the body" if name == "body" else f"the part {name!r}"
                value = bodies.decoded(value, content_type, subject)
            parameters.append({"name": name, "contentType": content_type, "value": value})
    except BadInput as exc:
        log.warning("400 %s (request %s)", exc, received.request_id)
        return _Refusal(exc.status, exc.phrase, "BadInput", str(exc))
    texts = {name: value for name, value in headers.items() if isinstance(value, str)}
    return {
        "requestId": received.request_id.encode(),
        "headers": [{"name": n.encode(), "value": v.encode()} for n, v in texts.items()],
        "parameters": parameters,
    }


def _mms_error(status: int, message: str) -> _Refusal:
    return _Refusal(status, http.client.responses.get(status, ""), _TYPE_OF_ERRORS, message)
