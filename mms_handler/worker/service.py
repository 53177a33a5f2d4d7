"""MMS's calls: load a model, or answer a batch.

MMS calls ``handle(None, context)`` when a worker loads its model and
``handle([request, ...], context)`` for each batch.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import logging
import sys
import time
import traceback
from typing import Any, Callable, Mapping

from mms_handler import codecs, errors, media, settings
from mms_handler.errors import OutOfResources, UnsupportedType
from mms_handler.settings import Settings
from mms_handler.worker.mms import lifeline, reply_frame, sending
from mms_handler.worker.mms.deadline import Deadline
from mms_handler.worker.mms.metrics import Metrics
from mms_handler.worker.mms.output import Output

log = logging.getLogger(__name__)


class Service:
    """One model in one worker process.

    It is given to MMS as a function, not as a class with ``initialize``: MMS logs and drops
    what ``initialize`` raises (mms/model_loader.py:147-154), so a model that failed to load
    would be registered and answer 200.
    """

    def __init__(self, load: Callable[[Any, Settings], Any]) -> None:
        """``load`` makes the Pipeline from MMS's context and our settings."""
        self._load = load

    def __call__(self, data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
        """Load the model (``data`` is None) or answer each request of a batch."""
        if data is None:
            if not lifeline.postponed():
                self._start(context)
            return None
        if self._settings.supervised:
            # MMS's own time of the batch: a line for each, which the log of serve leaves out.
            context.metrics.add_time = _nothing
        with self._deadline, self._lifeline:
            try:
                replies = self._answers(data, context)
            finally:
                self._output.of("")
        reply_frame.settle(context, replies)
        return replies

    def _answers(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """The reply to each request, in their order; one that cannot be read meets no other."""
        asked = [self._asked(index, request, context) for index, request in enumerate(data)]
        good = [one for one in asked if not isinstance(one, BaseException)]
        outcomes = iter(self._pipeline.answer(good, self._guarded) if good else ())
        found = [one if isinstance(one, BaseException) else next(outcomes) for one in asked]
        return [self._finished(index, outcome, context) for index, outcome in enumerate(found)]

    def _asked(self, index: int, request: dict[str, Any], context: Any) -> Any:
        """What the pipeline is asked, or what was raised in finding out."""
        from mms_handler.worker.pipeline import (
            Request,  # it imports mxnet, which a load does in its time
        )

        self._output.of(context.get_request_id(index))
        try:
            return Request(**_arguments(index, request, context, self._settings.max_body_bytes))
        except BaseException as exc:
            return exc

    def _guarded(self, request: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the batch's time; what it prints is of the request, if of one."""
        self._output.of(request.by_name["request_id"] if request else "")
        return self._deadline.call(function, *arguments)

    def _start(self, context: Any) -> None:
        self._output = Output()
        line = lifeline.attach()
        if line:
            self._output.clean()
        self._lifeline = line or contextlib.nullcontext()
        context.metrics = Metrics(context.metrics, None)
        # MMS would parse JSON and text itself, and a body that is neither kills the worker;
        # its codec asks the environment anew for each message (otf_message_handler.py:289).
        settings.export("MMS_DECODE_INPUT_REQUEST", "false")
        try:
            self._settings = settings.current()
            self._deadline = Deadline(self._settings.timeout_s)
            with self._lifeline:
                self._pipeline = self._load(context, self._settings)
        except BaseException as exc:
            # One line first; MMS logs the traceback.  Its log readers are told to stop as
            # soon as the worker dies, hence the pause.
            log.error("cannot load model %s: %s", context.model_name, " ".join(str(exc).split()))
            sys.stdout.flush()
            time.sleep(0.1)
            if errors.out_of_memory(exc.__cause__ or exc) and self._settings.supervised:
                # MMS answers 507 and keeps the name; whoever supervises it frees the name.
                raise MemoryError(str(exc)) from exc
            raise
        gc.collect()  # the model stays too
        gc.freeze()
        log.info("model %s is loaded", context.model_name)

    def _finished(self, index: int, outcome: Any, context: Any) -> bytes:
        """Tell MMS one request's status, type and headers; gives the body."""
        self._output.of(context.get_request_id(index))
        if isinstance(outcome, BaseException):  # sys.exit and their like are this request's too
            return self._failed(index, outcome, context)
        if len(outcome.body) > self._settings.max_response_bytes:  # would kill the worker
            most = self._settings.max_response_bytes
            told = f"the reply has {len(outcome.body)} bytes, the server sends at most {most}"
            return self._failed(index, OutOfResources(told), context)
        status, phrase = context.get_response_status(index)  # the script may have set them
        status = status if outcome.status == 200 else outcome.status
        return _told(index, outcome.body, outcome.content_type, status, phrase, context)

    def _failed(self, index: int, exc: BaseException, context: Any) -> bytes:
        found = self._note(exc, index, context)
        body, content_type = _fault_body(found, index, context)
        context.get_response_headers(index).clear()
        return _told(index, body, content_type, found.status, found.phrase, context)

    def _note(self, exc: BaseException, index: int, context: Any) -> errors.Fault:
        """Log what went wrong with a request: in one line, and a bug with its traceback."""
        found = errors.fault(exc)
        bug = found.status >= 500
        log.log(
            logging.ERROR if bug else logging.WARNING,
            "request %s: %d %s",
            context.get_request_id(index),
            found.status,
            _causes(exc, context.system_properties["model_dir"]) + (_traceback(exc) if bug else ""),
        )
        return found


def _nothing(*_: Any) -> None:
    """Stands in for what is not wanted."""


def _told(
    index: int, body: bytes, content_type: str, status: Any, phrase: Any, context: Any
) -> bytes:
    context.set_response_content_type(index, content_type)
    context.set_response_status(*sending.status_line(status, phrase), index)
    sending.clean(context.get_response_headers(index))
    return body


def _arguments(index: int, request: dict[str, Any], context: Any, limit: int) -> dict[str, Any]:
    """What Pipeline.transform wants of one request; ``limit`` is for a body once decompressed."""
    received = context.get_all_request_header(index)
    headers = {
        name.lower(): _utf8(value) for name, value in received.items() if isinstance(value, str)
    }
    body, content_type = _body(request, received, headers.get("content-type", ""))
    encoding = headers.get("content-encoding", "")
    return {
        "body": codecs.decompress(body, encoding, limit) if encoding else body,
        "content_type": content_type or media.JSON,
        "accept": headers.get("accept", ""),
        "by_name": {
            "context": _alone(index, context),
            "gpu_id": context.system_properties["gpu_id"],
            "request_id": context.get_request_id(index),
            "headers": headers,
        },
    }


_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def _utf8(value: str) -> str:
    """A header's value as it was sent: the front end reads every one as Latin-1."""
    try:
        return value if value.isascii() else value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _body(
    request: dict[str, Any], received: Mapping[str, Any], content_type: str
) -> tuple[bytes, str]:
    """The body and its type: as it came, or the one part of a form or of a query.

    MMS takes forms apart, and adds a query's parts to an empty body; it keeps each part's own
    Content-Type in the dict of headers, as a dict under its name.
    """
    parts = {name: bytes(value) for name, value in request.items() if name != "model_name"}
    is_form = media.main_type(content_type) in _FORMS
    if "body" in parts and not is_form:
        body = parts.pop("body")
        if body or len(parts) != 1:
            return body, content_type
    if len(parts) != 1:
        names = ", ".join(sorted(parts)) or "none"  # none: curl -d '[[1, 2]]', without its type
        raise UnsupportedType(
            f"a form of one part was wanted, the parts are: {names}; "
            "for a body that is no form, say its type, as Content-Type: application/json"
        )
    ((name, value),) = parts.items()
    own = received.get(name)
    told = str(own.get("content-type") or "") if isinstance(own, dict) else ""
    return value, told or ("" if is_form else content_type)


def _alone(index: int, context: Any) -> Any:
    """MMS's context as it is for a batch of one: what a script does to index 0 is its own."""
    view = copy.copy(context)
    view.request_ids = {0: context.get_request_id(index)}
    view.request_processor = [context.request_processor[index]]
    view.metrics = Metrics(context.metrics, context.get_request_id(index))
    return view


def _causes(exc: BaseException, model_dir: str) -> str:
    """``exc`` in a line, and what in the script it came from."""
    line = errors.cause(exc, model_dir)
    below = errors.cause(exc.__cause__, model_dir) if exc.__cause__ else ""
    return f"{line}; from {below}" if "(" in below and "line" in below else line


def _traceback(exc: BaseException) -> str:
    """The end of the traceback; MMS's log takes seconds for a megabyte."""
    return "\n" + "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))[-6_000:]


#: Bytes of a fault's message.  MMS closes a failed request's connection without waiting for its
#: body to be read, so a slow client loses the end of a long one (NettyUtils.java:204-207).
MAX_MESSAGE = 1_500


def _fault_body(found: errors.Fault, index: int, context: Any) -> tuple[bytes, str]:
    """A fault as JSON; as text where the client, or the script before it failed, wants text."""
    message = found.message.encode("utf-8", "replace")[:MAX_MESSAGE].decode("utf-8", "ignore")
    if _wants_text(index, context):
        return message.encode(), "text/plain"
    body = {
        "code": found.status,
        "type": found.type[:100],
        "message": message,
        "request_id": context.get_request_id(index),
    }
    return json.dumps(body, ensure_ascii=False).encode(), media.JSON


def _wants_text(index: int, context: Any) -> bool:
    set_by_script = context.get_response_content_type(index)
    if isinstance(set_by_script, str) and set_by_script.startswith("text/"):
        return True
    accepts = [v for k, v in context.get_all_request_header(index).items() if k.lower() == "accept"]
    ranges = media.ranges(accepts[0]) if accepts and isinstance(accepts[0], str) else []
    return bool(ranges) and ranges[0][0] == "text/plain"
