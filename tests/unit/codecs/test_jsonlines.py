"""codecs, JSON Lines: a record per line in, a row per line out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mms_handler import codecs, media
from mms_handler.errors import BadInput, NotAcceptable, ScriptError

LINES = "application/jsonlines"
F = np.float32


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[1, 2]\n[3, 4]\n", [[1, 2], [3, 4]]),
        (b"[1, 2]\n[3, 4]", [[1, 2], [3, 4]]),
        (b"[1, 2]\r\n[3, 4]\r\n\r\n", [[1, 2], [3, 4]]),
        (b"\xef\xbb\xbf5\n6\n", [5, 6]),
        (b"5", [5]),
        (b"[[1, 2], [3, 4]]\n", [[[1, 2], [3, 4]]]),
        (b"null\nNaN\n-Infinity\n", [np.nan, np.nan, -np.inf]),
        (" [1]\n\n \n", [[1]]),
    ],
)
def test_lines_are_stacked(body, expected):
    """N lines are (N, ...) in float32; blank lines at the end do not count."""
    array = codecs.decode(body, LINES)
    assert array.dtype == F
    np.testing.assert_array_equal(array, np.array(expected, F))


@pytest.mark.parametrize(
    "name", ["application/x-jsonlines", "application/jsonl; charset=utf-8", "application/x-ndjson"]
)
def test_its_other_names(name):
    assert codecs.decode(b"[1]\n[2]\n", name).tolist() == [[1], [2]]


def test_objects_are_stacked_by_key():
    """Each key has the values of all lines; the order of keys may differ."""
    arrays = codecs.decode(b'{"a": [1, 2], "b": 3}\n{"b": 4, "a": [5, 6]}\n', LINES)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [[1, 2], [5, 6]],
        "b": [3, 4],
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty; expected application/jsonlines"),
        (b" \n\n", "no values in the application/jsonlines body (shape (0,))"),
        (b"[9" + b"0" * 400 + b"]\n[2]\n", "line 1: an integer is too large"),
        (b"[]\n[]\n", "no values in the application/jsonlines body (shape (2, 0))"),
        (b"{}\n", "no values in the application/jsonlines body"),
        (b"[1]\n[2\n", "line 2, column 3: Expecting ',' delimiter"),
        (b"[1,\n2]\n", "line 1, column 4: Expecting value"),
        (b"1\n2, 3\n", "line 2, column 2: Extra data"),
        (b"1\n\n2\n", "line 2 is blank, but more lines follow"),
        (b"[1, 2]\n[3]\n", "line 2 has shape (1,), but in line 1 it is (2,)"),
        (b"[1, 2]\n3\n", "line 2 has shape (), but in line 1 it is (2,)"),
        (b"[1, 2]\n[3]\n[4, 5, 6]\n", "line 2 has shape (1,), but in line 1 it is (2,)"),
        (b'[1, 2]\n[3, "x"]\n', 'line 2: "x" at [1] is not a number'),
        (b"[1]\n[[1, 2], [3]]\n", "line 2: the list at [1] has 1 item, its siblings have 2"),
        (b'1\n"2"\n', 'line 2: "2" at the top level is not a number'),
        (b'1\n{"a": 1}\n', "line 1 is not an object, but other lines are"),
        (b'{"a": 1}\n{"a": 2}\n3\n', "line 3 is not an object, but other lines are"),
        (b'{}\n{"a": 1}\n', "line 2 differs from line 1 in the keys a"),
        (b'{"a": 1}\n{"b": 1}\n', "line 2 differs from line 1 in the keys a, b"),
        (
            b'{"%s": 1}\n{"b": 1}\n' % (b"a" * 100),
            f"line 2 differs from line 1 in the keys {'a' * 80}",
        ),
        (b'{"a": 1}\n{"a": [1]}\n', '"a" in line 2 has shape (1,), but in line 1 it is ()'),
        (
            b'{"%s": 1}\n{"%s": [1]}\n' % ((b"a" * 100,) * 2),
            f'"{"a" * 39} in line 2 has shape (1,), but in line 1 it is ()',
        ),
        (b'{"a": [1]}\n{"a": ["x"]}\n', 'line 2: "x" at "a"[0] is not a number'),
        (b"1\n" + b"[" * 100_000, "line 2 is nested too deeply"),
        (b"1\n" + b"9" * 1_001, "line 2: an integer is too large"),
        (b"[" * 32 + b"1" + b"]" * 32, "line 1: lists are nested more than 31 deep"),
        (b"[0]\n[1e5]\n[9" + b"0" * 400 + b"]\n[2]", "line 3: an integer is too large"),
    ],
)
def test_the_message_names_the_line(body, message):
    """Lines count from 1."""
    with pytest.raises(BadInput) as caught:
        codecs.decode(body, LINES)
    assert str(caught.value).replace("not valid application/jsonlines: ", "") == message


@pytest.mark.parametrize(
    ("value", "body"),
    [
        pytest.param(np.array([[0.1, 2], [3, 4]], F), b"[0.10000000149011612, 2.0]\n[3.0, 4.0]\n"),
        pytest.param(np.array([1, 2], F), b"1.0\n2.0\n"),
        pytest.param(np.array(5, F), b"5.0\n"),
        pytest.param(np.array([[np.nan, 1], [2, np.inf]], F), b"[null, 1.0]\n[2.0, null]\n"),
        pytest.param(
            [np.array([[1], [2]], F), np.array([3, 4], F)], b"[[1.0], 3.0]\n[[2.0], 4.0]\n"
        ),
        pytest.param(
            {"a": np.array([[1], [2]], F), "b": np.array([3, 4])},
            b'{"a": [1.0], "b": 3}\n{"a": [2.0], "b": 4}\n',
        ),
        pytest.param([[1, 2], [3]], b"[1, 2]\n[3]\n"),
        pytest.param([{"label": "a\nb"}, {"label": "c"}], b'{"label": "a\\nb"}\n{"label": "c"}\n'),
        pytest.param({"label": "a"}, b'{"label": "a"}\n'),
        pytest.param("a", b'"a"\n'),
    ],
)
def test_a_line_for_each_row(value, body):
    """These are the exact bytes; several outputs are side by side in their row's line."""
    assert codecs.encode(value, LINES, media.JSON) == (body, LINES)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([np.zeros(2), np.zeros(3)], "its outputs have different numbers of rows"),
        ([np.zeros(2), np.array(1.0)], "its outputs have different numbers of rows"),
        ([np.zeros(2), 1.0], "its outputs have different numbers of rows"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "its outputs have different numbers of rows"),
    ],
)
def test_outputs_without_common_rows(value, reason):
    """They have no lines, but another type may hold them."""
    with pytest.raises(NotAcceptable, match=f"as application/jsonlines: {reason}; try Accept: "):
        codecs.encode(value, LINES, media.JSON)


def test_a_value_that_no_type_can_hold():
    """The script is at fault, not the client's Accept."""
    with pytest.raises(ScriptError, match="cannot be sent: JSON has no form for the type set$"):
        codecs.encode({"a": {1, 2}}, LINES, media.JSON)


def test_as_many_lines_out_as_in():
    """Batch transform joins inputs and replies by their line number."""
    body = b"".join(b"[%d, 0.5]\n" % i for i in range(1_000))
    out, _ = codecs.encode(codecs.decode(body, LINES), LINES, media.JSON)
    assert [json.loads(line) for line in out.splitlines()] == [[i, 0.5] for i in range(1_000)]
