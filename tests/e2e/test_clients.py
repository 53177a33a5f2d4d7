"""What one client may ask for: its rate and its number, and nobody else's."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from typing import Iterator

import pytest
from plugin_mms import LIMIT, QUIET_LOG, TEXT, Running, raw, request, running
from running_mms import free_ports, wait_for

from mms_handler import client

WORDS = ("--log-config", str(QUIET_LOG))
TOKENS = ("for-the-first.0123456789", "for-the-second.0123456789")


@contextlib.contextmanager
def serving(folder, **properties: object) -> Iterator[Running]:
    """A gate before a sleeper with two workers."""
    with running(folder, *WORDS, gate=free_ports()[0], **properties) as mms:
        wait_for(lambda: mms.ping(mms.inference)[0], 30)
        assert mms.register(workers=2).status == 200
        yield mms


@pytest.fixture(scope="module")
def mms(tmp_path_factory) -> Iterator[Running]:
    """A prediction in five seconds, two at once; one proxy in front."""
    limits = {"client_rate": 0.2, "client_burst": 2, "proxies": 1}
    with serving(tmp_path_factory.mktemp("clients"), **limits) as mms:
        yield mms


def ask(mms: Running, address: str, body: bytes = b"0") -> client.Answer:
    """A prediction for a client of the proxy."""
    headers = {**TEXT, "X-Forwarded-For": address}
    return client.call("POST", f"{mms.gate}/predictions/sleeper", body, headers)


def hits(mms: Running, limit: str) -> float:
    return mms.metrics()[f'limit_hits_total{{limit="{limit}"}}']


def test_one_client_is_refused_and_another_is_not(mms):
    """After its burst, with the time that it has to wait; the refusal is in metrics and log."""
    before = hits(mms, "client_rate")
    assert [ask(mms, "192.0.2.1").status for _ in range(4)] == [200, 200, 429, 429]
    assert [ask(mms, "192.0.2.2").status for _ in range(2)] == [200, 200]
    refused = ask(mms, "192.0.2.1")
    assert refused.headers["retry-after"] in ("4", "5")
    assert json.loads(refused.body) == {
        "code": 429,
        "type": "TooManyRequests",
        "message": "this client sends more requests than it may; "
        f"try again in {refused.headers['retry-after']} s",
    }
    assert hits(mms, "client_rate") == before + 3
    words = r"requests refused because their client sent too many: \d; the last one: from 192.0.2.1"
    wait_for(lambda: re.search(words, mms.log()), 15)


def test_a_client_that_waits_as_long_as_it_was_told_is_answered(mms):
    """It gets its rate, however often it was refused before."""
    assert [ask(mms, "192.0.2.9").status for _ in range(6)][2:] == [429] * 4
    time.sleep(float(ask(mms, "192.0.2.9").headers["retry-after"]))
    assert ask(mms, "192.0.2.9").status == 200


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("198.51.100.1", "203.0.113.9, 198.51.100.1", id="what the client wrote"),
        pytest.param("198.51.100.2", "198.51.100.2:4711", id="with a port"),
        pytest.param("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", id="one network of IPv6"),
        pytest.param("2001:db8:0:2::1", "[2001:db8:0:2::9]:80", id="IPv6 with a port"),
        pytest.param("198.51.100.3", "::ffff:198.51.100.3", id="IPv4 as IPv6"),
        pytest.param("no address", "", id="the proxy's own, twice"),
    ],
)
def test_two_names_of_one_client(mms, first, second):
    """They have one limit."""
    assert [ask(mms, first).status for _ in range(2)] == [200, 200]
    assert ask(mms, second).status == 429


@pytest.mark.parametrize("path", ["/ping", "/metrics", "/execution-parameters"])
def test_what_is_no_prediction_is_not_limited(mms, path):
    """Health checks and metrics come from one address, too."""
    for _ in range(5):
        answer = client.call("GET", mms.gate + path, headers={"X-Forwarded-For": "192.0.2.30"})
        assert answer.status == 200


def test_a_connection_stays_usable_and_in_order(mms):
    """Requests that are sent together are answered in their order; refused bodies are not kept."""
    header = "X-Forwarded-For: 192.0.2.40"
    other = request("0", "X-Forwarded-For: 192.0.2.41", "Connection: close")
    large = request("0" * (LIMIT // 2), header)
    sent = request("0", header) * 2 + large + request("0", header) + other
    received = raw(mms, sent, b"no such end")
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"429", b"429", b"200"]


def test_a_body_that_the_client_would_send_on_request_is_not_asked_for(mms):
    """With Expect: 100-continue, the refusal comes instead."""
    for _ in range(2):
        ask(mms, "192.0.2.50")
    sent = request("0", "X-Forwarded-For: 192.0.2.50", "Expect: 100-continue")[:-1]
    assert raw(mms, sent, b"no such end").startswith(b"HTTP/1.1 429 ")


def test_a_client_may_have_one_prediction_at_a_time(tmp_path):
    """Another gets 429, and is let in when the first is answered, or its client is gone.

    X-Forwarded-For is not read, because no proxy was named.
    """
    with serving(tmp_path, client_concurrency=1) as mms:
        answers = []
        slow = threading.Thread(target=lambda: answers.append(mms.ask(2)))
        slow.start()
        wait_for(lambda: mms.metrics()["in_flight"] == 1, 5)
        refused = ask(mms, "192.0.2.1")
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert mms.get("/ping").status == 200
        slow.join()
        assert answers[0].status == 200
        assert mms.ask(0).status == 200
        port = int(mms.gate.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.sendall(request("1"))
            wait_for(lambda: mms.metrics()["in_flight"] == 1, 5)
            assert mms.ask(0).status == 429
        wait_for(lambda: mms.ask(0).status == 200, 10)
        assert hits(mms, "client_concurrency") >= 2


def test_a_token_is_a_client(tmp_path):
    """If there are several: one over its rate does not hurt the other, from one address."""
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"inference {token}\n" for token in TOKENS))

    def ask_with(token: str) -> int:
        headers = {**TEXT, "Authorization": f"Bearer {token}"}
        return client.call("POST", f"{mms.gate}/predictions/sleeper", b"0", headers).status

    with serving(tmp_path, client_rate=0.1, token_file=tokens) as mms:
        assert [ask_with(TOKENS[0]) for _ in range(3)] == [200, 429, 429]
        assert ask_with(TOKENS[1]) == 200
        assert [ask_with(token) for token in ("x" * 16, TOKENS[0][:-1])] == [401, 401]
        wait_for(lambda: "from token 1" in mms.log(), 15)
        assert "0123456789" not in mms.log()
