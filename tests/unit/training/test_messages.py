"""training.messages: lines over a socket, and the sentences about hosts that are lost."""

from __future__ import annotations

import socket

import pytest

from mms_handler.training import messages


@pytest.mark.parametrize("text", ["", "two\nlines\tof it", "é" * 2000, "\x1b[31mred\x00"])
def test_a_message_is_one_short_line(text):
    """Any text becomes one line of bounded length; what is received is printable."""
    line = messages.encode_message("failed", text)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line) <= messages.LINE_BYTES
    word, received = messages.decode_message(line[:-1])
    assert word == "failed"
    assert received.isprintable()


def test_exact_lines():
    """White space becomes a space; a text is cut at the limit."""
    assert messages.encode_message("hello", "algo-1") == b"hello algo-1\n"
    assert messages.encode_message("beat", "") == b"beat \n"
    assert messages.encode_message("a", "  b\n\tc ") == b"a b c\n"
    assert len(messages.encode_message("a", "x" * 2_000)) == 1_024
    assert messages.encode_message("a", "x" * 1_021) == b"a " + b"x" * 1_021 + b"\n"
    assert messages.decode_message(b"hello algo-1 x") == ("hello", "algo-1 x")
    assert messages.decode_message(b"beat") == ("beat", "")
    assert messages.decode_message(b"\xff a\x07b") == ("�", "ab")


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
        yield messages.Connection(here), there


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
    """A beat is due after a tenth of the time in which a peer counts as lost."""
    connection, there = pair
    clock["s"] += 1.1
    connection.beat(12)
    with pytest.raises(BlockingIOError):
        there.recv(99)
    clock["s"] += 0.3
    connection.beat(12)
    assert there.recv(99) == b"beat \n"
    connection.beat(12)
    with pytest.raises(BlockingIOError):
        there.recv(99)
    assert connection.silent_s == pytest.approx(1.4)
    there.sendall(b"beat\n")
    connection.receive()
    assert connection.silent_s == 0


def test_what_can_be_reached():
    """A machine that refuses a connection is there; an address for many machines is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert messages.reachable("127.0.0.1", port)
    assert messages.reachable("127.0.0.1", port)
    assert not messages.reachable("224.0.0.1", port)
