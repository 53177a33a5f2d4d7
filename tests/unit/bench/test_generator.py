"""bench.generator: when requests are sent, what is counted of them, and what becomes of sockets."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import selectors
import socket
import threading
import time
from array import array
from collections import Counter

import pytest
from bench.servers import RIGHT, answering, reply, stalling

from mms_handler.bench.generator import Connection, Generator, _family, _reason
from mms_handler.bench.order import Order, Timing

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n[[1]]"
EXPECTED = {"status": 200, "content_type": "application/json", "body": "[[5]]"}


class Sums:
    """What all reports of a load say together."""

    def __init__(self, output: bytes) -> None:
        stream = io.BytesIO(output)
        self.latencies, self.late, self.heads = array("I"), array("I"), []
        while line := stream.readline():
            head = json.loads(line)
            self.latencies.frombytes(stream.read(4 * head["latencies"]))
            self.late.frombytes(stream.read(4 * head["late"]))
            self.heads.append(head)
        self.failures = sum((Counter(head["failures"]) for head in self.heads), Counter())
        self.in_time, self.wrong = (
            sum(head[key] for head in self.heads) for key in ("in_time", "wrong")
        )


def load(port, *, timing=(0, 0.5, 5), begin_in_s=0.0, **order) -> Sums:
    """Make a load on a port of this machine."""
    fields = {
        "host": "127.0.0.1", "port": port, "request": REQUEST, "expected": EXPECTED, "clients": 0,
        "rate": 0, "connections": 8, "first_s": 0, "timing": Timing(*timing), **order,
    }  # fmt: skip
    output = io.BytesIO()
    generator = Generator(Order(**fields), time.monotonic() + begin_in_s, output)
    generator.run()
    for connection in generator._connections.values():  # its process would end now
        connection.socket.close()
    generator._epoll.close()
    return Sums(output.getvalue())


class Server:
    """What a server has seen: its connections, those that were open at one time, and requests."""

    def __init__(self) -> None:
        self.connections = self.open = self.most = self.requests = 0


@contextlib.contextmanager
def serving(on_request=lambda server, client: client.sendall(RIGHT), read=True):
    """A server with a function for each request; without ``read``, for each connection."""
    seen, ended = Server(), threading.Event()

    def work():
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            selector.register(listener, selectors.EVENT_READ)
            while not ended.is_set():
                for key, _ in selector.select(0.02):
                    if key.fileobj is listener:
                        client = stack.enter_context(listener.accept()[0])
                        seen.connections += 1
                        seen.open += 1
                        seen.most = max(seen.most, seen.open)
                        if read:
                            selector.register(client, selectors.EVENT_READ)
                        else:
                            on_request(seen, client)
                        continue
                    with contextlib.suppress(ConnectionError):
                        if key.fileobj.recv(1 << 20):
                            seen.requests += 1
                            on_request(seen, key.fileobj)
                            if key.fileobj.fileno() >= 0:
                                continue
                    seen.open -= 1
                    selector.unregister(key.fileobj)
                    key.fileobj.close()

    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        thread = threading.Thread(target=work)
        thread.start()
        try:
            seen.port = listener.getsockname()[1]
            yield seen
        finally:
            ended.set()
            thread.join()


# --- when requests are sent ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "sent", "counted"),
    [
        ({"rate": 100}, 50, 50),
        ({"rate": 100, "first_s": 0.1}, 40, 40),
        ({"rate": 100, "timing": (0.2, 0.3, 5)}, 50, 30),
        ({"rate": 100, "begin_in_s": 0.2}, 50, 50),
        ({"rate": 3}, 2, 2),
    ],
    ids=["at once", "a little later", "after a warm-up", "in a moment", "rarely"],
)
def test_a_rate_is_kept_exactly(order, sent, counted):
    """From the begin to the end of the load, which does not count in it."""
    with serving() as server:
        sums = load(server.port, **order)
    assert server.requests == sent
    assert len(sums.latencies) == counted
    assert len(sums.late) == sent
    assert not sums.failures


@pytest.mark.parametrize("clients", [1, 3])
def test_clients_wait_for_their_replies(clients):
    with serving() as server:
        sums = load(server.port, clients=clients)
    assert server.connections == server.most == clients
    assert len(sums.latencies) == server.requests > clients
    assert server.requests - clients <= sums.in_time <= server.requests
    assert not sums.late


def test_reports_are_sums_since_the_last_one():
    with serving() as server:
        sums = load(server.port, clients=1, timing=(0, 0.8, 5))
    assert len(sums.heads) >= 2
    assert [head["last"] for head in sums.heads] == [False] * (len(sums.heads) - 1) + [True]
    used = [head["cpu_s"] for head in sums.heads]
    assert used == sorted(used)
    assert used[0] > 0


def test_a_rate_has_connections_for_what_waits():
    """As many as there are requests, and no more than are allowed."""
    for connections in (2, 5):
        with serving(lambda seen, client: None) as server:
            sums = load(server.port, rate=20, connections=connections, timing=(0, 0.5, 0.3))
        assert server.most == connections
        assert sums.failures == {"no reply within 0.3 s": 10}
        assert not sums.latencies


# --- what is counted -------------------------------------------------------------------------


def test_latencies_count_from_the_planned_moment():
    """The fourth of ten requests waits for 0.2 s, and those behind it for less and less."""
    with answering(stalling(at=3, seconds=0.25)) as port:
        sums = load(port, rate=20)
    ordered = sorted(sums.latencies, reverse=True)
    assert len(ordered) == 10
    assert ordered[0] >= 250_000
    for place, value in enumerate(ordered[:4]):
        assert value >= 250_000 - 50_000 * place


def test_replies_after_the_end_are_not_in_time():
    with answering(stalling(at=8, seconds=0.3)) as port:
        sums = load(port, rate=20)
    assert len(sums.latencies) == 10
    assert 0 < sums.in_time <= 8


def test_what_is_wrong_is_counted_and_shown():
    """The first one alone, and its first 200 letters."""
    with answering(lambda number: reply(b"%d" % number + 300 * b"\xff")) as port:
        sums = load(port, rate=20)
    assert (sums.wrong, len(sums.latencies)) == (10, 0)
    examples = [head["example"] for head in sums.heads if head["example"]]
    assert examples[0][0] in "0123456789"  # a late one may come first
    assert examples[0][1:] == 199 * "\ufffd"


@pytest.mark.parametrize(
    ("status", "failures"),
    [(b"199 A", {"status 199": 10}), (b"299 A", {}), (b"300 A", {"status 300": 10})],
)
def test_good_statuses(status, failures):
    expected = {**EXPECTED, "status": int(status[:3])}
    with answering(lambda number: reply(b"[[5]]", status)) as port:
        sums = load(port, rate=20, expected=expected)
    assert sums.failures == failures
    assert len(sums.latencies) == (0 if failures else 10)


def test_failures_of_the_warm_up_do_not_count():
    with answering(lambda number: reply(b"", b"503 Busy")) as port:
        sums = load(port, rate=20, timing=(0.25, 0.25, 5))
    assert sums.failures == {"status 503": 5}
    with answering(lambda number: b"") as port:
        sums = load(port, rate=20, timing=(0.25, 0.25, 5))
    assert sums.failures == {"connection closed": 5}


def test_nothing_listens():
    """Each request of a rate fails; a client tries again after a pause."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert load(port, rate=20).failures == {"connection refused": 10}
    failures = load(port, clients=1).failures
    assert set(failures) == {"connection refused"}
    assert 1 <= failures["connection refused"] <= 10


# --- sockets ---------------------------------------------------------------------------------


def test_a_server_that_closes_idle_connections():
    """No request is lost for it, for none was sent."""

    def answer(seen, client):
        client.sendall(RIGHT)
        client.shutdown(socket.SHUT_RDWR)

    with serving(answer) as server:
        sums = load(server.port, rate=10)
    assert not sums.failures
    assert len(sums.latencies) == 5
    assert server.connections >= 5


@pytest.mark.parametrize("kind", [{"clients": 1}, {"rate": 20}], ids=["clients", "a rate"])
def test_a_reply_that_ends_its_connection(kind):
    with serving(
        lambda seen, client: client.sendall(reply(b"[[5]]", more=b"Connection: close\r\n"))
    ) as server:
        sums = load(server.port, **kind)
    assert not sums.failures
    assert server.connections >= server.requests == len(sums.latencies)


def test_a_reply_before_the_request_was_sent():
    """Its connection is of no more use: the rest of the request would be the next one."""
    request = b"POST / HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n" + 9_000_000 * b"x"
    refused = reply(b"", b"413 Too Large")
    with serving(lambda seen, client: client.sendall(refused), read=False) as server:
        sums = load(server.port, clients=1, request=request)
    assert set(sums.failures) == {"status 413"}
    assert server.connections >= sum(sums.failures.values()) > 1


def test_a_reply_in_pieces():
    def answer(seen, client):
        for start in range(0, len(RIGHT), 20):
            client.sendall(RIGHT[start : start + 20])
            time.sleep(0.001)

    with serving(answer) as server:
        sums = load(server.port, clients=1)
    assert len(sums.latencies) == server.requests > 1
    assert not sums.wrong


def test_a_connection_is_idle_at_first():
    with socket.socket() as sock:
        connection = Connection(sock)
    assert (connection.since, connection.connecting, connection.unsent) == (0, True, None)


@pytest.mark.parametrize(
    ("host", "family"),
    [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("here", socket.AF_INET)],
)
def test_families_of_addresses(host, family):
    assert _family(host) is family


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ECONNREFUSED, "connection refused"),
        (errno.ECONNRESET, "connection closed"),
        (errno.EPIPE, "connection closed"),
        (errno.EHOSTUNREACH, "EHOSTUNREACH"),
        (0, "connection lost"),
    ],
)
def test_reasons(code, reason):
    assert _reason(code) == reason
