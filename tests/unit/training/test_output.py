"""training.output: what a process prints arrives as it is, at once and in order."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading

import pytest

from mms_handler.terminal import write_all
from mms_handler.training import output
from mms_handler.training.output import TAIL_BYTES, Output, Pipes, Tail


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


def follow(source, screen=None, pipes=None, observe=None):
    """Run a Python program, pass its output on, and wait for its end."""
    output = Output(screen, observe)
    pipes = pipes or Pipes(subprocess.PIPE, subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", source], **pipes.arguments) as process:
        follower = output.follow("algo-1", process, pipes)
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
    pipes = Output().pipes()
    source = (
        "import os\n"
        "for number in range(500):\n"
        "    os.write(1, b'out %d\\n' % number)\n"
        "    os.write(2, b'err %d\\n' % number)\n"
    )
    follower = follow(source, screen, pipes)
    lines = screen.of(1).decode().splitlines()
    assert lines == [f"{name} {number}" for number in range(500) for name in ("out", "err")]
    assert follower.tail.text().endswith("out 499\nerr 499\n")
    monkeypatch.undo()
    reader, writer = os.pipe()
    assert Output().pipes() == (subprocess.PIPE, subprocess.PIPE, None)
    os.close(reader)
    os.close(writer)


def test_a_terminal(monkeypatch):
    """The process has one too, of the same size, if its output goes to one as it is."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    monkeypatch.setattr("mms_handler.training.output.STDOUT", slave)
    monkeypatch.setattr("mms_handler.training.output.STDERR", slave)
    pipes = Output(terminal=True).pipes()
    assert pipes.master is not None
    screen = Recorder()
    source = (
        "import os, sys\n"
        "print(sys.stdout.isatty(), sys.stderr.isatty(), *os.get_terminal_size(1), flush=True)\n"
        "os.write(2, bytes(range(256)))\n"
    )
    follower = follow(source, screen, pipes)
    assert screen.of(slave) == b"True True 77 33\n" + bytes(range(256))
    assert follower.tail.text().startswith("True True")
    assert Output().pipes() == (subprocess.PIPE, subprocess.STDOUT, None)
    os.close(master)
    os.close(slave)


def test_streams_that_are_closed():
    """They have no place in common."""
    assert output._place(1000) != output._place(1001)


def test_output_comes_at_once():
    """Before the process ends, and before the line does."""
    screen, arrived = Recorder(), threading.Event()
    source = "import os, sys\nos.write(1, b'...')\nsys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        follower = Output(screen, lambda host, data: arrived.set()).follow(
            "algo-1", process, Pipes(subprocess.PIPE, subprocess.PIPE)
        )
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


@pytest.mark.parametrize(("data", "waits"), [(b"a\n", 0), (b"10 %\r", 0), (b"a\nb", 1)])
def test_only_the_rest_of_a_line_is_waited_for(monkeypatch, data, waits):
    """A progress bar's line ends with a carriage return."""
    waited = []
    monkeypatch.setattr(output.select, "select", lambda *args: waited.append(args) or ([], [], []))
    reading, writing = os.pipe()
    os.write(writing, data)
    assert output._read(reading) == data
    assert len(waited) == waits
    os.close(reading)
    os.close(writing)


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
        follower = Output(screen).follow("algo-1", process, Pipes(subprocess.PIPE, subprocess.PIPE))
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


def test_a_screen_is_told_of_the_end():
    """A line without an end is then shown as it is."""
    screen = Recorder()
    follow("print('no end', end='')", screen)
    assert screen.ended.wait(20)
