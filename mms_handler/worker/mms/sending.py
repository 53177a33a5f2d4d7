"""What MMS can send: a status, a phrase and headers that break neither its frame nor HTTP.

Its frame writes a text's length in characters and its bytes in UTF-8, and it does not check
what goes into the status line and the headers (otf_message_handler.py:47-55, 89-106): one
letter outside ASCII kills the worker, a line break splits the reply or hangs the client.
"""

from __future__ import annotations

import logging
import re
from typing import Any

log = logging.getLogger(__name__)

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


def status_line(status: Any, phrase: Any) -> tuple[int, str]:
    """``status`` and ``phrase`` as they can be sent."""
    if not isinstance(status, int) or not 200 <= status <= 599:
        log.warning("status %r is not a number from 200 to 599; 500 sent", status)
        status = 500
    if not phrase:
        return status, "OK" if status == 200 else ""
    return status, "".join(c if c.isascii() and c.isprintable() else "?" for c in str(phrase))


def clean(headers: dict[Any, Any]) -> None:
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
