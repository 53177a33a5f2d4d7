"""The head of a request by the letter of RFC 9112, as the gate reads it (Head.java).

http.server also takes heads that the RFC does not allow, and something in front may read these
differently: then a request can hide in another one.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

from mms_handler.errors import BadInput

#: The gate's limits, in bytes: of the request line, and of all fields.
MAX_LINE = 4096
MAX_FIELDS = 8192

_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\r\n")
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) ([\x20-\x7e]*)\r\n")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[\t ]*(.*?)[\t ]*\r\n", re.DOTALL)
_URL = re.compile(rb"https?://[\w\[].*", re.IGNORECASE)

#: Fields that a request may have once at most.
_SINGLE = (b"content-length", b"content-type", b"host", b"transfer-encoding")


class Malformed(BadInput):
    """Bytes that are no request, or that two programs could read as different requests."""

    def __init__(self, message: str, status: int = 400) -> None:
        """Refuse with ``status``."""
        super().__init__(message)
        self.status = status


class Head(NamedTuple):
    """A request line, and its fields with the empty line behind them."""

    line: bytes
    fields: bytes


def read(first: bytes, stream: io.BufferedIOBase) -> Head | None:
    """Read a request's head; None if the stream ends before it does.

    Args:
        first: its first line, or a part of it that is too long.
        stream: what follows; the body is left in it.

    Raises:
        Malformed: it is not by the RFC's letter; says in what.
    """
    line = stream.readline(MAX_LINE + 3) if first == b"\r\n" else first  # one is allowed
    if not _is_line(line, MAX_LINE, Malformed(f"the request line is longer than {MAX_LINE}", 414)):
        return None
    fields = b""
    while not fields.endswith(b"\r\n\r\n") and fields != b"\r\n":
        rest = MAX_FIELDS - len(fields)
        field = stream.readline(rest + 3)
        if not _is_line(field, rest, Malformed(f"the fields are longer than {MAX_FIELDS}", 431)):
            return None
        fields += field
    http11 = _check_line(line)
    _check_fields(fields.splitlines(keepends=True)[:-1], http11)
    return Head(line, fields)


def _is_line(line: bytes, limit: int, too_long: Malformed) -> bool:
    """Whether ``line`` is whole; False if the stream ended in it."""
    if len(line) > limit + 2:
        raise too_long
    ended = line.endswith(b"\n")
    if ended and not line.endswith(b"\r\n"):
        raise Malformed("a line ends with LF alone")
    if ended and not _TEXT.fullmatch(line):
        raise Malformed("a control character")
    return ended


def _check_line(line: bytes) -> bool:
    """Check METHOD TARGET VERSION; returns whether the version is 1.1."""
    match = _REQUEST.fullmatch(line)
    if match is None:
        raise Malformed("the request line is not METHOD TARGET VERSION")
    method, target, version = match.groups()
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        known = re.fullmatch(rb"HTTP/\d\.\d", version)
        raise Malformed("the request line does not end with HTTP/1.1", 505 if known else 400)
    star = (method, target) == (b"OPTIONS", b"*")
    if not (target.startswith(b"/") or star or _URL.fullmatch(target)):
        raise Malformed("the request's target is no path")
    return bool(version == b"HTTP/1.1")


def _check_fields(lines: list[bytes], http11: bool) -> None:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Malformed("a header field is not NAME: VALUE")
        name = match[1].lower()
        if name in fields and name in _SINGLE:
            raise Malformed(f"two {match[1].decode()} fields")
        fields[name] = match[2]
    coding = fields.get(b"transfer-encoding", b"chunked")
    if coding.lower() != b"chunked":
        raise Malformed('a Transfer-Encoding other than "chunked"')
    if b"transfer-encoding" in fields and b"content-length" in fields:
        raise Malformed("Transfer-Encoding and Content-Length in one request")
    if b"transfer-encoding" in fields and not http11:
        raise Malformed("Transfer-Encoding in HTTP/1.0")
    if not re.fullmatch(rb"[0-9]{1,18}", fields.get(b"content-length", b"0")):
        raise Malformed("Content-Length is not a number")
    if http11 and b"host" not in fields:
        raise Malformed("no Host field")
