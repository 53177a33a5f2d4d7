"""archive.packed_reply: which replies are the same, and how they are kept."""

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
    ("content_type", "packed", "current"),
    [
        pytest.param(JSON, b"[[1.0, 2.0]]", b"[[1.0,2.0]]", id="spaces"),
        pytest.param(JSON, b"[[1.0, 2.0]]", b"[[1.00009, 2.0]]", id="a rounding"),
        pytest.param(JSON, b"[1e-8]", b"[9e-7]", id="a tiny number"),
        pytest.param(JSON, b"[1, null]", b"[1.0, null]", id="an integer as a float"),
        pytest.param(JSON, b"[1, 2.00001]", b"[1.00001, 2]", id="a float near an integer"),
        pytest.param(JSON, b'{"a": [0.5], "b": "x"}', b'{"b": "x", "a": [0.50001]}', id="names"),
        pytest.param("application/json; charset=utf-8", b"[1.0]", b"[1.00001]", id="a charset"),
        pytest.param(CSV, b"0.5,1\n", b"0.50001,1\n", id="CSV"),
        pytest.param(NPY, npy([[1, np.nan]]), npy([[1.00005, np.nan]]), id="NPY"),
        pytest.param("text/plain", b"a word", b"a word", id="text"),
        pytest.param("image/png", b"\xff\0", b"\xff\0", id="an image"),
        pytest.param(JSON, b"x" * 200_000, b"x" * 200_000, id="a long body"),
        pytest.param(JSON, None, b"a time", id="a body that changes"),
    ],
)
def test_the_same_reply(content_type, packed, current):
    """Numbers may differ by 1e-4 of themselves or by 1e-6; float32 is at least that precise."""
    replies = (packed_reply.encode(200, content_type, body) for body in (packed, current))
    assert packed_reply.same(*replies)


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **{name: np.array(values, "float32") for name, values in arrays.items()})
    return out.getvalue()


@pytest.mark.parametrize(
    ("current", "same"),
    [
        (npz(a=[0.50001], b=[1]), True),
        (npz(b=[1], a=[0.5]), True),
        (npz(a=[0.6], b=[1]), False),
        (npz(a=[0.5], c=[1]), False),
        (npz(a=[0.5]), False),
        (npz(a=[0.5], b=[1, 1]), False),
    ],
)
def test_a_reply_of_named_arrays(current, same):
    """Each is compared with that of its name."""
    packed = npz(a=[0.5], b=[1])
    replies = (packed_reply.encode(200, "application/x-npz", body) for body in (packed, current))
    assert packed_reply.same(*replies) is same


@pytest.mark.parametrize(
    ("content_type", "packed", "current"),
    [
        pytest.param(JSON, b"[[1.0, 2.0]]", b"[[1.0002, 2.0]]", id="a number"),
        pytest.param(JSON, b"[1]", b"[2]", id="an integer"),
        pytest.param(JSON, b"[[1.0]]", b"[1.0]", id="a shape"),
        pytest.param(JSON, b"[1.0]", b"[1.0, 2.0]", id="a length"),
        pytest.param(JSON, b'["setosa"]', b'["virginica"]', id="a word"),
        pytest.param(JSON, b'{"a": 1.5}', b'{"b": 1.5}', id="a name"),
        pytest.param(JSON, b"[1.5]", b'["1.5"]', id="a string"),
        pytest.param(JSON, b"[1.5]", b"[1.5", id="invalid JSON"),
        pytest.param(CSV, b"1,2\n", b"1\n2\n", id="CSV rows"),
        pytest.param(NPY, npy([1, 2]), npy([[1, 2]]), id="an NPY shape"),
        pytest.param("text/plain", b"1.0", b"1.000001", id="a type without a codec"),
        pytest.param(JSON, b"x" * 200_000, b"y" * 200_000, id="a long body"),
        pytest.param(JSON, b"[1]", None, id="a body that changes now"),
    ],
)
def test_another_reply(content_type, packed, current):
    replies = (packed_reply.encode(200, content_type, body) for body in (packed, current))
    assert not packed_reply.same(*replies)


def test_another_status_or_type():
    """The same body with another type or status is another reply."""
    reply = packed_reply.encode(200, JSON, b"[1]")
    assert not packed_reply.same(reply, packed_reply.encode(201, JSON, b"[1]"))
    assert not packed_reply.same(reply, packed_reply.encode(200, CSV, b"[1]"))


@pytest.mark.parametrize(
    "reply", [{}, {"base64": "?"}, {"base64": 7}, {"body": 7}, {"sha256": 7}], ids=str
)
def test_an_invalid_packed_reply(reply):
    """A reply that another program wrote is another reply, not an exception."""
    packed = {"status": 200, "content_type": JSON, **reply} if reply else reply
    assert not packed_reply.same(packed, packed_reply.encode(200, JSON, b"[1]"))


def test_how_replies_are_kept():
    """Text is kept as it is, other bytes as base64, a long body as its hash."""
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


def test_descriptions_of_replies():
    """A long body is cut."""
    assert (
        packed_reply.describe_reply(packed_reply.encode(200, JSON, b"[1]"))
        == "200 application/json: [1]"
    )
    assert len(packed_reply.describe_reply(packed_reply.encode(200, JSON, b"1" * 1_000))) == 222
    long = packed_reply.describe_reply(packed_reply.encode(200, JSON, bytes(100_001)))
    assert long.startswith("200 application/json: a body with the hash ")


@pytest.mark.parametrize("content_type", ["application/json", "text/csv"])
def test_a_share_of_the_largest_number(content_type):
    """What a faster graph may be off by is much of a small number."""
    form = "[[%s]]" if content_type == "application/json" else "%s"

    def reply(numbers):
        return packed_reply.encode(200, content_type, (form % numbers).encode())

    packed = reply("10.0,0.001")
    assert not packed_reply.same(packed, reply("10.0,0.009"))
    assert packed_reply.same(packed, reply("10.0,0.009"), 1e-3)
    assert not packed_reply.same(packed, reply("10.0,0.012"), 1e-3)
