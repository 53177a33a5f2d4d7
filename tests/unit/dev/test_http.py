"""http: which requests of serve --dev are answered, and how those that are not are refused."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from mms_handler.dev import http
from mms_handler.dev.worker import Reply
from mms_handler.errors import BadInput
from mms_handler.server.access import Access


@pytest.fixture(scope="module")
def served():
    """A server that answers with the body, and takes no more than five bytes."""

    def answer(body, headers):
        if body == b"bad":
            raise BadInput("größe")
        text = body + headers["x-request-id"].encode()
        return Reply(201, {"content-type": "text/x", "x-mine": headers.get("x-sent", "")}, text)

    access = Access("", ["mine.example"], any_public_host=False)
    ready = []

    def page(path, accept, tag):
        if path != "/ui/":
            return None
        if tag == '"1"':
            return Reply(304, {"ETag": tag}, b"")
        return Reply(200, {"content-type": accept, "ETag": '"1"'}, b"a page")

    address = ("127.0.0.1", 0)
    server = http.serving(address, "words", access, answer, page, lambda: bool(ready), 5)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    server.ready = ready
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def exchange(server, *requests):
    """Send requests over one connection; all that comes back, up to its end."""
    with socket.create_connection(server.server_address, timeout=20) as connection:
        connection.sendall(b"".join(requests))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def post(path="/invocations", body=b"x", host="localhost", **headers):
    headers = {"Host": host, "Content-Length": len(body), "X-Request-Id": "id", **headers}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode() + body


def parsed(reply):
    """Its status, its headers by lower-case name, and its body."""
    head, _, body = reply.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): text for name, text in headers.items()}, body


@pytest.mark.parametrize(
    "path", ["/invocations", "/invocations?a=b", "/predictions/words", "/models/words/invoke"]
)
def test_where_requests_are_answered(served, path):
    status, headers, body = parsed(exchange(served, post(path, b"12345", **{"X-Sent": "a b"})))
    assert (status, body) == (201, b"12345id")
    assert headers["content-type"] == "text/x"
    assert headers["x-mine"] == "a b"
    assert headers["x-request-id"] == "id"
    assert headers["content-length"] == "7"


def test_a_connection_is_kept(served):
    """Several requests; one that is refused ends it, for its body may not have been read."""
    replies = exchange(served, post(body=b"1"), post(body=b"2"), post("/x", b"3"), post(body=b"4"))
    assert [part[:3] for part in replies.split(b"HTTP/1.1 ")[1:]] == [b"201", b"201", b"404"]
    assert b"\r\n\r\n1idHTTP/1.1 201" in replies


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        pytest.param(post("/predictions/other"), 404, "NoSuchModel", id="another model"),
        pytest.param(post(body=b"123456"), 413, "TooLarge", id="a large body"),
        pytest.param(post(**{"Content-Length": "-1"}), 400, "BadInput", id="no length"),
        pytest.param(post(host="evil.example"), 403, "Forbidden", id="another site's name"),
        pytest.param(post(host="a\r\nHost: a"), 403, "Forbidden", id="two hosts"),
        pytest.param(post(Origin="http://evil.example"), 403, "Forbidden", id="another site"),
        pytest.param(post(Origin="http://localhost:1"), 403, "Forbidden", id="another port"),
        pytest.param(post(body=b"bad"), 400, "BadInput", id="the worker's refusal"),
    ],
)
def test_what_is_refused(served, request_, status, kind):
    answer_status, headers, body = parsed(exchange(served, request_))
    fault = json.loads(body)
    assert (answer_status, fault["code"], fault["type"]) == (status, status, kind)
    assert fault["request_id"] == headers["x-request-id"] == "id"
    assert headers["content-type"] == "application/json"
    assert set(fault) == {"code", "type", "message", "request_id"}


def test_a_message_is_readable(served):
    """Its letters are no escapes."""
    body = parsed(exchange(served, post(body=b"bad")))[2]
    assert '"message": "größe"'.encode() in body


def test_a_host_that_the_settings_name(served):
    assert parsed(exchange(served, post(host="mine.example:8080")))[0] == 201


def test_the_page_may_ask(served):
    """What the browser calls the site is what the server is called."""
    origin = {"Host": "LOCALHOST:8080", "Origin": "http://localhost:8080"}
    assert parsed(exchange(served, post(**origin)))[0] == 201


def get(path="/ui/", method="GET", **headers):
    lines = [f"{name}: {value}" for name, value in {"Host": "localhost", **headers}.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


def test_a_page(served):
    """Its head alone is the same without the body; what the client has is not sent again."""
    status, headers, body = parsed(exchange(served, get(Accept="text/html")))
    assert (status, headers["content-type"], body) == (200, "text/html", b"a page")
    status, headers, body = parsed(exchange(served, get("/ui/?a", "HEAD")))
    assert (status, headers["content-length"], body) == (200, "6", b"")
    status, headers, body = parsed(exchange(served, get(**{"If-None-Match": '"1"'})))
    assert (status, "content-length" in headers, body) == (304, False, b"")
    assert parsed(exchange(served, get("/ui/x")))[0] == 404
    assert parsed(exchange(served, get(Host="evil.example")))[0] == 403


def test_ping(served):
    """Whether the model is loaded."""

    def get(path):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        status, headers, body = parsed(exchange(served, head))
        assert headers["content-type"] == "application/json"
        return status, json.loads(body)

    status, fault = get("/ping")
    assert (status, fault["code"]) == (503, 503)
    served.ready.append(True)
    assert get("/ping") == (200, {"status": "Healthy"})
    assert get("/models")[0] == 404
