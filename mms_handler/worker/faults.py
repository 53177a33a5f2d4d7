"""What a failed request sends to the client and to the log."""

from __future__ import annotations

import json
import logging
import re
from typing import Sequence

from mms_handler import causes, errors, media
from mms_handler.errors import ScriptError
from mms_handler.log_records import log_with_traceback
from mms_handler.script.frames import script_traceback
from mms_handler.worker.mms import reply_frame
from mms_handler.worker.reply import Response
from mms_handler.worker.request import Received

log = logging.getLogger(__name__)

#: Bytes of a fault's message.  MMS closes a failed request's connection without waiting until its
#: body is read, so a slow client would lose the end of a long one (NettyUtils.java:204-207).
MAX_MESSAGE = 1_500

#: Characters of a traceback in the log: MMS's log takes seconds for a megabyte.
_MAX_TRACEBACK = 6_000


def response(exc: BaseException, received: Received) -> Response:
    """Log why a request failed, and return what is sent for it."""
    fault = errors.fault(exc)
    properties = received.context.system_properties
    folders = properties.get("script_folders") or [properties["model_dir"]]
    level, traceback = logging.WARNING, ""
    if fault.status >= 500:  # a bug
        level, traceback = logging.ERROR, bug_traceback(exc, *folders)
    log_with_traceback(log, level, f"{fault.status} {_causes(exc, folders)}", traceback)
    body, content_type = _body(fault, received)
    return reply_frame.response(body, content_type, fault.status, fault.phrase, None)


def bug_traceback(exc: BaseException, *folders: str) -> str:
    """The traceback of a script's bug; "" for a result, which has none of its own.

    Args:
        exc: what a step raised.
        folders: as for ``script_traceback``.
    """
    if isinstance(exc, ScriptError) and exc.function and exc.__cause__ is None:
        return ""
    return script_traceback(exc, *folders)[-_MAX_TRACEBACK:]


def script_cause(exc: BaseException, folders: Sequence[str]) -> str:
    """The script's exception that caused ``exc``, in one line; "" if no line of it did."""
    cause = causes.cause(exc.__cause__, *folders) if exc.__cause__ else ""
    return cause if re.search(r" \(.+, line \d+\)\Z", cause) else ""


def _causes(exc: BaseException, folders: Sequence[str]) -> str:
    """The exception in one line, with the script's exception that caused it."""
    cause = script_cause(exc, folders)
    return causes.cause(exc, *folders) + (f"; from {cause}" if cause else "")


def _body(fault: errors.Fault, received: Received) -> tuple[bytes, str]:
    """The fault as JSON, or as text where the client or the script asked for text."""
    message = fault.message.encode("utf-8", "replace")[:MAX_MESSAGE].decode("utf-8", "ignore")
    if _wants_text(received):
        return message.encode(), "text/plain"
    body = {
        "code": fault.status,
        "type": fault.type[:100],
        "message": message,
        "request_id": received.request_id,
    }
    return json.dumps(body, ensure_ascii=False).encode(), media.JSON


def _wants_text(received: Received) -> bool:
    headers = received.processor.get_response_headers() if received.processor else {}
    set_by_script = headers.get("content-type")
    if isinstance(set_by_script, str) and set_by_script.startswith("text/"):
        return True
    accept = received.headers.get("accept")
    return accept is not None and media.ranges(accept)[0][0] == "text/plain"
