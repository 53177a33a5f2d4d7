"""training.screen: the lines of several hosts, and the live line of a terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading
import tty

import pytest

from mms_handler.training import screen
from mms_handler.training.screen import Hosts, Live, LogStream


class Recorder:
    """A screen that keeps everything."""

    def __init__(self):
        self.written = b""

    def write(self, host, descriptor, data):
        assert data.endswith(b"\n")  # else another host's line could follow in it
        self.written += data


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        pytest.param([("a", b"one\ntwo\n")], b"[a] one\n[a] two\n", id="lines"),
        pytest.param(
            [("a", b"on"), ("b", b"two\n"), ("a", b"e\n")], b"[b] two\n[a] one\n", id="parts"
        ),
        pytest.param([("a", b"one\n\ntwo")], b"[a] one\n[a] \n[a] two\n", id="no end"),
        pytest.param([("a", b"one\r\n")], b"[a] one\r\n", id="CRLF"),
        pytest.param(
            [("b", b"\r 0%"), ("b", b"\r50%"), ("b", b"\r99%\n")],
            b"[b] \r[b]  0%\r[b] 50%\r[b] 99%\n",
            id="a bar",
        ),
        pytest.param([("a", b"\xff\0\n")], b"[a] \xff\0\n", id="bytes"),
    ],
)
def test_the_lines_of_hosts(pieces, text):
    """Whole, each with its name, also where a carriage return begins it anew."""
    recorder = Recorder()
    hosts = Hosts(["a", "b"], recorder)
    for host, data in pieces:
        hosts.write(host, 1, data)
    for host in ("a", "b"):
        hosts.end(host)
    assert recorder.written == text


def test_a_very_long_line():
    """It is cut, so that it takes no more memory."""
    recorder = Recorder()
    hosts = Hosts(["a"], recorder)
    for _ in range(5):
        hosts.write("a", 1, b"x" * (screen.LINE_BYTES // 2))
    assert recorder.written == 2 * (b"[a] " + b"x" * screen.LINE_BYTES + b"\n")
    hosts.write("a", 1, b"\n")
    assert recorder.written.endswith(b"\n[a] " + b"x" * (screen.LINE_BYTES // 2) + b"\n")


def test_colours():
    """Each host has its own."""
    recorder = Recorder()
    hosts = Hosts(["a", "b"], recorder, colour=True)
    hosts.write("a", 1, b"one\n")
    hosts.write("b", 2, b"two\n")
    assert recorder.written == b"\x1b[36m[a] \x1b[0mone\n\x1b[33m[b] \x1b[0mtwo\n"


# --- the live line ---------------------------------------------------------------------------


@pytest.fixture
def terminal():
    """A terminal of 40 by 10: its descriptor, and what was written to it since the last call."""
    master, slave = os.openpty()
    tty.setraw(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
    os.set_blocking(master, False)

    def written():
        data = b""
        while True:
            try:
                data += os.read(master, 1 << 16)
            except BlockingIOError:
                return data

    yield slave, written
    os.close(master)
    os.close(slave)


#: What erases the live line, what begins a picture, and the live line itself.
ERASE, BEGIN, STATUS = b"\r\x1b[J", b"\x1b[J\x1b[0m", b"\x1b[1m0:00:03  epoch 3\x1b[0m"


@pytest.fixture
def live(terminal, monkeypatch):
    monkeypatch.setattr(screen, "DRAW_S", 0)
    return Live(lambda: "0:00:03  epoch 3", [terminal[0]])


def test_lines_go_above_the_live_line(live, terminal):
    slave, written = terminal
    live.write("a", slave, b"one\n")
    assert written() == b"one\n" + BEGIN + STATUS
    live.write("a", slave, b"two\nthree\n")
    assert written() == ERASE + b"two\nthree\n" + BEGIN + STATUS
    LogStream(live).write("a warning\n")
    assert written() == ERASE + b"a warning\n" + BEGIN + STATUS


def test_a_bar_is_drawn_above_the_live_line(live, terminal):
    """What follows its last carriage return; all of its bytes are written, too."""
    slave, written = terminal
    live.write("a", slave, b"\r 10%|#   |\r\x1b[2K 20%|\x1b[32m##\x1b[0m  |")
    assert written() == b"\r 10%|#   |\r" + BEGIN + b" 20%|##  |\n" + STATUS
    live.write("a", slave, b"\r 30%|### |\n")
    up = b"\r\x1b[1A\x1b[J"
    assert written() == (up + b"\x1b[2K 20%|\x1b[32m##\x1b[0m  |\r 30%|### |\n" + BEGIN + STATUS)
    live.hold("b", b"\r 10%|#   |")
    live.write("a", slave, b"one\n")
    assert written() == ERASE + b"one\n" + BEGIN + b"[b]  10%|#   |\n" + STATUS
    live.hold("b", b"")
    live.write("a", slave, b"two\n")
    assert written() == up + b"two\n" + BEGIN + STATUS


def test_a_line_without_end_is_not_held_back(live, terminal):
    """It goes on where it is; the live line comes back after it."""
    slave, written = terminal
    live.write("a", slave, b"x" * (screen.HELD_BYTES + 1))
    live.write("a", slave, b"yy")
    assert written() == b"x" * (screen.HELD_BYTES + 1) + b"yy"
    live.write("a", slave, b"z\n")
    assert written() == b"z\n" + BEGIN + STATUS


def test_a_script_that_moves_the_cursor(live, terminal):
    """It has the terminal to itself from then on."""
    slave, written = terminal
    live.write("a", slave, b"one\n")
    live.write("a", slave, b"two\n\x1b[A")
    live.write("a", slave, b"three")
    assert written().endswith(STATUS + ERASE + b"two\n\x1b[Athree")


def test_a_narrow_terminal(terminal, monkeypatch):
    """The live line is cut, so that it stays one; wide letters take two places."""
    slave, written = terminal
    monkeypatch.setattr(screen, "DRAW_S", 0)
    live = Live(lambda: "語" * 30, [slave])
    live.write("a", slave, b"one\n")
    assert written().decode() == "one\n\x1b[J\x1b[0m\x1b[1m" + "語" * 19 + "…\x1b[0m"


def test_another_stream_is_left_alone(live, terminal):
    """What goes to a file is not held back."""
    reader, writer = os.pipe()
    live.write("a", writer, b"one")
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"one"
    assert terminal[1]() == b""


def test_the_end_of_the_live_line(terminal):
    """It goes away, and what was held back stays; the progress is shown until then."""
    slave, written = terminal
    called = threading.Event()

    def progress():
        called.set()
        return "0:00:03"

    live = Live(progress, [slave])
    with live.shown():
        assert called.wait(20)
        live.write("a", slave, b"one\nno end")
        live.end("a")
    assert b"0:00:03" in written()
    live.write("a", slave, b"after")
    assert written() == b"after"
