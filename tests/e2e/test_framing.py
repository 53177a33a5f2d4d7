"""Only requests with one meaning are read; others get 400 before any handler sees them."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from typing import Iterator

import pytest
from framing_cases import ACCEPTED, CHUNKED, HEAD, HIDDEN, REFUSED, chunks, get
from plugin_mms import LIMIT, Running, connected, pack, raw, request
from running_mms import Serving, free_ports, wait_for


@pytest.fixture(scope="module")
def mms(tmp_path_factory) -> Iterator[Running]:
    """``serve`` with a sleeper of one worker."""
    folder = tmp_path_factory.mktemp("strict")
    pack(folder)
    words = (folder / "store" / "sleeper.mar", "--workers", "1", "--max-body-bytes", LIMIT)
    with Serving(free_ports(), *words, log=folder / "log") as serving:
        gate, management = serving.inference, serving.management
        yield Running(folder, gate, management, gate, serving.process)


@pytest.fixture(params=["gate", "management"])
def url(mms, request) -> str:
    """The gate, and the port of the management API."""
    return str(getattr(mms, request.param))


def statuses(received: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in REFUSED.items()])
def test_a_request_with_two_meanings_is_refused(mms, url, sent):
    """One answer, 400 in JSON, and the end of the connection: nothing behind it is a request."""
    with connected(mms, url) as connection:
        connection.settimeout(5)
        connection.sendall(sent + HIDDEN)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert statuses(received) == [400]
    assert b"connection: close" in head.lower()
    assert json.loads(body)["code"] == 400
    assert json.loads(body)["message"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(get(b"GET /ping HTTP/2.0"), 505, id="another version"),
        pytest.param(get(b"GET /" + b"a" * 4096 + b" HTTP/1.1"), 414, id="a long path"),
        pytest.param(
            get(b"GET /ping HTTP/1.1", b"Host: localhost\r\nX: " + b"a" * 8192 + b"\r\n"),
            431,
            id="long",
        ),
        pytest.param(b"GET /ping HTTP/1.1\r\nX: " + b"a" * 20_000, 431, id="long and open"),
    ],
)
def test_a_request_that_is_too_long_is_refused(mms, url, sent, status):
    """It has a status of its own, and the connection is closed."""
    with connected(mms, url) as connection:
        connection.settimeout(5)
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert statuses(received) == [status]


def test_a_long_trailer_is_refused(mms):
    """As a long head is."""
    assert statuses(raw(mms, chunks(b"0\r\nX: " + b"a" * 9000), b"no such end")) == [431]


@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in ACCEPTED.items()])
def test_a_request_with_one_meaning_is_answered(mms, sent):
    """So is the one behind it, whether they arrive at once or in single bytes."""
    ping = get(b"GET /ping HTTP/1.1", b"Host: localhost\r\nConnection: close\r\n")
    assert statuses(raw(mms, sent + ping, b"no such end")) == [200, 200]
    with connected(mms) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in sent + ping:
            connection.sendall(bytes([byte]))
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert statuses(received) == [200, 200]


@pytest.mark.parametrize(
    "sent",
    [pytest.param(sent, id=name) for name, sent in ACCEPTED.items() if sent.endswith(b"\r\n\r\n0")],
)
def test_the_management_api_takes_requests_with_one_meaning(mms, sent):
    """It reads the one behind it, too.  Neither is for a path that it has."""
    ping = get(b"GET /ping HTTP/1.1", b"Host: localhost\r\nConnection: close\r\n")
    with connected(mms, mms.management) as connection:
        for byte in sent:
            connection.sendall(bytes([byte]))
        connection.sendall(ping)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert statuses(received)[1:] == [404]  # the first one's body is no JSON object


def test_good_requests_before_a_bad_one_are_answered(mms):
    """The answers are in order, and nothing behind the bad request is read."""
    received = raw(mms, request("0.2") + request("0") + b"nonsense\n" + HIDDEN, b"no such end")
    assert statuses(received) == [200, 200, 400]


def test_a_client_that_reads_no_answer_is_not_read_either(mms):
    """netty would keep something for each of its requests, without a limit (CVE-2026-93491)."""
    pings = get(b"GET /ping HTTP/1.1") * 1000
    limit = 2**26  # more than the system's buffers take
    sent = 0
    with connected(mms) as connection, contextlib.suppress(socket.timeout):
        connection.settimeout(2)
        while sent < limit:
            sent += connection.send(pings)
    assert sent < limit


def test_a_bad_chunk_behind_good_ones_is_refused(mms):
    """The request had begun when the error came."""
    with connected(mms) as connection:
        connection.sendall(CHUNKED + b"\r\n1\r\n0\r\n")
        time.sleep(0.2)
        connection.sendall(b"1\n0\r\n0\r\n\r\n" + HIDDEN)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert statuses(received) == [400]
    wait_for(lambda: mms.metrics()["in_flight"] == 0, 5)


def test_a_refused_expectation_ends_the_connection(mms):
    """It gets 413 before its body; whether a body follows is unknown, so nothing is read."""
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1)
    received = raw(mms, head + HIDDEN, b"no such end")
    assert statuses(received) == [413]
    assert b"connection: close" in received


def test_an_expectation_is_met(mms):
    """The client sends its body when it is told to."""
    with connected(mms) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"0")
        assert statuses(connection.recv(65_536)) == [200]


def test_a_refusal_says_in_the_log_what_was_wrong(mms):
    """There is a line for the first, and then one for those of ten seconds."""
    raw(mms, REFUSED["two lengths"], b"no such end")
    wait_for(lambda: "because a request was malformed" in mms.log(), 15)
