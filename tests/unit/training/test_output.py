"""training.output: what a process prints arrives as it is, at once and in order."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from mms_handler.training.output import TAIL_BYTES, Output, Tail, write_all


class Recorder:
    """A screen that keeps everything."""

    def __init__(self):
        self.pieces = []
        self.ended = threading.Event()

    def write(self, host, descriptor, data):
        self.pieces.append((descriptor, data))

    def end(self, host):
        self.ended.set()

    def of(self, descriptor):
        return b"".join(data for each, data in self.pieces if each == descriptor)


def follow(source, screen=None, streams=None, observe=None):
    """Run a Python program, pass its output on, and wait for its end."""
    output = Output(screen, observe)
    streams = streams or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", source], **streams) as process:
        follower = output.follow("algo-1", process)
        process.wait()
        follower.join()
    return follower


def test_bytes_pass_unchanged(capfdbinary):
    """Each stream to its own, also what is no text and what has no end."""
    follower = follow(
        "import sys\n"
        "sys.stdout.buffer.write(bytes(range(256)) * 2)\n"
        "sys.stderr.buffer.write(b'\\xff\\r\\n\\0')\n"
    )
    assert capfdbinary.readouterr() == (bytes(range(256)) * 2, b"\xff\r\n\0")
    assert follower.tail.text() == "\ufffd\r\n\0"


def test_both_streams_in_order(monkeypatch):
    """They share a pipe where they lead to the same place, as on a terminal."""
    screen = Recorder()
    monkeypatch.setattr("mms_handler.training.output._place", lambda descriptor: (1, 2, 3))
    streams = Output().streams()
    source = (
        "import os\n"
        "for number in range(500):\n"
        "    os.write(1, b'out %d\\n' % number)\n"
        "    os.write(2, b'err %d\\n' % number)\n"
    )
    follower = follow(source, screen, streams)
    lines = screen.of(1).decode().splitlines()
    assert lines == [f"{name} {number}" for number in range(500) for name in ("out", "err")]
    assert follower.tail.text().endswith("out 499\nerr 499\n")
    monkeypatch.undo()
    reader, writer = os.pipe()
    assert Output().streams() == {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    os.close(reader)
    os.close(writer)


def test_output_comes_at_once():
    """Before the process ends, and before the line does."""
    screen, arrived = Recorder(), threading.Event()
    source = "import os, sys\nos.write(1, b'...')\nsys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        follower = Output(screen, lambda host, data: arrived.set()).follow("algo-1", process)
        assert arrived.wait(20)
        process.stdin.close()
        process.wait()
        follower.join()
    assert screen.of(1) == b"..."


def test_a_line_in_two_writes():
    """As by Python's print: it arrives whole, if its end comes soon."""
    screen = Recorder()
    follow("import os\nfor _ in range(50): os.write(1, b'one'); os.write(1, b'\\n')\n", screen)
    assert screen.of(1) == b"one\n" * 50
    whole = [data for _, data in screen.pieces if data.endswith(b"\n")]
    assert len(whole) > len(screen.pieces) / 2


def test_a_line_of_100_megabytes(tmp_path):
    """Without an end; what is kept of it stays small."""
    screen = Recorder()
    sizes = []
    screen.write = lambda host, descriptor, data: sizes.append(len(data))
    source = "import os\nfor _ in range(100): os.write(2, b'x' * 1000000)\n"
    follower = follow(source, screen)
    assert sum(sizes) == 100_000_000
    assert len(follower.tail.text()) == TAIL_BYTES
    assert sum(map(len, follower.tail._chunks)) < 3 * TAIL_BYTES


def test_the_tail():
    """The end of what was added, whatever the pieces."""
    tail = Tail()
    for number in range(10_000):
        tail.add(b"%d\n" % number)
    text = "".join(f"{number}\n" for number in range(10_000))
    assert tail.text() == text[-TAIL_BYTES:] or tail.text() == text
    tail.add(b"y" * 3 * TAIL_BYTES)
    assert tail.text() == "y" * TAIL_BYTES


@pytest.mark.parametrize(
    ("error", "code"), [(BrokenPipeError(), 1), (OSError(28, "No space left on device"), 0)]
)
def test_output_that_cannot_be_passed_on(error, code):
    """A process whose reader has gone learns it; a full disk does not end the job."""
    screen = Recorder()

    def fail(*arguments):
        raise error

    screen.write = fail
    source = (
        "import os, sys, time\n"
        "try:\n"
        "    for _ in range(100000): os.write(1, b'x' * 100)\n"
        "except BrokenPipeError:\n"
        "    sys.exit(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        follower = Output(screen).follow("algo-1", process)
        assert process.wait(60) == code
        follower.join()


def test_a_descriptor_that_does_not_block():
    """It is written to in parts, as it is read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    received = []

    def read():
        while True:
            data = os.read(reader, 1 << 16)
            if not data:
                return
            received.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    write_all(writer, b"z" * 1_000_000)
    os.close(writer)
    thread.join(20)
    os.close(reader)
    assert sum(map(len, received)) == 1_000_000


def test_what_is_observed():
    """Each piece, with its host, and an empty one at the end."""
    pieces = []
    follow("print('Epoch[0] Train-accuracy=0.5')", Recorder(), None, lambda *p: pieces.append(p))
    assert {host for host, _ in pieces} == {"algo-1"}
    assert b"".join(data for _, data in pieces) == b"Epoch[0] Train-accuracy=0.5\n"
    assert pieces[-1] == ("algo-1", b"")
