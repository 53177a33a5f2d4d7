"""replies: what of two replies is the same, and what is not."""

from __future__ import annotations

import io

import numpy as np
import pytest

from mms_handler.archive import packed_reply

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def npy(values):
    out = io.BytesIO()
    np.save(out, np.array(values, "float32"))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content_type", "then", "now"),
    [
        pytest.param(JSON, b"[[1.0, 2.0]]", b"[[1.0,2.0]]", id="spaces"),
        pytest.param(JSON, b"[[1.0, 2.0]]", b"[[1.00009, 2.0]]", id="a rounding"),
        pytest.param(JSON, b"[1e-8]", b"[9e-7]", id="next to nothing"),
        pytest.param(JSON, b"[1, null]", b"[1.0, null]", id="an integer as a float"),
        pytest.param(JSON, b'{"a": [0.5], "b": "x"}', b'{"b": "x", "a": [0.50001]}', id="names"),
        pytest.param("application/json; charset=utf-8", b"[1.0]", b"[1.00001]", id="a charset"),
        pytest.param(CSV, b"0.5,1\n", b"0.50001,1\n", id="CSV"),
        pytest.param(NPY, npy([[1, np.nan]]), npy([[1.00005, np.nan]]), id="NPY"),
        pytest.param("text/plain", b"a word", b"a word", id="text"),
        pytest.param("image/png", b"\xff\0", b"\xff\0", id="a picture"),
        pytest.param(JSON, b"x" * 200_000, b"x" * 200_000, id="what is long"),
        pytest.param(JSON, None, b"a time", id="what is another one each time"),
    ],
)
def test_the_same(content_type, then, now):
    """Numbers may differ by 1e-4 of themselves or by 1e-6; 1e-4 is what float32 leaves for sure."""
    then, now = (packed_reply.encode(200, content_type, body) for body in (then, now))
    assert packed_reply.same(then, now)


@pytest.mark.parametrize(
    ("content_type", "then", "now"),
    [
        pytest.param(JSON, b"[[1.0, 2.0]]", b"[[1.0002, 2.0]]", id="a number"),
        pytest.param(JSON, b"[1]", b"[2]", id="an integer"),
        pytest.param(JSON, b"[[1.0]]", b"[1.0]", id="a shape"),
        pytest.param(JSON, b"[1.0]", b"[1.0, 2.0]", id="a length"),
        pytest.param(JSON, b'["setosa"]', b'["virginica"]', id="a word"),
        pytest.param(JSON, b'{"a": 1.5}', b'{"b": 1.5}', id="a name"),
        pytest.param(JSON, b"[1.5]", b'["1.5"]', id="a text"),
        pytest.param(JSON, b"[1.5]", b"[1.5", id="no JSON any more"),
        pytest.param(CSV, b"1,2\n", b"1\n2\n", id="CSV rows"),
        pytest.param(NPY, npy([1, 2]), npy([[1, 2]]), id="an NPY shape"),
        pytest.param("text/plain", b"1.0", b"1.000001", id="what has no codec"),
        pytest.param(JSON, b"x" * 200_000, b"y" * 200_000, id="what is long"),
        pytest.param(JSON, b"[1]", None, id="not the same each time any more"),
    ],
)
def test_another(content_type, then, now):
    then, now = (packed_reply.encode(200, content_type, body) for body in (then, now))
    assert not packed_reply.same(then, now)


def test_status_and_type_count():
    """The same body in another type, or with another status, is another reply."""
    told = packed_reply.encode(200, JSON, b"[1]")
    assert not packed_reply.same(told, packed_reply.encode(201, JSON, b"[1]"))
    assert not packed_reply.same(told, packed_reply.encode(200, CSV, b"[1]"))


@pytest.mark.parametrize(
    "reply", [{}, {"base64": "?"}, {"base64": 7}, {"body": 7}, {"sha256": 7}], ids=str
)
def test_a_kept_reply_that_is_none(reply):
    """A manifest that somebody else wrote fails the check; it does not end it."""
    told = {"status": 200, "content_type": JSON, **reply} if reply else reply
    assert not packed_reply.same(told, packed_reply.encode(200, JSON, b"[1]"))


def test_how_replies_are_kept():
    """Text as text, other bytes as base64, what is long as its hash."""
    assert packed_reply.encode(200, JSON, b"[1]") == {
        "status": 200,
        "content_type": JSON,
        "body": "[1]",
    }
    assert packed_reply.encode(200, "image/png", b"\xff") == {
        "status": 200,
        "content_type": "image/png",
        "base64": "/w==",
    }
    assert packed_reply.encode(200, JSON, bytes(100_001)) == {
        "status": 200,
        "content_type": JSON,
        "sha256": "d0c690d019a2e27f02746b5edf5f79742b694aa7e19f3ec688d01ae936e70e9c",
    }


def test_replies_in_words():
    """Cut where a line would become a page."""
    assert (
        packed_reply.describe(packed_reply.encode(200, JSON, b"[1]")) == "200 application/json: [1]"
    )
    assert len(packed_reply.describe(packed_reply.encode(200, JSON, b"1" * 1_000))) == 222
    long = packed_reply.describe(packed_reply.encode(200, JSON, bytes(100_001)))
    assert long.startswith("200 application/json: a body with the hash ")
