"""Who may ask: tokens for inference and management, and no pages of other sites."""

from __future__ import annotations

import base64
import json
import threading
from http.server import ThreadingHTTPServer
from typing import Iterator

import pytest
from plugin_mms import LIMIT, QUIET_LOG, TEXT, Running, raw, request, running
from running_mms import free_ports, wait_for
from test_plugin import Supervisor

from mms_handler import client

INFERENCE, MANAGEMENT = "for-inference.0123456789", "for-management~0123456789=="


@pytest.fixture(scope="module")
def mms(tmp_path_factory) -> Iterator[Running]:
    """A gate with both tokens, before a sleeper and a supervisor."""
    folder = tmp_path_factory.mktemp("access")
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"inference {INFERENCE}\nmanagement {MANAGEMENT}\n")
    words = ("--log-config", str(QUIET_LOG))
    with ThreadingHTTPServer(("127.0.0.1", 0), Supervisor) as supervisor:
        threading.Thread(target=supervisor.serve_forever, daemon=True).start()
        properties = {
            "token_file": tokens,
            "admin_port": supervisor.server_port,
            "allowed_hosts": "model.example,Other.example",
        }
        with running(folder, *words, gate=free_ports()[0], **properties) as mms:
            wait_for(lambda: mms.ping(mms.inference)[0], 30)
            assert mms.register().status == 200
            yield mms
        supervisor.shutdown()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def ask(mms: Running, path: str, headers: dict[str, str], body: bytes = b"0") -> client.Answer:
    return client.call("POST", mms.gate + path, body, {**TEXT, **headers})


BASIC = base64.b64encode(b"user:" + INFERENCE.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        pytest.param({}, "", id="none"),
        pytest.param(bearer(MANAGEMENT), ', error="invalid_token"', id="the other use's"),
        pytest.param(bearer(INFERENCE[:-1]), ', error="invalid_token"', id="a part"),
        pytest.param(bearer(INFERENCE + "x"), ', error="invalid_token"', id="more"),
        pytest.param(bearer(INFERENCE.upper()), ', error="invalid_token"', id="in upper case"),
        pytest.param(bearer(""), "", id="an empty one"),
        pytest.param({"Authorization": INFERENCE}, "", id="without a scheme"),
        pytest.param({"Authorization": f"Basic {BASIC}"}, "", id="another scheme"),
        pytest.param({"X-Authorization": f"Bearer {INFERENCE}"}, "", id="another header"),
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/predictions/sleeper", "/invocations", "/models/sleeper/invoke", "/metrics", "/ping", "/"],
)
def test_a_client_without_the_token_gets_401(mms, path, headers, challenge):
    """Before its body is read, with what to send, and nothing about the token in the log."""
    answer = ask(mms, path, headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="mms_handler"' + challenge
    assert json.loads(answer.body)["code"] == 401
    assert "Authorization: Bearer TOKEN" in json.loads(answer.body)["message"]
    assert "0123456789" not in mms.log()


def test_two_tokens_are_none(mms):
    """A proxy may look at the other one."""
    twice = f"Authorization: Bearer {INFERENCE}"
    assert b" 401 " in raw(mms, request("0", twice, twice), b"no such end")


def test_a_client_with_the_token_is_answered(mms):
    """The scheme may be in any case; the script does not see the token."""
    for scheme in ("Bearer", "bearer", "BEARER  "):
        headers = {"Authorization": f"{scheme} {INFERENCE}"}
        assert ask(mms, "/predictions/sleeper", headers).status == 200
    assert client.call("GET", f"{mms.gate}/metrics", None, bearer(INFERENCE)).status == 200


def test_a_large_body_without_the_token_is_not_read(mms):
    """The client that waits for 100 Continue gets 401 in its place."""
    head = request("0", "Expect: 100-continue").replace(b": 1\r\n\r\n0", b": %d\r\n\r\n" % LIMIT)
    received = raw(mms, head, b"no such end")
    assert received.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in received
    wait_for(lambda: client.call("GET", f"{mms.gate}/ping").status, 5)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_checks_need_no_token(mms, method):
    """They cannot send one."""
    assert client.call(method, f"{mms.gate}/ping").status in (200, 503)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/models", "/models/a"])
def test_management_needs_its_own_token(mms, method, path):
    """The token of inference does not do, and the supervisor gets only what has the right one."""
    for headers in ({}, bearer(INFERENCE)):
        assert client.call(method, mms.gate + path, None, headers).status == 401
    assert client.call(method, mms.gate + path, None, bearer(MANAGEMENT)).status == 207


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost", "", 200),
        ("LOCALHOST:80", "", 200),
        ("127.0.0.1:8080", "", 200),
        ("127.1.2.3", "", 200),
        ("[::1]:8080", "", 200),
        ("model.example", "", 200),
        ("other.example:443", "", 200),
        ("evil.example", "", 403),
        ("evil.example:8080", "", 403),
        ("127.0.0.1.evil.example", "", 403),
        ("127.evil.example", "", 403),
        ("localhost.evil.example", "", 403),
        ("model.example.evil.example", "", 403),
        ("evil.example:127.0.0.1", "", 403),
        ("", "", 403),
        ("localhost", "http://localhost", 200),
        ("localhost:8080", "http://localhost:8080", 200),
        ("model.example", "https://model.example", 200),
        ("localhost", "http://evil.example", 403),
        ("localhost:8080", "http://localhost:3000", 403),
        ("localhost", "null", 403),
        ("evil.example", "http://evil.example", 403),
    ],
)
def test_pages_of_other_sites_cannot_ask(mms, host, origin, status):
    """Neither with their own origin, nor by a name of theirs that leads to this machine."""
    fields = [f"Authorization: Bearer {INFERENCE}", *([f"Origin: {origin}"] if origin else [])]
    sent = request("0", "Connection: close", *fields)
    received = raw(mms, sent.replace(b"Host: localhost", f"Host: {host}".encode()), b"no such end")
    assert received.startswith(b"HTTP/1.1 %d " % status)


def test_a_token_file_that_cannot_be_read_ends_java(tmp_path):
    """A server without its tokens would be open."""
    with running(tmp_path, gate=free_ports()[0], token_file=tmp_path / "absent") as mms:
        wait_for(lambda: mms.process.poll() is not None, 30)
        assert "the tokens cannot be read: NoSuchFileException" in mms.log()
