"""MMS's Service for a handler that is not ours: a failed request harms no other one.

codec ──bodies as they came──▶ Service.predict ──those that can be decoded──▶ handler
                                     └── the others: 400

In plain MMS a body that the codec cannot decode ends the worker, with every request that it has.
So does an exception of the handler in a batch of several (BatchAggregator.java, sendResponse).
"""

from __future__ import annotations

import copy
import json
import logging
import os
import struct
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from mms.context import RequestProcessor
from mms.metrics.metrics_store import MetricsStore
from mms.model_loader import MmsModelLoader
from mms.protocol.otf_message_handler import create_predict_response
from mms.service import Service

from mms_handler import media, names, settings, worker_files
from mms_handler.errors import BadInput, cause
from mms_handler.worker.mms import bodies, lifeline, reply_frame
from mms_handler.worker.mms.current_requests import CurrentRequests
from mms_handler.worker.mms.output import Output

log = logging.getLogger(__name__)

#: What MMS's front end says when a worker gave an error for a request.
_TYPE_OF_ERRORS = "InternalServerException"

#: The end of a frame, and a frame without replies (create_predict_response).
_END = struct.pack("!i", -1)
_NO_REPLIES = bytes(create_predict_response([], {}, reply_frame.MESSAGE, 200))

#: A request as MMS's codec reads it, and a batch of them.
_Request = Mapping[str, Any]
_Predict = Callable[[Service, Sequence[_Request]], bytes]


class _Refusal(NamedTuple):
    """The reply to a request that fails."""

    request_id: str
    status: int
    phrase: str
    type: str
    message: str

    def body(self) -> bytes:
        fields = {"code": self.status, "type": self.type, "message": self.message}
        return json.dumps({**fields, "request_id": self.request_id}).encode()


def install() -> None:
    """Have MMS's classes of this process serve as described above."""
    bodies.keep_undecoded()
    predict, load = Service.predict, MmsModelLoader.load
    # Made by the worker, which the listener forks.
    current: list[CurrentRequests] = []
    outputs: list[Output] = []

    def predict_each(service: Service, batch: Sequence[_Request]) -> bytes:
        if not current:
            folder = Path(service.context.system_properties["model_dir"])
            current.append(CurrentRequests(worker_files.requests_path(folder, os.getpid())))
        ids = [_id(request) for request in batch]
        current[0].set(ids)
        for output in outputs:
            output.tag(ids[0] if len(ids) == 1 else "")
        try:
            return _answer(service, batch, predict)
        finally:
            for output in outputs:
                output.tag("")
            current[0].clear()

    def load_or_tell(
        loader: Any, name: str, model_dir: str, handler: str, *arguments: Any
    ) -> Service:
        if lifeline.in_worker():
            outputs.append(Output(name, settings.current()))
            outputs[0].clean()
        try:
            return load(loader, names.of_model(name), model_dir, handler, *arguments)
        except BaseException as exc:
            reason = f"handler {handler}: {cause(exc, model_dir)}"
            worker_files.write_load_error(Path(model_dir), reason)
            raise

    Service.predict, MmsModelLoader.load = predict_each, load_or_tell


def _answer(service: Service, batch: Sequence[_Request], predict: _Predict) -> bytes:
    """The frame with the replies to a batch."""
    decodes = settings.environment().get("MMS_DECODE_INPUT_REQUEST") in (None, "true")
    decodable, refusals = [], []
    for request in batch:
        try:
            decodable.append(_decoded(request) if decodes else request)
        except BadInput as exc:
            log.warning("400 %s (request %s)", exc, _id(request))
            refusals.append(_Refusal(_id(request), 400, exc.phrase, "BadInput", str(exc)))
    if decodable:
        frame = predict(service, decodable)
    else:
        frame = _NO_REPLIES
        service.context.metrics = MetricsStore({}, service.context.model_name)
    status, message = _head(frame)
    if status != 200 and len(batch) > 1:
        frame = _NO_REPLIES
        refusals += [
            _Refusal(_id(request), status, "", _TYPE_OF_ERRORS, message) for request in decodable
        ]
    if not refusals:
        return frame
    return _frame(refusals, service.context)[: -len(_END)] + frame[reply_frame.START :]


def _id(request: _Request) -> str:
    return str(request["requestId"], "utf-8")


def _decoded(request: _Request) -> _Request:
    """A request with the values that MMS's codec would have made of its parameters.

    Raises:
        BadInput: one of them cannot be decoded.
    """
    parameters = []
    for parameter in request["parameters"]:
        name = parameter["name"]
        subject = "the body" if name == "body" else f"the part {name!r}"
        value = bodies.decoded(parameter["value"], parameter["contentType"], subject)
        parameters.append({**parameter, "value": value})
    return {**request, "parameters": parameters}


def _head(frame: bytes) -> tuple[int, str]:
    """A frame's status and message."""
    status, length = struct.unpack_from("!ii", frame)
    return status, frame[8 : 8 + length].decode()


def _frame(refusals: Sequence[_Refusal], context: Any) -> bytes:
    """The frame that MMS writes for these replies."""
    refused = copy.copy(context)
    refused.request_ids = {index: refusal.request_id for index, refusal in enumerate(refusals)}
    refused.request_processor = [RequestProcessor({}) for _ in refusals]
    replies = [refusal.body() for refusal in refusals]
    for index, (refusal, body) in enumerate(zip(refusals, replies)):
        response = reply_frame.response(body, media.JSON, refusal.status, refusal.phrase, None)
        reply_frame.set_head(index, response, refused)
    reply_frame.shape(refused, replies)
    return bytes(
        create_predict_response(
            replies, refused.request_ids, reply_frame.MESSAGE, 200, context=refused
        )
    )
