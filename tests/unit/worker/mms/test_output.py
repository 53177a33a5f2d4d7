"""output: bytes in, lines that MMS can take out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import pytest

from mms_handler.worker.mms.output import Lines, Output, _Stream


class Pipe:
    """A pipe, a stream into it, and what came out."""

    def __init__(self):
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.stream = _Stream(Lines(self.writing))

    def read(self):
        try:
            return os.read(self.reading, 1 << 16).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def pipe():
    """A pipe that is closed afterwards."""
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reading, pipe.writing):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("a\n", "a\n", id="a line"),
        pytest.param("\n\na\n", "\n\na\n", id="empty lines"),
        pytest.param("a\r\nb\rc\n", "a\nb\nc\n", id="every end of line of Java's"),
        pytest.param("a\u0085b\u2028c\u2029d\n", "a\nb\nc\nd\n", id="and Unicode's"),
        pytest.param("[PID] 5\n", " [PID] 5\n", id="the command that kills the reader"),
        pytest.param("[METRICS]a\n", " [METRICS]a\n", id="a metric"),
        pytest.param("MMS worker started.\n", " MMS worker started.\n", id="MMS's own words"),
        pytest.param("a\r[PID] 5\n", "a\n [PID] 5\n", id="a command behind an end of line"),
        pytest.param("see [PID] 5\n", "see [PID] 5\n", id="no command further on"),
        pytest.param("\ud800 \u00e9\n", "\\ud800 \u00e9\n", id="what cannot be encoded"),
        pytest.param("x" * 8_000 + "\n", "x" * 8_000 + "\n", id="the longest line"),
        pytest.param(
            "x" * 8_005 + "\ny\n", "x" * 8_000 + " [and 5 bytes more]\ny\n", id="a longer one"
        ),
        pytest.param(
            "x" * 7_999 + "\u00e9\n", "x" * 7_999 + " [and 1 bytes more]\n", id="no half letters"
        ),
    ],
)
def test_a_text_becomes_lines(pipe, text, lines):
    """Whole, short, and none that MMS would obey."""
    print(text, end="", file=pipe.stream)
    assert pipe.read() == lines


def test_a_line_in_pieces(pipe):
    """What is flushed is written; the line is one all the same, up to its limit."""
    for piece in ("one", ", two", ", three"):
        print(piece, end="", flush=True, file=pipe.stream)
    assert pipe.read() == "one, two, three"
    print("x" * 9_000, end="", file=pipe.stream, flush=True)
    assert len(pipe.read()) == 8_000 - len("one, two, three")
    print(".", file=pipe.stream)
    assert pipe.read() == " [and 1016 bytes more]\n"


def test_a_command_in_pieces(pipe):
    """A beginning that could become one is set apart."""
    print("[P", end="", flush=True, file=pipe.stream)
    print("ID] 5", file=pipe.stream)
    assert pipe.read() == " [PID] 5\n"


def test_a_line_without_an_end_does_not_grow(pipe):
    """Ten megabytes are read over; the end of the request ends the line."""
    for _ in range(1_000):
        pipe.stream.write("x" * 10_000)
    pipe.stream.flush()
    assert len(pipe.read()) == 8_000
    pipe.stream.lines.tag("next")
    assert pipe.read() == " [and 9992000 bytes more]\n"


def test_lines_have_the_id_of_their_request(pipe):
    """Once; an empty line needs none; what was begun ends with its request."""
    lines = pipe.stream.lines
    lines.tag("4f1c")
    print("a\n\n[PID] 5\nrequest 4f1c: 500\nb", end="", file=pipe.stream)
    pipe.stream.flush()
    lines.tag("5e2d")
    print("c", file=pipe.stream)
    lines.tag("")
    print("d", file=pipe.stream)
    assert pipe.read().splitlines() == [
        "request 4f1c: a",
        "",
        "request 4f1c: [PID] 5",
        "request 4f1c: 500",
        "request 4f1c: b",
        "request 5e2d: c",
        "d",
    ]


def test_bytes_go_the_same_way(pipe):
    """sys.stdout.buffer has no way around."""
    assert pipe.stream.buffer.write(b"[PID] 5\n\xff\n") == 10
    pipe.stream.buffer.write(memoryview(b"view\n"))
    pipe.stream.buffer.flush()
    assert os.read(pipe.reading, 100) == b" [PID] 5\n\xff\nview\n"


def test_it_is_a_stream_like_others(pipe):
    """What scripts ask of sys.stdout is there, and closing it does not close it."""
    stream = pipe.stream
    assert (stream.fileno(), stream.isatty(), stream.writable()) == (pipe.writing, False, True)
    assert (stream.encoding, stream.closed) == ("utf-8", False)
    stream.reconfigure(line_buffering=True, errors="replace")
    stream.writelines(["a\n", "b\n"])
    stream.close()
    print("c", file=stream)
    assert pipe.read() == "a\nb\nc\n"


def test_nobody_reads():
    """print does not fail for that."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = _Stream(Lines(writing))
    print("a", file=stream)
    print("b" * 100_000, file=stream)
    os.close(writing)
    print("c", file=stream)  # the descriptor is gone too


def test_threads_do_not_mix_their_lines(pipe):
    """Each line is one thread's."""

    def say(letter):
        for _ in range(200):
            print(letter * 20, file=pipe.stream)

    threads = [threading.Thread(target=say, args=(letter,)) for letter in "abc"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    lines = pipe.read().splitlines()
    assert sorted(set(lines)) == ["a" * 20, "b" * 20, "c" * 20]
    assert len(lines) == 600


WORKER = """\
import logging, os, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
from mms_handler.worker.mms.output import Output
output = Output()
output.clean()
output.tag("4f1c")
print("printed")
print("to stderr", file=sys.stderr)
logging.getLogger("a").info("logged\\nin two lines")
logging.getLogger("a").info("[METRICS]%s", "not MMS's")
logging.getLogger("mms.service").info("[METRICS]%s", "Time.ms:1")
os.write(1, b"written past it\\n")
if os.fork() == 0:
    print("of a child")
    os._exit(0)
os.wait()
print("last", end="")
output.tag("")
"""


def test_a_process_that_prints_in_every_way():
    """MMS's own metrics alone pass as they are."""
    said = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, check=True)
    assert said.stdout.decode().splitlines() == [
        "request 4f1c: printed",
        "request 4f1c: logged",
        "request 4f1c: in two lines",
        "request 4f1c: [METRICS]not MMS's",
        "[METRICS]Time.ms:1",
        "written past it",
        "request 4f1c: of a child",
        "request 4f1c: last",
    ]
    assert said.stderr.decode().splitlines() == ["request 4f1c: to stderr"]


def test_nothing_changes_until_it_is_wanted():
    """A process that is no worker prints as it always did."""
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    Output().tag("4f1c")
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers)) == before
