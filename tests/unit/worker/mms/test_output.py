"""output: whatever is printed becomes lines that MMS can read."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading

import mms
import pytest

from mms_handler.settings import Settings
from mms_handler.worker.mms import output
from mms_handler.worker.mms.output import Output, RecordLines, TextLines, _Stream


class Pipe:
    """A pipe, with a stream that writes into it."""

    def __init__(self):
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.stream = _Stream(TextLines(self.writing))

    def read(self):
        """Return what was written since the last call."""
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
        pytest.param("a\r\nb\rc\n", "a\nb\nc\n", id="every line end that Java knows"),
        pytest.param("a\u0085b\u2028c\u2029d\n", "a\nb\nc\nd\n", id="Unicode's line ends"),
        pytest.param("[PID] 5\n", " [PID] 5\n", id="a command that kills the front end's reader"),
        pytest.param("[METRICS]a\n", " [METRICS]a\n", id="a metric"),
        pytest.param("MMS worker started.\n", " MMS worker started.\n", id="MMS's own message"),
        pytest.param("a\r[PID] 5\n", "a\n [PID] 5\n", id="a command after a line end"),
        pytest.param("see [PID] 5\n", "see [PID] 5\n", id="a command inside a line"),
        pytest.param(
            "\ud800 \u00e9\n", "\\ud800 \u00e9\n", id="a surrogate, which cannot be encoded"
        ),
        pytest.param("x" * 8_000 + "\n", "x" * 8_000 + "\n", id="a line of the maximum length"),
        pytest.param(
            "x" * 8_005 + "\ny\n",
            "x" * 8_000 + " [and 5 bytes more]\ny\n",
            id="a line that is too long",
        ),
        pytest.param(
            "x" * 7_999 + "\u00e9\n",
            "x" * 7_999 + " [and 1 bytes more]\n",
            id="a letter of two bytes at the limit",
        ),
    ],
)
def test_a_text_becomes_lines(pipe, text, lines):
    """Lines are complete and not too long, and MMS obeys none of them."""
    print(text, end="", file=pipe.stream)
    assert pipe.read() == lines


def test_a_line_may_come_in_pieces(pipe):
    """Each flush writes, but the limit is for the whole line."""
    for piece in ("one", ", two", ", three"):
        print(piece, end="", flush=True, file=pipe.stream)
    assert pipe.read() == "one, two, three"
    print("x" * 9_000, end="", file=pipe.stream, flush=True)
    assert len(pipe.read()) == 8_000 - len("one, two, three")
    print(".", file=pipe.stream)
    assert pipe.read() == " [and 1016 bytes more]\n"


def test_a_line_of_a_request_in_pieces_has_its_id_once(pipe):
    pipe.stream.lines.tag("4f1c")
    for piece in ("one", ", two\nthr", "ee\n"):
        print(piece, end="", flush=True, file=pipe.stream)
    assert pipe.read() == "request 4f1c: one, two\nrequest 4f1c: three\n"


def test_a_command_in_pieces_is_not_obeyed(pipe):
    """A line that begins like a command gets a space in front."""
    print("[P", end="", flush=True, file=pipe.stream)
    print("ID] 5", file=pipe.stream)
    assert pipe.read() == " [PID] 5\n"


def test_a_line_without_an_end_does_not_grow(pipe):
    """The rest of ten megabytes is counted but not written; the request's end ends the line."""
    for _ in range(1_000):
        pipe.stream.write("x" * 10_000)
    pipe.stream.flush()
    assert len(pipe.read()) == 8_000
    pipe.stream.lines.tag("next")
    assert pipe.read() == " [and 9992000 bytes more]\n"


def test_lines_begin_with_the_id_of_their_request(pipe):
    """Each has it once, empty lines have none, and an unfinished line ends with its request."""
    lines = pipe.stream.lines
    lines.tag("4f1c")
    print("a\n\n[PID] 5\n4f1c: 500\nb", end="", file=pipe.stream)
    pipe.stream.flush()
    lines.tag("5e2d")
    print("c", file=pipe.stream)
    lines.tag("")
    print("d", file=pipe.stream)
    assert pipe.read().splitlines() == [
        "request 4f1c: a",
        "",
        "request 4f1c: [PID] 5",
        "request 4f1c: 4f1c: 500",
        "request 4f1c: b",
        "request 5e2d: c",
        "d",
    ]


def test_bytes_become_lines_too(pipe):
    """Bytes that are written to sys.stdout.buffer are treated like text."""
    assert pipe.stream.buffer.write(b"[PID] 5\n\xff\n") == 10
    pipe.stream.buffer.write(memoryview(b"view\n"))
    pipe.stream.buffer.flush()
    assert os.read(pipe.reading, 100) == b" [PID] 5\n\xff\nview\n"


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        pytest.param(
            [b"\xff[PID] 5" + b"x" * 8_000 + b"\n"],
            b"\xff[PID] 5" + b"x" * 7_992 + b" [and 8 bytes more]\n",
            id="a byte that is no letter before it, in a line that is cut",
        ),
        pytest.param(
            [b"x" * 7_999 + b"\xff[PID]" * 50 + b"\n"],
            b"x" * 7_999 + b"\xff [and 299 bytes more]\n",
            id="such bytes where the line is cut",
        ),
        pytest.param(
            [b"a\xe2\x80", b"\xa8[PID] 5\n"],
            b"a\n [PID] 5\n",
            id="a line end in two pieces before it",
        ),
        pytest.param(
            [b"\xc2", b"\x85[PID] 5\n"],
            b"\n [PID] 5\n",
            id="a line end in two pieces, at the start of a line",
        ),
        pytest.param(
            [b"x" * 7_998 + b"\xe2\x80\n"],
            b"x" * 7_998 + b"\xe2\x80\n",
            id="half a letter at the end of a line of the maximum length",
        ),
        pytest.param([b"\xe2\x80", b"[PID] 5\n"], b"\xe2\x80[PID] 5\n", id="half a letter"),
    ],
)
def test_bytes_that_are_left_out_do_not_uncover_a_command(pipe, pieces, written):
    """A line is checked as it is written: MMS's reader would die of a [PID] at its start."""
    for piece in pieces:
        pipe.stream.buffer.write(piece)
        pipe.stream.buffer.flush()
    assert os.read(pipe.reading, 20_000) == written


def test_the_stream_behaves_like_stdout(pipe):
    """It has the attributes that scripts use, and it stays open when it is closed."""
    stream = pipe.stream
    assert (stream.fileno(), stream.isatty(), stream.writable()) == (pipe.writing, False, True)
    assert (stream.encoding, stream.closed) == ("utf-8", False)
    stream.reconfigure(line_buffering=True, errors="replace")
    stream.writelines(["a\n", "b\n"])
    stream.close()
    print("c", file=stream)
    assert pipe.read() == "a\nb\nc\n"


def test_print_does_not_fail_without_a_reader():
    """Not even if the descriptor was closed."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = _Stream(TextLines(writing))
    print("a", file=stream)
    print("b" * 100_000, file=stream)
    os.close(writing)
    print("c", file=stream)


def test_threads_do_not_mix_their_lines(pipe):
    """Each line comes from one thread."""

    def write_lines(letter):
        for _ in range(200):
            print(letter * 20, file=pipe.stream)

    threads = [threading.Thread(target=write_lines, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = pipe.read().splitlines()
    assert sorted(set(lines)) == ["a" * 20, "b" * 20, "c" * 20]
    assert len(lines) == 600


WORKER = """\
import logging, os, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
from mms_handler.settings import Settings
from mms_handler.worker.mms.output import Output
output = Output("m", Settings())
output.clean()
output.tag("4f1c")
print("printed")
print("to stderr", file=sys.stderr)
logging.getLogger("a").info("logged\\nin two lines")
logging.getLogger("a").info("[METRICS]%s", "not MMS's")
logging.getLogger("mms.service").info("[METRICS]%s", "Time.ms:1")
os.write(1, b"written past it\\n")
from mms_handler.errors import LoadError
ends = ValueError("Frontend disconnected"), LoadError("model_fn: no"), ValueError("another end")
for end in ends:
    try:
        raise end
    except Exception:
        logging.error("Backend worker process died.", exc_info=True)
if os.fork() == 0:
    print("of a child")
    os._exit(0)
os.wait()
print("last", end="")
output.tag("")
"""


def test_every_way_to_print():
    """Every line gets the request's id, except MMS's metrics and writes to the descriptor.

    MMS's traceback at a worker's end is printed unless the front end wanted that end, or the
    service has logged why the model cannot be loaded.
    """
    process = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, check=True)
    assert process.stdout.decode().splitlines() == [
        "request 4f1c: printed",
        "request 4f1c: logged",
        "request 4f1c: in two lines",
        "request 4f1c: [METRICS]not MMS's",
        "[METRICS]Time.ms:1",
        "written past it",
        "request 4f1c: Backend worker process died.",
        "request 4f1c: Traceback (most recent call last):",
        'request 4f1c:   File "<string>", line 18, in <module>',
        "request 4f1c: ValueError: another end",
        "request 4f1c: of a child",
        "request 4f1c: last",
    ]
    assert process.stderr.decode().splitlines() == ["request 4f1c: to stderr"]


def test_nothing_changes_before_clean_is_called():
    """A process that is not a worker prints as usual."""
    streams = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    Output("m", Settings()).tag("4f1c")
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers)) == streams


def test_the_log_keeps_its_format():
    """MMS's, or one that a person has set; commands stay with the old handler."""
    root, handler = logging.getLogger(), logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s of %(name)s"))
    added = Output("m", Settings())._printing(handler.formatter, TextLines(1))
    output._divide(handler, added)
    root.removeHandler(added)
    assert added.formatter is handler.formatter
    metric = logging.makeLogRecord({"name": "mms.service", "msg": "[METRICS]%s"})
    line = logging.makeLogRecord({"name": "mms.service", "msg": "a line", "levelno": 20})
    assert [bool(handler.filter(record)) for record in (metric, line)] == [True, False]
    assert [bool(added.filter(record)) for record in (metric, line)] == [False, True]


# --- records -----------------------------------------------------------------------------------


def records_of(pipe, pieces, is_written=True):
    """The records of what is written in pieces, each of which is flushed."""
    lines = RecordLines(pipe.writing, logging.INFO, {"source": "worker", "model": "m"}, is_written)
    stream = _Stream(lines)
    for piece in pieces:
        stream.buffer.write(piece)
        stream.flush()
    lines.tag("4f1c")
    return [json.loads(line) for line in pipe.read().splitlines()], stream


@pytest.mark.parametrize(
    ("pieces", "messages"),
    [
        pytest.param([b"a\n\n \nb\r\nc\rd\n"], ["a", "b", "c", "d"], id="lines"),
        pytest.param([b"a", b"b", b"\nc"], ["ab", "c"], id="pieces"),
        pytest.param([b"[PID] 5\n", b"[METRICS]a\n"], ["[PID] 5", "[METRICS]a"], id="commands"),
        pytest.param(["é\u2028é".encode(), b"\n"], ["é", "é"], id="letters"),
        pytest.param(["é".encode()[:1], "é".encode()[1:], b"\n"], ["é"], id="half a letter"),
        pytest.param([b"\xff\x1b\0\n"], ["\\xff\x1b\0"], id="what is no text"),
        pytest.param([b"x" * 8_000 + b"\n"], ["x" * 8_000], id="the longest line"),
        pytest.param(
            [b"x" * 8_005 + b"\ny\n"], ["x" * 8_000 + " [and 5 bytes more]", "y"], id="too long"
        ),
        pytest.param(
            [b"x" * 5_000] * 4 + [b"\n"],
            ["x" * 8_000 + " [and 12000 bytes more]"],
            id="too long, in pieces",
        ),
    ],
)
def test_lines_become_records(pipe, pieces, messages):
    """One for each line, which no command can be."""
    records, _ = records_of(pipe, pieces)
    assert [record["message"] for record in records] == messages
    assert {(r["level"], r["source"], r["model"]) for r in records} == {("INFO", "worker", "m")}
    assert not any("request_id" in record for record in records)


def test_records_of_a_request(pipe):
    """An unfinished line ends with its request."""
    _, stream = records_of(pipe, [])
    print("a\nb", end="", file=stream)
    stream.flush()
    stream.lines.tag("x, \\ ~")
    print("c", file=stream)
    records = [json.loads(line) for line in pipe.read().splitlines()]
    assert [(record["message"], record["request_id"]) for record in records] == [
        ("a", "4f1c"),
        ("b", "4f1c"),
        ("c", "x, \\ ~"),
    ]


def test_lines_below_the_level(pipe):
    assert records_of(pipe, [b"a\nb"], is_written=False)[0] == []


def test_a_long_record_is_shortened(pipe):
    _, stream = records_of(pipe, [])
    stream.lines.send({"message": "a" * 16_000, "traceback": "b" * 16_001})
    record = json.loads(pipe.read())
    assert record["message"] == "a" * 16_000
    assert record["traceback"] == "b" * 8_000 + " [and 8001 characters more]"


def test_every_way_to_print_as_records():
    """MMS's own lines are left out; so is what is below the level."""
    setup = WORKER.replace("Settings()", "Settings(log_format='json', log_level='warning')")
    more = "logging.getLogger('a').error('an error')\nlogging.getLogger('a').setLevel(10)\n"
    more += "logging.getLogger('a').debug('asked for')\n"
    setup = setup.replace("if os.fork()", f"{more}if os.fork()")
    process = subprocess.run([sys.executable, "-c", setup], capture_output=True, check=True)
    lines = process.stdout.decode().splitlines()
    assert lines[:2] == ["[METRICS]Time.ms:1", "written past it"]
    records = [json.loads(line) for line in lines[2:]]
    assert {record["source"] for record in records} == {"worker"}
    assert [(r["level"], r["message"], r["request_id"], r["logger"]) for r in records] == [
        ("ERROR", "Backend worker process died.", "4f1c", "root"),
        ("ERROR", "an error", "4f1c", "a"),
        ("DEBUG", "asked for", "4f1c", "a"),
    ]
    assert records[0]["traceback"].endswith("ValueError: another end")
    (error,) = process.stderr.decode().splitlines()
    assert json.loads(error)["message"] == "to stderr"
    assert json.loads(error)["level"] == "WARNING"


def test_mms_may_be_imported_through_a_link(tmp_path):
    """As in an environment that is a link: serve starts MMS by the path without links."""
    (tmp_path / "packages").symlink_to(os.path.dirname(mms.__path__[0]))
    program = (
        "import logging, os, mms\n"
        "from mms_handler.worker.mms import output\n"
        "for folder in (mms.__path__[0], os.path.realpath(mms.__path__[0]), '/a/script'):\n"
        "    record = logging.makeLogRecord({'pathname': f'{folder}/model_service_worker.py'})\n"
        "    print(output._is_of_mms(record))\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path / 'packages'}:{os.getcwd()}"}
    shown = subprocess.run([sys.executable, "-c", program], env=env, stdout=-1, text=True)
    assert shown.stdout.split() == ["True", "True", "False"]
