"""Shape the reply frame that MMS writes, so that it breaks neither its Java reader nor HTTP.

code, message, [id, content type, STATUS, phrase, HEADERS, body]...

MMS writes a text's length in characters and its bytes in UTF-8, and does not check what goes into
the status line and the headers (otf_message_handler.py:47-55, 89-106): one letter outside ASCII
kills the worker, a line break splits the reply or hangs the client.  ``set_head`` removes both.

Java reads a frame as its bytes arrive and waits for missing ones, except within a request's status
and its map of headers (ModelResponseDecoder.java, CodecUtils.readMap): if a read ends there, it
raises and drops the worker with its whole batch.  Reads end at multiples of 16 bytes from the
frame's start, because netty's buffers and the kernel's pieces do.  ``shape`` avoids both fields:
it keeps the map empty and sends the headers in the field of the content type, where Java waits.  It
moves the status away from those places with spaces before the type, which HTTP readers drop.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any, Dict, Mapping, Sequence

from mms_handler.worker.reply import Response

log = logging.getLogger(__name__)

#: The message of a frame, and where its replies start: after its code, the message's length and the
#: message (mms/service.py, create_predict_response).
MESSAGE = "Prediction success"
START = 4 + 4 + len(MESSAGE)

#: Reads end at multiples of this.
_BLOCK = 16

#: Headers that MMS sets itself, over a script's (NettyUtils.sendHttpResponse).
SET_BY_MMS = {"x-request-id", "pragma", "cache-control", "expires"}

#: Headers of the connection, which belongs to the front end.  A script's would corrupt a chunked
#: reply.
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

#: Characters of a header's value.  A longer one kills the worker.
MAX_HEADER = 4_096


# --- heads -----------------------------------------------------------------------------------


def response(
    body: bytes, content_type: str, status: Any, phrase: Any, headers: Mapping[Any, Any] | None
) -> Response:
    """A response that can be sent.

    Args:
        body: the response's.
        content_type: of the body.
        status: a number from 200 to 599; anything else is sent as 500.
        phrase: the reason phrase; letters outside printable ASCII are replaced.
        headers: the script's, if any; those that cannot be sent are left out.
    """
    sent = {**(headers or {}), "content-type": content_type}
    drop_unsendable(sent)
    return Response(*status_line(status, phrase), sent, body)


def set_head(index: int, response: Response, context: Any) -> None:
    """Set the status, phrase and headers of a response on MMS's context."""
    context.set_response_status(response.status, response.phrase, index)
    headers = context.get_response_headers(index)
    headers.clear()
    headers.update(response.headers)


def status_line(status: Any, phrase: Any) -> tuple[int, str]:
    """``status`` and ``phrase``, corrected so that they can be sent."""
    if not isinstance(status, int) or not 200 <= status <= 599:
        log.warning("status %r is not a number from 200 to 599; 500 is sent instead", status)
        status = 500
    if not phrase:
        return status, "OK" if status == 200 else ""
    return status, "".join(c if c.isascii() and c.isprintable() else "?" for c in str(phrase))


def drop_unsendable(headers: dict[Any, Any]) -> None:
    """Remove the headers that would break the frame or split the reply."""
    for name, value in list(headers.items()):
        texts = isinstance(name, str) and isinstance(value, str)
        if not (texts and _is_sendable(name, value)):
            log.warning("reply header %r cannot be sent; left out: %.200r", name, value)
            del headers[name]


@lru_cache(maxsize=64)
def _is_sendable(name: str, value: str) -> bool:
    return (
        re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is not None
        and name.lower() not in _HOP_BY_HOP
        and len(value) <= MAX_HEADER
        and value.isascii()
        and value.isprintable()
    )


# --- frames ----------------------------------------------------------------------------------


class TypeAlone(Dict[str, str]):
    """A reply's headers for MMS: an empty dict whose ``get`` knows the content type."""

    def __init__(self, content_type: str) -> None:
        super().__init__()
        self._content_type = content_type

    def get(self, key: str, default: Any = None) -> Any:
        return self._content_type if key == "content-type" else default


def shape(context: Any, bodies: Sequence[bytes]) -> None:
    """Shape the frame that MMS will write for these replies.

    Args:
        context: MMS's, with each reply's status, phrase and headers set: ASCII.
        bodies: the replies' bodies, in the order of the batch.
    """
    position = START
    for index, body in enumerate(bodies):
        processor = context.request_processor[index]
        position += 4 + len(context.get_request_id(index)) + 4
        content_type = _padded(_folded(processor.get_response_headers()), position)
        processor._response_header = TypeAlone(content_type)
        _, phrase = context.get_response_status(index)
        position += len(content_type) + 4 + 4 + len(phrase or "") + 4 + 4 + len(body)


def _folded(headers: Mapping[str, str]) -> str:
    """All headers in one text, which MMS writes as the content type: the type, then a line each."""
    by_name = {name.lower(): (name, value) for name, value in headers.items()}
    _, content_type = by_name.pop("content-type", ("", ""))
    lines = [f"{name}: {value}" for key, (name, value) in by_name.items() if key not in SET_BY_MMS]
    return "\r\n".join([content_type or "application/octet-stream", *lines])


def _padded(content_type: str, position: int) -> str:
    """Prefix the type with the fewest spaces that put the next four bytes inside a block."""
    end = (position + len(content_type)) % _BLOCK
    spaces = 0 if 0 < end <= _BLOCK - 4 else 1 if not end else _BLOCK - end + 1
    return " " * spaces + content_type
