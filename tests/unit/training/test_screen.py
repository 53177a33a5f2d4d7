"""training.screen: the lines of several hosts."""

from __future__ import annotations

import pytest

from mms_handler.terminal import HELD_BYTES
from mms_handler.training import screen
from mms_handler.training.screen import Hosts


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
    """Cyan, yellow, green, magenta, blue; then they begin again."""
    recorder = Recorder()
    hosts = Hosts("abcdef", recorder, colour=True)
    for host in "abcdef":
        hosts.write(host, 1, b"x\n")
    assert recorder.written.splitlines() == [
        b"\x1b[36m[a] \x1b[0mx",
        b"\x1b[33m[b] \x1b[0mx",
        b"\x1b[32m[c] \x1b[0mx",
        b"\x1b[35m[d] \x1b[0mx",
        b"\x1b[34m[e] \x1b[0mx",
        b"\x1b[36m[f] \x1b[0mx",
    ]


def test_a_line_that_has_not_ended():
    """Is held to be drawn, until it ends; the end of one host leaves those of others."""
    recorder, held = Recorder(), []
    hosts = Hosts(["a", "b"], recorder, hold=lambda host, line: held.append((host, line)))
    hosts.write("a", 1, b"one\ntw")
    hosts.write("b", 1, b"three")
    hosts.write("a", 1, b"o")
    assert held == [("a", b"tw"), ("b", b"three"), ("a", b"two")]
    hosts.write("a", 2, b"error\n")
    hosts.end("a")
    assert held[3:] == [("a", b""), ("a", b"")]
    assert recorder.written == b"[a] one\n[a] error\n[a] two\n"
    hosts.end("b")
    assert recorder.written.endswith(b"\n[b] three\n")
    hosts.write("b", 1, b"x" * (HELD_BYTES + 5))
    assert held[-1] == ("b", b"x" * HELD_BYTES)
