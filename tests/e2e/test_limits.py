"""What clients may take: time, connections, and the server's patience when it ends."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import socket
import time
from typing import Iterator

import pytest
from plugin_mms import LIMIT, QUIET_LOG, Running, connected, raw, request, running
from running_mms import free_ports, wait_for

WORDS = ("--log-config", str(QUIET_LOG))
BEGUN = request("0")[:20]
HALF = request("0")[:-1]


@contextlib.contextmanager
def serving(folder, config: str = "", **properties: object) -> Iterator[Running]:
    """A gate before a sleeper with one worker."""
    with running(folder, *WORDS, gate=free_ports()[0], config=config, **properties) as mms:
        wait_for(lambda: mms.ping(mms.inference)[0], 30)
        assert mms.register().status == 200
        yield mms


@pytest.fixture(scope="module")
def mms(tmp_path_factory) -> Iterator[Running]:
    """Short limits, so that the tests need not wait; a queue of one, and 32 MB of buffers."""
    limits = {"keep_alive_s": 2, "head_s": 1, "body_s": 3, "java": "-XX:MaxDirectMemorySize=32m"}
    with serving(tmp_path_factory.mktemp("limits"), "job_queue_size=1", **limits) as mms:
        yield mms


def until_closed(connection: socket.socket) -> tuple[list[bytes], float]:
    """The statuses of what is received, and the seconds until the server closes."""
    start = time.monotonic()
    received = b"".join(iter(lambda: connection.recv(65_536), b""))
    return re.findall(rb"HTTP/1.1 (\d+)", received), time.monotonic() - start


def hits(mms: Running, limit: str) -> float:
    return mms.metrics()[f'limit_hits_total{{limit="{limit}"}}']


@pytest.mark.parametrize(
    ("sent", "statuses", "seconds", "limit"),
    [
        pytest.param(b"", [], 2, "idle", id="nothing"),
        pytest.param(request("0"), [b"200"], 2, "idle", id="no second request"),
        pytest.param(BEGUN, [b"408"], 1, "head", id="half a head"),
        pytest.param(request("0") + BEGUN, [b"200", b"408"], 1, "head", id="half a second head"),
        pytest.param(HALF, [b"408"], 3, "body", id="half a body"),
        pytest.param(
            request("0").replace(b"Content-Length: 1", b"Transfer-Encoding: chunked") + b"\r\n",
            [b"408"],
            3,
            "body",
            id="half a chunked body",
        ),
        pytest.param(
            request("0").replace(b"Content-Length: 1", b"Content-Length: %d" % (LIMIT + 1)),
            [b"413"],
            3,
            "body",
            id="half of too large a body",
        ),
    ],
)
def test_a_client_that_keeps_the_server_waiting_is_cut(mms, sent, statuses, seconds, limit):
    """Its time is counted from the moment on that the server waits for it."""
    before = hits(mms, limit)
    with connected(mms) as connection:
        connection.sendall(sent)
        received, waited = until_closed(connection)
    assert received == statuses
    assert seconds - 0.5 < waited < seconds + 3
    assert hits(mms, limit) == before + 1
    wait_for(lambda: mms.metrics()["in_flight"] == 0, 5)


def test_a_client_that_sends_a_byte_now_and_then_is_cut(mms):
    """The limit is for the whole head."""
    with connected(mms) as connection:
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in request("0") * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - start < 5


def test_a_client_that_does_not_take_its_reply_is_cut(mms):
    """Its connection is closed, and a line in the log says so."""
    with connected(mms) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request("0 6000000"))
        wait_for(lambda: hits(mms, "reply") == 1, 10)
    wait_for(lambda: "replies cut that were not taken in 3 s: 1" in mms.log(), 5)
    wait_for(lambda: mms.metrics()["in_flight"] == 0, 5)


def test_the_time_of_an_answer_is_no_limits_business(mms):
    """A request that takes longer than all limits is answered, and the one behind it."""
    received = raw(mms, request("4") + request("0", "Connection: close"), b"no such end")
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200"]


def test_the_log_says_which_limit_was_hit(mms):
    """There is one line for many connections."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(mms)).sendall(BEGUN)
        wait_for(
            lambda: re.search(r"requests cut whose head took more than 1 s: \d+", mms.log()), 20
        )


def test_idle_connections_cannot_keep_others_out(tmp_path):
    """With 300 descriptors and 400 idle or half-sent connections, a good client is answered."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        mms = stack.enter_context(serving(tmp_path))
        resource.prlimit(mms.java().pid, resource.RLIMIT_NOFILE, (300, 300))
        wait_for(lambda: "Max open files            300" in limits_of(mms), 5)
        time.sleep(6)  # the gate measures every five seconds
        longest = 0.0
        for i in range(400):
            connection = stack.enter_context(connected(mms))
            connection.sendall((b"", BEGUN, HALF)[i % 3])
            if i % 20 == 19:
                start = time.monotonic()
                assert mms.ask(0).status == 200
                longest = max(longest, time.monotonic() - start)
        assert longest < 5
        assert hits(mms, "crowded") > 100
        assert 300 - mms.java().num_fds() > 50
        wait_for(lambda: "the longest idle, to make room" in mms.log(), 10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == hard


def test_a_server_without_descriptors_makes_room(tmp_path):
    """Its limit is lowered while it runs: idle clients take all, and none is left to count them."""
    with contextlib.ExitStack() as stack:
        mms = stack.enter_context(serving(tmp_path))
        java = mms.java()
        _, hard = resource.prlimit(java.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(java.pid, resource.RLIMIT_NOFILE, (java.num_fds() + 20, hard))
        for _ in range(100):
            stack.enter_context(connected(mms))
        assert mms.ask(0).status == 200
        assert hits(mms, "crowded") > 0


def test_a_client_that_was_answered_keeps_its_connection(tmp_path):
    """It has been idle for longer than all others, which never sent a request."""
    with serving(tmp_path, max_connections=16) as mms, contextlib.ExitStack() as stack:
        good = stack.enter_context(connected(mms))
        for number in range(2):
            good.sendall(request("0"))
            assert good.recv(65_536).startswith(b"HTTP/1.1 200 ")
            if number == 0:
                idle = [stack.enter_context(connected(mms)) for _ in range(100)]
                assert until_closed(idle[0])[0] == []


def limits_of(mms: Running) -> str:
    with open(f"/proc/{mms.java().pid}/limits") as file:
        return file.read()


def test_requests_in_flight_are_not_closed_to_make_room(tmp_path):
    """With three places, the connection whose request runs stays, and idle ones go."""
    with serving(tmp_path, max_connections=16) as mms, contextlib.ExitStack() as stack:
        busy = stack.enter_context(connected(mms))
        busy.sendall(request("2"))
        time.sleep(0.2)
        idle = [stack.enter_context(connected(mms)) for _ in range(100)]
        assert until_closed(idle[0])[0] == []
        assert busy.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_full_queue_says_when_to_try_again(mms):
    """503 with Retry-After, also where MMS's own queue is full."""
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connected(mms)).sendall(request("2"))
            time.sleep(0.2)
        wait_for(lambda: mms.metrics()['queue_length{model="sleeper"}'] == 1, 5)
        refusal = mms.ask(0)
        assert (refusal.status, refusal.headers["retry-after"]) == (503, "1")


def test_half_sent_bodies_take_at_most_half_of_the_buffers(mms):
    """What has been under way longest gets 503 with Retry-After; others are answered."""
    wait_for(lambda: mms.ask(0).status == 200, 20)  # the queue is empty
    half = request(" " * LIMIT)[:-1]
    body = half.index(b"\r\n\r\n") + 4
    whole = request("0" + " " * (LIMIT - 1), "Connection: close")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(mms)) for _ in range(12)]
        for count, connection in enumerate(connections, 1):  # they begin in this order
            connection.sendall(half[:body])
            wait_for(lambda n=count: mms.metrics()["in_flight"] == n, 20)
        for connection in connections:
            connection.sendall(half[body:])
        assert raw(mms, whole, b"no such end").startswith(b"HTTP/1.1 200 ")
        replies = [b"".join(iter(lambda c=c: c.recv(65_536), b"")) for c in connections]
    # Those that were not cut to make room are cut after three seconds.
    statuses = [reply[9:12] for reply in replies]
    assert statuses == sorted(statuses, reverse=True)
    assert set(statuses) == {b"503", b"408"}
    assert hits(mms, "buffers") == statuses.count(b"503") >= 4
    assert b"retry-after: 1" in replies[0].lower()
    assert b"too many bodies are under way; try again later" in replies[0]
    line = "requests cut, the longest under way, to make room for others: "
    wait_for(lambda: line in mms.log(), 20)
    wait_for(lambda: mms.metrics()["in_flight"] == 0, 5)


def test_replies_that_are_not_taken_make_room_for_others(tmp_path):
    """Twelve clients ask for 6 MB each and read nothing; whoever reads is answered."""
    smallest_plan = "-XX:MaxDirectMemorySize=56m"
    with serving(tmp_path, java=smallest_plan) as mms, contextlib.ExitStack() as stack:
        for _ in range(12):
            connection = stack.enter_context(connected(mms))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request("0 6000000"))
            reply = raw(mms, request("0 6000000", "Connection: close"), b"no such end")
            assert len(reply) > 6_000_000
        assert hits(mms, "buffers") > 4
        line = "requests cut, the longest under way, to make room for others: "
        assert line in mms.log()


def test_what_is_not_whole_does_not_stretch_the_end(tmp_path):
    """SIGTERM waits a second for the rest of half a request, and 25 for whole ones."""
    with serving(tmp_path) as mms, contextlib.ExitStack() as stack:
        _idle, head, body, late, whole = (stack.enter_context(connected(mms)) for _ in range(5))
        head.sendall(BEGUN)
        body.sendall(HALF)
        late.sendall(HALF)
        whole.sendall(request("0.7"))
        wait_for(lambda: mms.metrics()["in_flight"] == 3, 5)
        java, start = mms.java(), time.monotonic()
        java.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        late.sendall(b"0")
        assert whole.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert late.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert body.recv(65_536).startswith(b"HTTP/1.1 503 ")
        java.wait(20)
        assert time.monotonic() - start < 8
