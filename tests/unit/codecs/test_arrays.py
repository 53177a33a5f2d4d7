"""arrays, csv and recordio: what is wrong is named by its place, and outputs of several kinds."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from mms_handler.codecs import arrays, csv, json, recordio


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([None, "x"], '"x" at [1] is not a number'),
        ([[1.5, None], [None, "x"]], '"x" at [1][1] is not a number'),
        ([[None], [{}]], "{} at [1][0] is not a number"),
        ([None, [1]], "[1] at [1] is not a number"),
        ([[1, 2], [None]], "the list at [1] has 1 item, its siblings have 2"),
        ([[1], None], "null at [1] is not a list, but its siblings are"),
    ],
)
def test_the_place_after_a_null(value, message):
    """A null is a number; what follows it is not, and is named."""
    with pytest.raises(ValueError, match=" at ") as caught:
        arrays.numbers(value)
    assert str(caught.value) == message


def test_a_long_name_is_quoted_in_part():
    """Forty characters of what a client wrote say enough; they are the first ones."""
    body = '{"%s": ["x"]}' % ("k" * 100)
    with pytest.raises(ValueError, match='^"x" at .k{39}.0. is not a number$') as caught:
        json.decode(body)
    assert str(caught.value) == f'"x" at "{"k" * 39}[0] is not a number'


def test_nulls_are_nan():
    """Also alone, and beside booleans."""
    assert np.isnan(arrays.numbers(None))
    assert np.array_equal(
        arrays.numbers([None, True, 2]), np.array([np.nan, 1, 2], "float32"), equal_nan=True
    )


@pytest.mark.parametrize("value", [np.array([1j]), [object()], "1", None])
def test_outputs_that_are_no_numbers(value):
    """Nor are complex ones, which no type can hold."""
    with pytest.raises(ValueError, match="^it is not an array of numbers$"):
        arrays.numeric(value)


def test_an_output_that_is_a_list():
    """Beside an array it is an output: a line of CSV, as the array is."""
    outputs = [np.array([[1, 2], [3, 4]], "float32"), [5, 6.5]]
    assert csv.encode(outputs) == b"1.0,2.0,3.0,4.0\r\n5,6.5\r\n"


def test_a_record_has_a_limit(monkeypatch):
    """Its length has 29 bits.  Here the limit is the length of a row, and then one more."""
    row = np.zeros((1, 4), "float32")
    whole = recordio.encode(row)
    _, length = struct.unpack_from("<II", whole)
    monkeypatch.setattr(recordio, "_MAX_LENGTH", length)
    message = f"^a row takes {length} bytes; the limit of a record is {length - 1}$"
    with pytest.raises(ValueError, match=message):
        recordio.encode(row)
    monkeypatch.setattr(recordio, "_MAX_LENGTH", length + 1)
    assert recordio.encode(row) == whole


def test_a_frame_longer_than_the_body():
    """The message says how many bytes are missing; a body cut at a frame's end is whole."""
    body = recordio.encode(np.array([[1.5], [2.5]], "float32"))
    half = len(body) // 2
    assert recordio.decode(body[:half], 2**20).tolist() == [[1.5]]
    with pytest.raises(
        ValueError, match=rf"^frame 2 takes {half - 8} bytes, but {half - 9} are left$"
    ):
        recordio.decode(body[:-1], 2**20)
