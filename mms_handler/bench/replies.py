"""Take replies from a connection's bytes, and judge whether they are right."""

from __future__ import annotations

import re
from typing import Any, Mapping, NamedTuple

#: Bodies whose judgement is remembered.
KNOWN = 64

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)")


class Reply(NamedTuple):
    """A whole reply.

    Fields:
        status: the HTTP status; 0 if this is no reply of HTTP.
        head: the status line and the headers.
        body: decoded, if it came in chunks.
        ends: whether the server closes the connection after it.
    """

    status: int
    head: bytes
    body: bytes
    ends: bool


def parse(data: bytes, closed: bool) -> Reply | None:
    """The reply that ``data`` holds; None while a part of it is missing.

    Args:
        data: all that the connection has received since the request.
        closed: whether nothing more will come.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    lower, body = head.lower(), rest
    length = _LENGTH.search(lower)
    if length:
        if len(rest) < int(length[1]):
            return None
    elif b"\r\ntransfer-encoding: chunked" in lower:
        joined = _joined(rest)
        if joined is None:
            return None
        body = joined
    elif not closed:
        return None
    ends = closed or b"\r\nconnection: close" in lower or lower.startswith(b"http/1.0")
    return Reply(_status(head), head, body, ends)


class Parser:
    """Parses replies; those that are like the last one in less time."""

    def __init__(self) -> None:
        self._length_line, self._size = b"", 0

    def parse(self, data: bytes, closed: bool) -> Reply | None:
        """As the function ``parse``."""
        split = data.find(b"\r\n\r\n")
        head = data[: split + 2]
        if (
            self._length_line
            and not closed
            and len(data) == split + 4 + self._size
            and self._length_line in head
            and head.startswith(b" 200 ", 8)
            and b"lose" not in head
        ):
            return Reply(200, data[:split], data[split + 4 :], False)
        reply = parse(data, closed)
        if reply:
            self._size = len(reply.body)
            line = re.search(
                rb"\r\ncontent-length: *%d\r\n" % self._size, reply.head + b"\r\n", re.I
            )
            self._length_line = line.group() if line else b""
        return reply


def _status(head: bytes) -> int:
    words = head.split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _joined(data: bytes) -> bytes | None:
    """The body that came in chunks; None while one is missing."""
    parts: list[bytes] = []
    start = 0
    while True:
        end = data.find(b"\r\n", start)
        if end < 0:
            return None
        size = int(data[start:end].split(b";")[0], 16)
        if len(data) < end + 4 + size:
            return None
        if not size:
            return b"".join(parts)
        parts.append(data[end + 2 : end + 2 + size])
        start = end + 4 + size


#: How far a number may be from the expected one, as a share of the largest: graphs that are faster
#: agree with the model's own so far.
_SHARE = 1e-3


class Judge:
    """Says whether replies are the expected one, as near as a faster graph's are."""

    def __init__(self, expected: Mapping[str, Any] | None) -> None:
        self._expected = expected
        self._known: dict[bytes, bool] = {}

    def is_right(self, reply: Reply) -> bool:
        if self._expected is None:
            return True
        right = self._known.get(reply.body)
        if right is None:
            right = self._same(self._expected, reply)
            if len(self._known) < KNOWN:
                self._known[reply.body] = right
        return right

    @staticmethod
    def _same(expected: Mapping[str, Any], reply: Reply) -> bool:
        from mms_handler.archive import packed_reply

        current = packed_reply.encode(reply.status, content_type(reply.head), reply.body)
        return packed_reply.same(expected, current, _SHARE)


def content_type(head: bytes) -> str:
    """The Content-Type among the headers; "" if there is none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return value.strip().decode("latin-1")
    return ""
