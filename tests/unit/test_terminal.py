"""terminal: the live line, and what takes its place where there is no terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import termios
import threading
import time
import tty

import pytest

from mms_handler import terminal as terminals
from mms_handler.cli import startup
from mms_handler.terminal import Live, LogStream


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
    monkeypatch.setattr(terminals, "DRAW_S", 0)
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


def test_the_last_line_of_a_host_has_no_end(live, terminal):
    """It stays, and the next line begins below it."""
    slave, written = terminal
    live.write("a", slave, b"\r 10%")
    written()
    live.end("a")
    assert written() == b"\r\x1b[1A\x1b[J 10%"
    live.end("a")
    assert written() == b""
    LogStream(live).write("a warning\n")
    assert written() == b"\na warning\n" + BEGIN + STATUS


def test_a_line_without_end_is_not_held_back(live, terminal):
    """It goes on where it is; the live line comes back after it."""
    slave, written = terminal
    live.write("a", slave, b"x" * (terminals.HELD_BYTES + 1))
    live.write("a", slave, b"yy")
    assert written() == b"x" * (terminals.HELD_BYTES + 1) + b"yy"
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
    monkeypatch.setattr(terminals, "DRAW_S", 0)
    live = Live(lambda: "語" * 30, [slave])
    live.write("a", slave, b"one\n")
    assert written().decode() == "one\n\x1b[J\x1b[0m\x1b[1m" + "語" * 19 + "…\x1b[0m"


@pytest.mark.parametrize(
    ("lines", "columns", "rows"),
    [
        pytest.param(4, 40, ["[b] 1", "[c] 2", "0:00:03  epoch 3"], id="all rows fit"),
        pytest.param(3, 40, ["[b] 1", "0:00:03  epoch 3"], id="one fits"),
        pytest.param(2, 40, ["[b] 1", "[c] 2", "0:00:03  epoch 3"], id="none: taken for 24"),
        pytest.param(9, 3, ["[…", "[…", "0…"], id="two letters fit"),
        pytest.param(9, 2, ["…", "…", "…"], id="one fits"),
        pytest.param(9, 1, ["[b] 1", "[c] 2", "0:00:03  epoch 3"], id="none: taken for 80"),
        pytest.param(0, 0, ["[b] 1", "[c] 2", "0:00:03  epoch 3"], id="it does not know"),
    ],
)
def test_a_small_terminal(live, terminal, lines, columns, rows):
    """One line stays for the text above.  A size that cannot be is not believed."""
    slave, written = terminal
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    live.hold("b", b"1")
    live.hold("c", b"2")
    live.write("a", slave, b"one\n")
    *others, last = rows
    drawn = "\n".join([*others, f"\x1b[1m{last}\x1b[0m"])
    assert written() == b"one\n" + BEGIN + drawn.encode()


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


@contextlib.contextmanager
def standard_error(slave, monkeypatch):
    """Make a terminal this process's standard error.  In a fixture, pytest would replace it."""
    monkeypatch.setattr(terminals, "REFRESH_S", 0.01)
    saved = os.dup(2)
    os.dup2(slave, 2)
    try:
        with open(2, "w", closefd=False) as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_progress_on_a_terminal(terminal, monkeypatch):
    """It is a live line, which goes away."""
    slave, written = terminal
    drawn = threading.Event()
    with standard_error(slave, monkeypatch), terminals.progress(lambda: drawn.set() or "loading"):
        assert drawn.wait(20)
    assert written().endswith(b"\x1b[1mloading\x1b[0m\r\x1b[J")


def test_the_start_of_a_server_on_a_terminal(terminal, monkeypatch):
    """What is loaded is below its log; when it serves, only the log is left."""
    slave, written = terminal
    drawn = threading.Event()
    with standard_error(slave, monkeypatch), startup.shown(print) as start:
        start.follow(lambda: drawn.set() or "slow is loading, 3 s: model_fn for 2 s")
        assert drawn.wait(20)
        start.print_line("a line")
        start.end()
        text = written()
        assert b"\x1b[1mslow is loading, 3 s: model_fn for 2 s\x1b[0m\r\x1b[Ja line\n" in text
        assert text.endswith(b"\r\x1b[J")
        start.print_line("another line")
    assert written() == b"another line\n"


def test_a_server_that_loads_nothing_yet(terminal, monkeypatch):
    slave, written = terminal
    seen, deadline = b"", time.monotonic() + 20
    with standard_error(slave, monkeypatch), startup.shown(print):
        while b"starting, 0 s" not in seen and time.monotonic() < deadline:
            seen += written()
    assert b"\x1b[1mstarting, 0 s\x1b[0m" in seen


def test_the_start_of_a_server_elsewhere():
    lines = []
    with startup.shown(lines.append) as start:
        start.print_line("a line")
        start.end()
        start.print_line("another line")
    assert lines == ["a line", "another line"]


def test_progress_elsewhere(capfd, monkeypatch):
    """It is a line now and then."""
    monkeypatch.setattr(terminals, "REPORT_S", 0.01)
    texts = iter(["loading, 10 s", "loading, 20 s"])
    done = threading.Event()

    def text():
        line = next(texts, None)
        if line is None:
            done.set()
        return line or "more"

    with terminals.progress(text):
        assert done.wait(20)
    assert capfd.readouterr().err.startswith("loading, 10 s\nloading, 20 s\nmore\n")
