"""differences: how far numbers of two replies are apart."""

from __future__ import annotations

import io
import json
import math
import struct

import numpy as np
import pytest

from mms_handler.replay.differences import Differences, differences, differences_of_tensors

JSON, LINES = "application/json", "application/jsonlines"


def npy(*values: float) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(values, np.float32))
    return out.getvalue()


@pytest.mark.parametrize(
    ("then", "now", "content_type", "expected"),
    [
        pytest.param(b"[[1, 2]]", b"[[1, 2]]", "application/json", (0, 0, 0, 0, 0), id="same"),
        pytest.param(
            b"[[8, 2]]", b"[[10,2.0]]", "application/json", (2, 0.2, 0.2, 2, 2), id="JSON"
        ),
        pytest.param(
            b'{"a": [1], "b": "x"}',
            b'{"b": "x", "a": [2]}',
            "application/json; charset=utf-8",
            (1, 0.5, 0.5, 1, 1),
            id="names in another order",
        ),
        pytest.param(b"1,4\n2,a\n", b"1,5\n4,a", "text/csv", (3, 0.5, 0.7, 2, 3), id="CSV"),
        pytest.param(b"[1]\n[2]", b"[1]\n[4]\n", LINES, (2, 0.5, 0.5, 2, 2), id="lines"),
        pytest.param(npy(1, 4), npy(1, 8), "application/x-npy", (2, 0.5, 0.5, 4, 4), id="NPY"),
        pytest.param(b"[0]", b"[1e-9]", "application/json", (1, 0, 0, 1e-9, 1e-9), id="near 0"),
        pytest.param(b"[NaN, -Infinity]", b"[NaN,-Infinity]", JSON, (2, 0, 0, 0, 0), id="NaN"),
        pytest.param(b"[NaN]", b"[1]", JSON, (1, *[math.inf] * 4), id="NaN no more"),
        pytest.param(b"[1]", b"[Infinity]", JSON, (1, *[math.inf] * 4), id="infinite"),
    ],
)  # fmt: skip
def test_numbers(then, now, content_type, expected):
    """Their number, the largest and the sum of relative differences, likewise of absolute ones."""
    assert differences(then, now, content_type) == pytest.approx(Differences(*expected))


@pytest.mark.parametrize(
    ("then", "now", "content_type"),
    [
        pytest.param(b"[1, 2]", b"[1]", "application/json", id="shorter"),
        pytest.param(b'{"a": 1}', b'{"b": 1}', "application/json", id="another name"),
        pytest.param(b'["a"]', b'["b"]', "application/json", id="another text"),
        pytest.param(b"[1]", b"[true]", "application/json", id="no number"),
        pytest.param(b"[true]", b"[false]", "application/json", id="truth"),
        pytest.param(b"1,2", b"1;2", "text/csv", id="other cells"),
        pytest.param(npy(1), npy(1, 2), "application/x-npy", id="another shape"),
        pytest.param(b"[1", b"[1]", "application/json", id="no JSON"),
        pytest.param(b"a", b"b", "application/pdf", id="an unknown type"),
        pytest.param(b"\xff", b"\xfe", "text/csv", id="no text"),
    ],
)
def test_other_differences(then, now, content_type):
    assert differences(then, now, content_type) is None


@pytest.mark.parametrize("name", ["jsonlines", "x-jsonlines", "jsonl", "x-ndjson"])
def test_the_names_of_lines_of_json(name):
    """Whose numbers are compared, and whose texts."""
    kind = f"application/{name}"
    assert differences(b'[1, "a"]\n[2]', b'[1, "a"]\n[4]', kind) == (2, 0.5, 0.5, 2, 2)
    assert differences(b'["a"]\n', b'["b"]\n', kind) is None


def test_sums():
    """The largest of both, and the sums."""
    total = Differences(1, 0.5, 0.5, 3, 3) + Differences(2, 0.25, 0.5, 4, 5)
    assert total == Differences(3, 0.5, 1.0, 4, 8)


# --- tensors ---------------------------------------------------------------------------------


def tensor(data, shape=(2,), datatype="FP32", name="y"):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def reply(*outputs, version="1"):
    """A reply in JSON, all of which is JSON."""
    message = {"model_name": f"m{version}", "model_version": version, "outputs": outputs}
    return json.dumps(message).encode(), ""


def binary_reply(*values):
    """A reply whose values follow the JSON, and the length of that."""
    parameters = {"binary_data_size": 4 * len(values)}
    output = {"name": "y", "datatype": "FP32", "shape": [len(values)], "parameters": parameters}
    head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
    return head + struct.pack(f"<{len(values)}f", *values), str(len(head))


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        pytest.param(
            reply(tensor([1, 4])), reply(tensor([1, 5])), (2, 0.2, 0.2, 1, 1), id="JSON"
        ),
        pytest.param(
            reply(tensor([1, 4])), reply(tensor([1, 4]), version="2"), (2, 0, 0, 0, 0), id="version"
        ),
        pytest.param(binary_reply(1, 4), binary_reply(1, 8), (2, 0.5, 0.5, 4, 4), id="binary"),
        pytest.param(binary_reply(1, 4), reply(tensor([1, 8])), (2, 0.5, 0.5, 4, 4), id="both"),
        pytest.param(
            reply(tensor(["a"], [1], "BYTES")), reply(tensor(["a"], [1], "BYTES"), version="2"),
            (0, 0, 0, 0, 0), id="texts"
        ),
    ],
)  # fmt: skip
def test_numbers_of_tensors(then, now, expected):
    """Whatever the model's version is called, and in both forms."""
    assert differences_of_tensors(then, now) == pytest.approx(Differences(*expected))


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(reply(tensor([1, 4], [2, 1])), id="another shape"),
        pytest.param(reply(tensor([1, 4, 4], [3])), id="longer"),
        pytest.param(reply(tensor([1, 4], datatype="FP64")), id="another type"),
        pytest.param(reply(tensor([1, 4], name="z")), id="another name"),
        pytest.param(reply(), id="no output"),
        pytest.param(reply(tensor(["1", "4"], datatype="BYTES")), id="texts"),
        pytest.param((b"{", ""), id="no JSON"),
        pytest.param((b"[]", ""), id="no object"),
        pytest.param((binary_reply(1, 4)[0], "9999"), id="a length that is too long"),
    ],
)
def test_other_differences_of_tensors(now):
    assert differences_of_tensors(reply(tensor([1, 4])), now) is None


def test_other_texts():
    """Texts are the same or not."""
    texts = [reply(tensor([text], [1], "BYTES")) for text in ("a", "b")]
    assert differences_of_tensors(*texts) is None
