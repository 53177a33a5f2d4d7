"""The id of a request: the client's own, from the header X-Request-Id, or a new one."""

from __future__ import annotations

import uuid

HEADER = "x-request-id"

_MAX_LENGTH = 128


def request_id(sent: str | None) -> str:
    """The id that a client sent, if it is printable ASCII of 1 to 128 characters; else a new one.

    The gate has the same rule (RequestId.java).
    """
    if sent and len(sent) <= _MAX_LENGTH and sent.isascii() and sent.isprintable():
        return sent
    return str(uuid.uuid4())
