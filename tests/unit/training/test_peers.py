"""training.peers: messages, and what a hub decides.  It runs with its watches in test_cluster."""

from __future__ import annotations

import socket

import pytest

from mms_handler.training import peers


@pytest.mark.parametrize("text", ["", "two\nlines\tof it", "é" * 2000, "\x1b[31mred\x00"])
def test_a_message_is_one_short_line(text):
    """Any text becomes one line of bounded length; what is received is printable."""
    line = peers.encode_message("failed", text)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line) <= peers.LINE_BYTES
    word, received = peers.decode_message(line[:-1])
    assert word == "failed"
    assert received.isprintable()


def test_exact_lines():
    """White space becomes a space; a text is cut at the limit."""
    assert peers.encode_message("hello", "algo-1") == b"hello algo-1\n"
    assert peers.encode_message("beat", "") == b"beat \n"
    assert peers.encode_message("a", "  b\n\tc ") == b"a b c\n"
    assert len(peers.encode_message("a", "x" * 2_000)) == 1_024
    assert peers.encode_message("a", "x" * 1_021) == b"a " + b"x" * 1_021 + b"\n"
    assert peers.decode_message(b"hello algo-1 x") == ("hello", "algo-1 x")
    assert peers.decode_message(b"beat") == ("beat", "")
    assert peers.decode_message(b"\xff a\x07b") == ("�", "ab")


@pytest.fixture
def clock(monkeypatch):
    """Stands still, unless a test moves it."""
    clock = {"s": 100.0}
    monkeypatch.setattr("time.monotonic", lambda: clock["s"])
    return clock


@pytest.fixture
def pair(clock):
    """A connection, and the socket at its other end."""
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        yield peers.Connection(here), there


def test_messages_arrive_in_any_pieces(pair):
    """And several at once."""
    connection, there = pair
    assert connection.receive() == []
    there.sendall(b"hello al")
    assert connection.receive() == []
    there.sendall(b"go-1\nbeat\nfail")
    assert connection.receive() == [("hello", "algo-1"), ("beat", "")]
    there.sendall(b"ed no\n")
    assert connection.receive() == [("failed", "no")]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long(pair, end):
    """Also before its end has come."""
    connection, there = pair
    there.sendall(b"x" * 1_023 + b"\n")
    assert connection.receive() == [("x" * 1_023, "")]
    there.sendall(b"x" * 1_024 + end)
    with pytest.raises(ConnectionError, match="^a line is too long$"):
        connection.receive()


def test_a_connection_that_is_closed(pair):
    """It may not be read any more, and what is sent is lost."""
    connection, there = pair
    there.close()
    with pytest.raises(ConnectionError, match="^closed$"):
        connection.receive()
    connection.send("finished")
    connection.send("finished")


def test_beats_and_silence(pair, clock):
    """A beat is due after a sixth of the time in which a peer counts as lost."""
    connection, there = pair
    clock["s"] += 2
    connection.check_alive(12)
    with pytest.raises(BlockingIOError):
        there.recv(99)
    clock["s"] += 0.1
    connection.check_alive(12)
    assert there.recv(99) == b"beat \n"
    connection.check_alive(12)
    with pytest.raises(BlockingIOError):
        there.recv(99)
    there.sendall(b"beat\n")
    connection.receive()
    clock["s"] += 12
    connection.check_alive(12)
    clock["s"] += 0.1
    with pytest.raises(TimeoutError, match="^silent for 12 s$"):
        connection.check_alive(12)


# --- the hub's decisions ---------------------------------------------------------------------


@pytest.fixture
def hub(clock):
    """A hub of the hosts a and b that does not run; they join within 60 s."""
    with socket.socket() as listener:
        yield peers.Hub(["a", "b"], listener, 60, 12)


@pytest.fixture
def join(hub, clock):
    """Connect a host, or a stranger."""
    sockets = []

    def join(host=None):
        here, there = socket.socketpair()
        sockets.extend((here, there))
        there.setblocking(False)
        hub._connections.append(peers.Connection(here))
        if host:
            there.sendall(f"hello {host}\n".encode())
            hub._serve(hub._connections[-1])
        return there

    yield join
    for each in sockets:
        each.close()


def told(there):
    """The messages that the hub has sent."""
    try:
        return there.recv(9_999).decode().splitlines()
    except BlockingIOError:
        return []


def serve(hub):
    for connection in list(hub._connections):
        hub._serve(connection)
    hub._check_end()


def test_all_have_finished(hub, join):
    """Each is told, once all have said so."""
    a, b = join("a"), join("b")
    a.sendall(b"finished\n")
    serve(hub)
    assert (told(a), told(b)) == ([], [])
    b.sendall(b"finished\n")
    serve(hub)
    assert (told(a), told(b)) == (["done "], ["done "])
    b.close()
    serve(hub)
    assert told(a) == []


def test_one_has_failed(hub, join):
    """The first reason counts; a host that joins later gets it too."""
    a = join("a")
    a.sendall(b"failed no data\nfailed other\n")
    serve(hub)
    assert told(a) == ["lost host a was lost: no data"]
    assert told(join("b")) == ["lost host a was lost: no data"]


def test_hosts_that_do_not_come(hub, join, clock):
    """All that are missing are named, when their time is over."""
    a = join("a")
    clock["s"] += 8
    serve(hub)
    a.sendall(b"beat\n")
    clock["s"] += 52
    hub._check_end()
    assert told(a) == ["beat "]
    clock["s"] += 0.1
    hub._check_end()
    assert told(a) == ["lost host b was lost: it did not join within 60 s"]
    assert hub._end == ("lost", "host b was lost: it did not join within 60 s")


def test_no_host_comes(hub, clock):
    clock["s"] += 60.1
    hub._check_end()
    assert hub._end[1] == "hosts a, b were lost: they did not join within 60 s"


@pytest.mark.parametrize("host", ["c", "a"])
def test_who_may_not_join(hub, join, host):
    """A host of another job, and one that has joined; nobody else is lost for it."""
    a = join("a")
    other = join(host)
    reason = "the job has no such host, or it has joined already"
    assert told(other) == [f"lost host {host} was lost: {reason}"]
    serve(hub)
    assert other.recv(9) == b""
    assert (told(a), hub._end) == ([], None)


def test_a_stranger(hub, join):
    """Says something else first."""
    a, stranger = join("a"), join()
    stranger.sendall(b"finished\n")
    serve(hub)
    assert stranger.recv(9) == b""
    assert (told(a), hub._end, hub._finished) == ([], None, set())


def test_a_silent_host(hub, join, clock):
    """And one that closes its connection."""
    a = join("a")
    clock["s"] += 12.1
    serve(hub)
    assert hub._end == ("lost", "host a was lost: it was silent for 12 s")
    assert a.recv(9) == b""


def test_a_host_that_leaves(hub, join):
    a, b = join("a"), join("b")
    a.close()
    serve(hub)
    assert told(b) == ["lost host a was lost: its connection closed"]
