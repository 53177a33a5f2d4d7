"""MMS's entry point, ``mms_handler.service:handle``: a list of requests in, as many replies out.

The only module that knows MMS's context.  MMS calls ``handle(None, context)`` when a worker
loads its model and ``handle([request, ...], context)`` for each batch.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import sys
import time
import traceback
from typing import Any, Callable, Mapping

from mms_handler import codecs, errors, settings
from mms_handler.errors import OutOfResources, UnsupportedType
from mms_handler.loading import load
from mms_handler.settings import Settings

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
            self._start(context)
            return None
        return [self._answer(index, request, context) for index, request in enumerate(data)]

    def _start(self, context: Any) -> None:
        # MMS would parse JSON and text itself, and a body that is neither kills the worker;
        # its codec asks the environment anew for each message (otf_message_handler.py:289).
        settings.export("MMS_DECODE_INPUT_REQUEST", "false")
        try:
            self._settings = settings.current()
            self._pipeline = self._load(context, self._settings)
        except BaseException as exc:
            # One line first; MMS logs the traceback.  Its log readers are told to stop as
            # soon as the worker dies, hence the pause.
            log.error("cannot load model %s: %s", context.model_name, " ".join(str(exc).split()))
            sys.stdout.flush()
            time.sleep(0.1)
            raise
        log.info("model %s is loaded", context.model_name)

    def _answer(self, index: int, request: dict[str, Any], context: Any) -> bytes:
        """Answer one request of the batch.  What it raises stays its own."""
        try:
            reply = self._pipeline.transform(
                **_arguments(index, request, context, self._settings.max_body_bytes)
            )
            if len(reply.body) > self._settings.max_response_bytes:  # would kill the worker
                raise OutOfResources(
                    f"the reply has {len(reply.body)} bytes, the server sends at most "
                    f"{self._settings.max_response_bytes}"
                )
            body: bytes = reply.body
            content_type = reply.content_type
            status, phrase = context.get_response_status(index)  # the script may have set them
            status = status if reply.status == 200 else reply.status
        except BaseException as exc:  # sys.exit and their like are this request's too
            found = self._note(exc, index, context)
            body, content_type = _fault_body(found, index, context)
            context.get_response_headers(index).clear()
            status, phrase = found.status, found.phrase
        context.set_response_content_type(index, content_type)
        context.set_response_status(*_sendable_status(status, phrase), index)
        _make_sendable(context.get_response_headers(index))
        return body

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


def _arguments(index: int, request: dict[str, Any], context: Any, limit: int) -> dict[str, Any]:
    """What Pipeline.transform wants of one request; ``limit`` is for a body once decompressed."""
    received = context.get_all_request_header(index)
    headers = {name.lower(): value for name, value in received.items() if isinstance(value, str)}
    body, content_type = _body(request, received, headers.get("content-type", ""))
    encoding = headers.get("content-encoding", "")
    return {
        "body": codecs.decompress(body, encoding, limit) if encoding else body,
        "content_type": content_type or codecs.JSON,
        "accept": headers.get("accept", ""),
        "by_name": {
            "context": _alone(index, context),
            "gpu_id": context.system_properties["gpu_id"],
            "request_id": context.get_request_id(index),
            "headers": headers,
        },
    }


_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def _body(
    request: dict[str, Any], received: Mapping[str, Any], content_type: str
) -> tuple[bytes, str]:
    """The body and its type: as it came, or the one part of a form, which MMS takes apart.

    MMS keeps each part's own Content-Type in the dict of headers, as a dict under its name.
    """
    if "body" in request and codecs.main_type(content_type) not in _FORMS:
        return bytes(request["body"]), content_type
    parts = {name: bytes(value) for name, value in request.items() if name != "model_name"}
    if len(parts) != 1:
        names = ", ".join(sorted(parts)) or "none"  # none: curl -d '[[1, 2]]', without its type
        raise UnsupportedType(
            f"a form of one part was wanted, the parts are: {names}; "
            "for a body that is no form, say its type, as Content-Type: application/json"
        )
    ((name, value),) = parts.items()
    own = received.get(name)
    return value, str(own.get("content-type") or "") if isinstance(own, dict) else ""


def _alone(index: int, context: Any) -> Any:
    """MMS's context as it is for a batch of one: what a script does to index 0 is its own."""
    view = copy.copy(context)
    view.request_ids = {0: context.get_request_id(index)}
    view.request_processor = [context.request_processor[index]]
    return view


# --- what MMS can send -----------------------------------------------------------------------
#
# Its frame writes a text's length in characters and its bytes in UTF-8, and it does not check
# what goes into the status line and the headers (otf_message_handler.py:47-55, 89-106): one
# letter outside ASCII kills the worker, a line break splits the reply or hangs the client.


def _sendable_status(status: Any, phrase: Any) -> tuple[int, str]:
    if not isinstance(status, int) or not 200 <= status <= 599:
        log.warning("status %r is not a number from 200 to 599; 500 sent", status)
        status = 500
    if not phrase:
        return status, "OK" if status == 200 else ""
    return status, "".join(c if c.isascii() and c.isprintable() else "?" for c in str(phrase))


#: Headers of the connection, which is the front end's; it corrupts a chunked reply.
_HOP_BY_HOP = {
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


#: Characters of a header's value; a longer one costs the worker.
MAX_HEADER = 4_096


def _make_sendable(headers: dict[Any, Any]) -> None:
    """Take out of ``headers`` what would break the frame or split the reply."""
    for name, value in list(headers.items()):
        sendable = _is_token(name) and isinstance(value, str) and _is_printable(value)
        if not sendable or len(value) > MAX_HEADER or name.lower() in _HOP_BY_HOP:
            log.warning("reply header %r cannot be sent; left out: %.200r", name, value)
            del headers[name]


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _is_token(name: Any) -> bool:
    return isinstance(name, str) and bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name))


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
    return json.dumps(body, ensure_ascii=False).encode(), codecs.JSON


def _wants_text(index: int, context: Any) -> bool:
    set_by_script = context.get_response_content_type(index)
    if isinstance(set_by_script, str) and set_by_script.startswith("text/"):
        return True
    accepts = [v for k, v in context.get_all_request_header(index).items() if k.lower() == "accept"]
    ranges = codecs.ranges(accepts[0]) if accepts and isinstance(accepts[0], str) else []
    return bool(ranges) and ranges[0][0] == "text/plain"


handle = Service(load)
