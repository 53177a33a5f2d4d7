"""No body takes more work than its size allows, whatever is in it; see benchmarks/hostile.py.

Work is counted, not timed, so the machine's load does not matter: the lines that Python runs, the
bytes that it allocates, and the bytes that methods of texts go through.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from typing import NamedTuple

import pytest

from benchmarks import hostile
from mms_handler import codecs
from mms_handler.codecs.arrays import MAX_ARRAYS
from mms_handler.errors import BadInput, HandlerError
from mms_handler.media import JSON, JSON_LINES

BODIES = {**hostile.TEXT, **hostile.BINARY}

#: How often a body four times as large may take the work: 4 if it grows with the size, 16 if with
#: its square.
GROWTH = 6

#: Bodies that repeat something of some kilobytes, so that smaller ones would not have it.
OF_LARGE_UNITS = {
    "JSON: objects in objects",
    "JSON: nested 400 deep",
    "JSON: integers of 900 digits",
    "JSON Lines: the last object has other names",
    "CSV: the last line of a thousand values is shorter",
    "RecordIO: records of 256 tensors",
}

#: Methods of bytes and str that do not go through all of their text.
SHORT = ("startswith", "endswith", "join", "format")


class Work(NamedTuple):
    """What a call does."""

    lines: int
    allocated_bytes: int
    searched_bytes: int


def work(function) -> Work:
    """Count the work of a call.  Before Python 3.9, allocated bytes cannot be counted: 0."""
    lines = allocated_bytes = searched_bytes = used_bytes = 0
    reset_peak = getattr(tracemalloc, "reset_peak", None)

    def trace(frame, event, arg):
        nonlocal lines, allocated_bytes, used_bytes
        lines += 1
        if reset_peak:
            now_bytes, peak_bytes = tracemalloc.get_traced_memory()
            allocated_bytes += peak_bytes - used_bytes
            used_bytes = now_bytes
            reset_peak()
        return trace

    def profile(frame, event, arg):
        nonlocal searched_bytes
        if event == "c_call" and arg.__name__ not in SHORT:
            owner = getattr(arg, "__self__", None)
            searched_bytes += len(owner) if isinstance(owner, (bytes, str)) else 0

    tracer = sys.gettrace()
    gc.disable()
    tracemalloc.start()
    sys.setprofile(profile)
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(tracer)
        sys.setprofile(None)
        tracemalloc.stop()
        gc.enable()
    return Work(lines, allocated_bytes, searched_bytes)


def read(content_type, body):
    """Read or refuse a body, as a worker does."""
    try:
        return codecs.decode(body, content_type)
    except HandlerError:
        return None


@pytest.mark.parametrize("name", BODIES)
def test_the_work_grows_with_the_body(name):
    """A body four times as large takes about four times the work, and not sixteen times."""
    content_type, make = BODIES[name]
    size = 6_000 if name in OF_LARGE_UNITS else 1_000
    small, large = make(size), make(4 * size)
    for body in (small, large):
        read(content_type, body)  # what is done once is done
    before = work(lambda: read(content_type, small))
    after = work(lambda: read(content_type, large))
    assert after.lines < GROWTH * before.lines + 1_000
    assert after.lines < 50 * len(large)
    assert after.allocated_bytes < GROWTH * before.allocated_bytes + 10 * len(large)
    assert after.searched_bytes < GROWTH * before.searched_bytes + 10 * len(large)


def rests(text):
    while text:
        text = text[1:]


@pytest.mark.parametrize(
    ("function", "size", "field"),
    [
        pytest.param(
            lambda text: [1 for _ in text for _ in text], 100, "lines", id="a loop in a loop"
        ),
        pytest.param(rests, 1_000, "allocated_bytes", id="copies of what is left"),
        pytest.param(
            lambda text: [text.count("b", at) for at in range(len(text))],
            100,
            "searched_bytes",
            id="searches in what is left",
        ),
    ],
)
def test_quadratic_work_is_noticed(function, size, field):
    """Each kind of it."""
    if field == "allocated_bytes" and sys.version_info < (3, 9):
        pytest.skip("cannot be counted before Python 3.9")
    small = work(lambda: function("a" * size))
    large = work(lambda: function("a" * 4 * size))
    assert getattr(large, field) > 12 * getattr(small, field)


def test_an_object_of_many_names_is_refused():
    """JSON and JSON Lines have the limit that NPZ and RecordIO have; 64,000 names took seconds."""
    allowed = {f"k{index}": [1] for index in range(MAX_ARRAYS)}
    for content_type, place in ((JSON, ""), (JSON_LINES, "line 1: ")):
        assert len(codecs.decode(json.dumps(allowed).encode(), content_type)) == MAX_ARRAYS
        body = json.dumps({**allowed, "one more": [1]}).encode()
        with pytest.raises(BadInput) as caught:
            codecs.decode(body, content_type)
        assert str(caught.value) == (
            f"not valid {content_type}: {place}the object has 257 names; the limit is 256"
        )
