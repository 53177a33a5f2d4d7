"""No body takes more time than its size allows, whatever is in it; see benchmarks/hostile.py."""

from __future__ import annotations

import gc
import json
import time

import pytest

from benchmarks import hostile
from mms_handler import codecs
from mms_handler.codecs.arrays import MAX_ARRAYS
from mms_handler.errors import BadInput, HandlerError
from mms_handler.media import JSON, JSON_LINES

#: How often a body may take the CPU time that Python's json takes for numbers of the same size.
TIMES_JSON = 100

BODIES = {**hostile.TEXT, **hostile.BINARY}


def cpu_s(function, tries=3):
    """The CPU seconds of this thread that a call takes, the best of some tries."""
    gc.collect()
    gc.freeze()  # as a worker does, so that only the body's own objects are collected
    try:
        best = float("inf")
        for _ in range(tries):
            start = time.thread_time()
            function()
            best = min(best, time.thread_time() - start)
        return best
    finally:
        gc.unfreeze()


def read(content_type, body):
    """Read or refuse a body, as a worker does."""
    try:
        return codecs.decode(body, content_type)
    except HandlerError:
        return None


@pytest.mark.parametrize(("content_type", "make"), BODIES.values(), ids=BODIES)
def test_the_time_grows_with_the_body(content_type, make):
    """A body eight times as large takes about eight times as long; a quadratic one takes 64."""
    small, large = make(6_000), make(48_000)
    large_s = cpu_s(lambda: read(content_type, large))
    numbers = json.dumps([1] * (len(large) // 3)).encode()
    assert large_s < TIMES_JSON * cpu_s(lambda: json.loads(numbers))
    assert large_s < 24 * cpu_s(lambda: read(content_type, small)) + 1e-3


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
