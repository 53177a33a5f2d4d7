"""framing: heads by the letter of RFC 9112.  tests/e2e/test_framing.py sends them to both ports."""

from __future__ import annotations

import io

import pytest
from framing_cases import ACCEPTED, CHUNKED, REFUSED, get

from mms_handler.server import framing
from mms_handler.server.framing import MAX_FIELDS, MAX_LINE, Malformed


def read(sent: bytes) -> tuple[framing.Head | None, bytes]:
    """The head of what a client sends, and what is left to read."""
    stream = io.BytesIO(sent)
    return framing.read(stream.readline(2**16 + 1), stream), stream.read()


#: The reader of heads leaves bodies alone, and those that use it take no chunked ones.
BODIES = [name for name, sent in REFUSED.items() if sent.startswith(CHUNKED + b"\r\n")]


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in BODIES])
def test_a_head_with_two_meanings(name):
    """It is refused with 400."""
    with pytest.raises(Malformed) as caught:
        read(REFUSED[name] + get(b"GET /hidden HTTP/1.1"))
    assert caught.value.status == 400


@pytest.mark.parametrize("name", [*BODIES, *ACCEPTED])
def test_a_head_with_one_meaning(name):
    """It comes out as it came in, without an empty line before it; the body is left."""
    sent = {**REFUSED, **ACCEPTED}[name]
    head, body = read(sent)
    assert head is not None
    assert head.line + head.fields + body == (sent[2:] if sent.startswith(b"\r\n") else sent)
    assert head.line.endswith(b"\r\n")
    assert head.line.count(b"\n") == 1
    assert head.fields.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "target", [b"/", b"http://a/", b"HTTPS://a/", b"Http://[::1]/\x80", b"/\xff?a=b"]
)
def test_targets(target):
    """Paths and whole URLs; a scheme may be in any case."""
    line = b"GET " + target + b" HTTP/1.1\r\n"
    head, _ = read(line + b"Host: a\r\n\r\n")
    assert head.line == line


@pytest.mark.parametrize(
    ("line", "fields", "reason"),
    [
        (b"GET / HTTP/1.1\n", b"", "a line ends with LF alone"),
        (b"GET /\x01 HTTP/1.1", b"", "a control character"),
        (b"GET /", b"Host: a\r\n", "the request line is not METHOD TARGET VERSION"),
        (b"GET / http/1.1", b"Host: a\r\n", "the request line does not end with HTTP/1.1"),
        (b"GET a HTTP/1.1", b"Host: a\r\n", "the request's target is no path"),
        (b"GET * HTTP/1.1", b"Host: a\r\n", "the request's target is no path"),
        (b"GET / HTTP/1.1", b"Host : a\r\n", "a header field is not NAME: VALUE"),
        (b"GET / HTTP/1.1", b"Host: a\r\nhost: a\r\n", "two host fields"),
        (b"GET / HTTP/1.1", b"", "no Host field"),
        (b"GET / HTTP/1.1", b"Content-Length: \r\n", "Content-Length is not a number"),
        (
            b"GET / HTTP/1.0",
            b"Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding in HTTP/1.0",
        ),
        (
            b"GET / HTTP/1.1",
            b"Transfer-Encoding: chunked, x\r\n",
            'a Transfer-Encoding other than "chunked"',
        ),
        (
            b"GET / HTTP/1.1",
            b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Transfer-Encoding and Content-Length in one request",
        ),
    ],
)
def test_the_reason(line, fields, reason):
    """It names the mistake."""
    with pytest.raises(Malformed) as caught:
        read(get(line, fields))
    assert str(caught.value) == reason


def line(length: int) -> bytes:
    """A request with a first line of ``length`` bytes."""
    return get(b"GET /" + b"a" * (length - len(b"GET / HTTP/1.1")) + b" HTTP/1.1")


def fields(length: int) -> bytes:
    """A request whose fields, with their line ends, have ``length`` bytes."""
    host = b"Host: a\r\nX: "
    return get(b"GET / HTTP/1.1", host + b"a" * (length - len(host) - 2) + b"\r\n")


@pytest.mark.parametrize(
    ("longest", "longer", "status"),
    [
        pytest.param(line(MAX_LINE), line(MAX_LINE + 1), 414, id="line"),
        pytest.param(
            b"\r\n" + line(MAX_LINE), b"\r\n" + line(MAX_LINE + 1), 414, id="behind an empty line"
        ),
        pytest.param(fields(MAX_FIELDS), fields(MAX_FIELDS + 3), 431, id="fields"),
        pytest.param(get(b"OPTIONS * HTTP/1.1"), get(b"GET / HTTP/3.0"), 505, id="version"),
    ],
)
def test_limits(longest, longer, status):
    """What is refused for its length or version has a status of its own."""
    assert read(longest)[0] is not None
    with pytest.raises(Malformed) as caught:
        read(longer)
    assert caught.value.status == status


@pytest.mark.parametrize("end", range(1, len(get(b"GET / HTTP/1.1"))))
def test_a_head_that_is_not_whole(end):
    """The client has ended the connection: there is nobody to answer."""
    assert read(get(b"GET / HTTP/1.1")[:end])[0] is None
