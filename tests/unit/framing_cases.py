"""Requests with one meaning, and bytes that two programs may read as different requests."""

from __future__ import annotations

HEAD = b"POST /predictions/sleeper HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"


def post(fields: bytes, body: bytes = b"0") -> bytes:
    return HEAD + fields + b"\r\n" + body


def chunks(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


def get(line: bytes, fields: bytes = b"Host: localhost\r\n") -> bytes:
    return line + b"\r\n" + fields + b"\r\n"


REFUSED = {
    "LF ends a chunk line": chunks(b"1\n0\r\n0\r\n\r\n"),
    "LF ends a chunk": chunks(b"1\r\n0\n0\r\n\r\n"),
    "LF ends the last chunk line": chunks(b"1\r\n0\r\n0\n\r\n"),
    "LF ends a chunk extension": chunks(b"1;a\n0\r\n0\r\n\r\n"),
    "CR LF in a quoted chunk extension": chunks(b'1;a="\r\n0\r\n0\r\n\r\n'),
    "CR LF behind an escaped quote": chunks(b'1;a="\\"\r\n0\r\n0\r\n\r\n'),
    "a hidden request in a chunk extension": chunks(b'1;a="\r\n0\r\n0\r\n\r\n' + HIDDEN + b'"\r\n'),
    "NUL in a chunk extension": chunks(b"1;a=\0\r\n0\r\n0\r\n\r\n"),
    "a long chunk extension": chunks(b"1;" + b"a" * 300 + b"\r\n0\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunks(b"0x1\r\n0\r\n0\r\n\r\n"),
    "a chunk size with a sign": chunks(b"+1\r\n0\r\n0\r\n\r\n"),
    "a chunk size with a space": chunks(b"1 \r\n0\r\n0\r\n\r\n"),
    "a chunk size behind a space": chunks(b" 1\r\n0\r\n0\r\n\r\n"),
    "a chunk size of nine digits": chunks(b"000000001\r\n0\r\n0\r\n\r\n"),
    "a chunk size of 4 GB": chunks(b"ffffffff\r\n0\r\n0\r\n\r\n"),
    "a chunk size that wraps to 1 in 32 bits": chunks(b"100000001\r\n0\r\n0\r\n\r\n"),
    "a chunk without a size": chunks(b"\r\n0\r\n0\r\n\r\n"),
    "a chunk longer than its size": chunks(b"1\r\n00\r\n0\r\n\r\n"),
    "a space in a trailer's name": chunks(b"1\r\n0\r\n0\r\na b: c\r\n\r\n"),
    "LF ends a trailer": chunks(b"1\r\n0\r\n0\r\na: c\n\r\n"),
    "an unknown coding": post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "chunked and an unknown coding": post(
        b"Transfer-Encoding: chunked, xchunked\r\n", b"1\r\n0\r\n0\r\n\r\n"
    ),
    "chunked and identity": post(
        b"Transfer-Encoding: chunked, identity\r\n", b"1\r\n0\r\n0\r\n\r\n"
    ),
    "chunked, and a coding in another field": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", b"1\r\n0\r\n0\r\n\r\n"
    ),
    "gzip and chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", b"1\r\n0\r\n0\r\n\r\n"),
    "chunked twice": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"1\r\n0\r\n0\r\n\r\n"
    ),
    "identity": post(b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n"),
    "identity alone": post(b"Transfer-Encoding: identity\r\n", b""),
    "an empty coding": post(b"Transfer-Encoding:\r\n", b""),
    "a quoted coding": post(b'Transfer-Encoding: "chunked"\r\n', b"1\r\n0\r\n0\r\n\r\n"),
    "a coding behind VT": post(b"Transfer-Encoding: \x0bchunked\r\n", b"1\r\n0\r\n0\r\n\r\n"),
    "length, then chunked": post(
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", b"1\r\n0\r\n0\r\n\r\n"
    ),
    "chunked, then length": post(
        b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", b"1\r\n0\r\n0\r\n\r\n"
    ),
    "chunked in HTTP/1.0": chunks(b"1\r\n0\r\n0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a length with a sign": post(b"Content-Length: +1\r\n"),
    "a negative length": post(b"Content-Length: -1\r\n"),
    "a hexadecimal length": post(b"Content-Length: 0x1\r\n"),
    "a length with an underscore": post(b"Content-Length: 1_0\r\n", b"0.00000000"),
    "a list of lengths": post(b"Content-Length: 1, 1\r\n"),
    "a list of lengths behind a space": post(b"Content-Length:  1,1\r\n"),
    "an empty length": post(b"Content-Length:\r\n", b""),
    "a length of twenty digits": post(b"Content-Length: 00000000000000000001\r\n"),
    "two equal lengths": post(b"Content-Length: 1\r\nContent-Length: 1\r\n"),
    "two lengths": post(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"00"),
    "a folded length": post(b"Content-Length:\r\n 1\r\n"),
    "a folded field": post(b"X-A: a\r\n b\r\nContent-Length: 1\r\n"),
    "a first field that is folded": get(b"GET /ping HTTP/1.1", b" X: y\r\nHost: localhost\r\n"),
    "a space before the colon": post(b"Content-Length : 1\r\n"),
    "a tab before the colon": post(b"Transfer-Encoding\t: chunked\r\nContent-Length: 1\r\n"),
    "a field without a colon": post(b"nonsense\r\nContent-Length: 1\r\n"),
    "a field without a name": post(b": a\r\nContent-Length: 1\r\n"),
    "a name with a letter of two bytes": post("\u00e9: a\r\nContent-Length: 1\r\n".encode()),
    "NUL in a name": post(b"X\0: a\r\nContent-Length: 1\r\n"),
    "NUL in a value": post(b"X-A: a\0b\r\nContent-Length: 1\r\n"),
    "ESC in a value": post(b"X-A: \x1b[31m\r\nContent-Length: 1\r\n"),
    "DEL in a value": post(b"X-A: \x7f\r\nContent-Length: 1\r\n"),
    "CR in a value": post(b"X-A: a\rX-B: b\r\nContent-Length: 1\r\n"),
    "CR CR LF ends a field": post(b"X-A: a\r\r\nContent-Length: 1\r\n"),
    "LF ends a field": post(b"X-A: a\nContent-Length: 1\r\n"),
    "LF ends the head": HEAD + b"Content-Length: 1\n\n0",
    "LF ends the request line": b"GET /ping HTTP/1.1\nHost: localhost\r\n\r\n",
    "two Host fields": post(b"Host: there\r\nContent-Length: 1\r\n"),
    "no Host field": get(b"GET /ping HTTP/1.1", b"X: y\r\n"),
    "two content types": post(b"Content-Type: text/csv\r\nContent-Length: 1\r\n"),
    "two spaces in the request line": get(b"GET  /ping HTTP/1.1"),
    "a tab in the request line": get(b"GET\t/ping HTTP/1.1"),
    "a space behind the version": get(b"GET /ping HTTP/1.1 "),
    "a space before the method": get(b" GET /ping HTTP/1.1"),
    "a space in the path": get(b"GET /pi ng HTTP/1.1"),
    "a method that is no token": get(b"G(T /ping HTTP/1.1"),
    "a version in lower case": get(b"GET /ping http/1.1"),
    "no version": get(b"GET /ping"),
    "a path without a slash": get(b"GET ping HTTP/1.1"),
    "a host without a path": get(b"GET http:// HTTP/1.1"),
    "a star that is not for OPTIONS": get(b"GET * HTTP/1.1"),
    "two empty lines before a request": b"\r\n\r\n" + get(b"GET /ping HTTP/1.1"),
    "NUL before a request": b"\0" + get(b"GET /ping HTTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

ACCEPTED = {
    "a length": post(b"Content-Length: 1\r\n"),
    "blanks around a length": post(b"Content-Length: \t 1 \t\r\n"),
    "a length with leading zeros": post(b"Content-Length: 0001\r\n"),
    "a name in upper case": post(b"CONTENT-LENGTH:1\r\n"),
    "one chunk": chunks(b"1\r\n0\r\n0\r\n\r\n"),
    "upper case": post(b"TRANSFER-ENCODING:CHUNKED\r\n", b"1\r\n0\r\n0\r\n\r\n"),
    "several chunks": chunks(b"1\r\n0\r\n2\r\n.0\r\n0003\r\n000\r\n0\r\n\r\n"),
    "a size in upper case": chunks(b"A\r\n0.00000000\r\n0\r\n\r\n"),
    "extensions": chunks(b'1;a;b=c;d="e;\\"f"\r\n0\r\n0;x=y\r\n\r\n'),
    "trailers": chunks(b"1\r\n0\r\n0\r\nX-A: b\r\nX-C:\r\n\r\n"),
    "an empty line before": b"\r\n" + post(b"Content-Length: 1\r\n"),
    "an empty value": post(b"X-A:\r\nContent-Length: 1\r\n"),
    "a value of UTF-8": post("X-A: \u00e9\r\nContent-Length: 1\r\n".encode()),
    "a tab in a value": post(b"X-A: a\tb\r\nContent-Length: 1\r\n"),
    "HTTP/1.0": post(b"Connection: keep-alive\r\nContent-Length: 1\r\n").replace(b"/1.1", b"/1.0"),
    "HTTP/1.0 without Host": b"POST /predictions/sleeper HTTP/1.0\r\nContent-Type: text/csv\r\n"
    b"Connection: keep-alive\r\nContent-Length: 1\r\n\r\n0",
}
