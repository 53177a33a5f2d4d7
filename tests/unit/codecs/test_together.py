"""codecs: several predictions written together are the bytes that each gets alone."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mms_handler import codecs
from mms_handler.codecs import json as json_codec
from mms_handler.codecs import npy, together
from mms_handler.errors import NotAcceptable, ScriptError

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
DTYPES = [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_]


def encoded(values, accept):
    """What each of ``values`` gets alone."""
    return [codecs.encode(value, accept, JSON) for value in values]


@st.composite
def predictions(draw):
    """Arrays of one type, with rows of one shape, and any values of that type."""
    dtype = draw(st.sampled_from(DTYPES))
    row = draw(st.sampled_from([(), (1,), (3,), (40,), (2, 2), (1, 1, 1), (2, 1, 3)]))
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    return [draw(arrays.arrays(dtype, (count, *row))) for count in counts]


@settings(max_examples=300, deadline=None)
@given(values=predictions(), accept=st.sampled_from([JSON, CSV, NPY]))
def test_each_gets_the_bytes_that_it_gets_alone(values, accept):
    """Also NaN, infinities, exponents, and numbers that Python and orjson spell differently."""
    assert codecs.encode_each(values, accept, JSON) == encoded(values, accept)


def test_the_bytes():
    """Requests may have different numbers of rows."""
    values = [np.float32([[1, 2]]), np.float32([[0.1, np.nan], [1e-8, 3]])]
    first, second = codecs.encode_each(values, "*/*", JSON)
    assert first == (b"[[1.0, 2.0]]", JSON)
    assert second == (b"[[0.10000000149011612, null], [9.99999993922529e-09, 3.0]]", JSON)
    first, second = codecs.encode_each(values, "text/*", JSON)
    assert first == (b"1.0,2.0\r\n", CSV)
    assert second == (b"0.1,nan\r\n1e-08,3.0\r\n", CSV)


ROW = np.ones((1, 2), np.float32)


@pytest.mark.parametrize(
    ("others", "are_alike"),
    [
        pytest.param([ROW * 2, np.ones((3, 2), np.float32)], True, id="other rows"),
        pytest.param([], False, id="one alone"),
        pytest.param([ROW.astype(np.float64)], False, id="another type"),
        pytest.param([np.ones((1, 3), np.float32)], False, id="wider rows"),
        pytest.param([ROW[0]], False, id="no second dimension"),
        pytest.param([np.ones((0, 2), np.float32)], False, id="no rows"),
        pytest.param([[ROW]], False, id="several outputs"),
        pytest.param([np.ones((2**15, 2), np.float32)], False, id="too many values"),
    ],
)
def test_what_is_written_together(others, are_alike):
    """Arrays of numbers whose rows have one shape and type; what is large gains nothing."""
    values = [ROW, *others]
    assert together.alike(values) is are_alike
    assert codecs.encode_each(values, JSON, JSON) == encoded(values, JSON)


@pytest.mark.parametrize(
    "value", [np.float32(1), np.array(["], ["]), np.zeros((1, 0)), [[1.5]], {"a": ROW}, "text"]
)
def test_other_values_are_written_one_by_one(value):
    """Texts could hold what is between rows."""
    assert not together.alike([value, value])
    assert codecs.encode_each([value, value], JSON, JSON) == encoded([value, value], JSON)


def test_what_cannot_be_written():
    """The error is the one of a value alone."""
    with pytest.raises(NotAcceptable, match="^cannot write 'image/png'"):
        codecs.encode_each([ROW, ROW], "image/png", JSON)
    with pytest.raises(ScriptError, match="the type object"):
        codecs.encode_each([ROW, object()], JSON, JSON)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_few_floats_are_spelled_as_json_spells_them(values):
    """null stands for what is not finite."""
    doubles = [value if np.isfinite(value) else None for value in values]
    assert json_codec.encode(np.float32(values)) == json.dumps(doubles).encode()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*DTYPES, ">f4", ">i2"]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))
    ),
    st.sampled_from(
        [np.ascontiguousarray, np.asfortranarray, np.transpose, lambda array: array[..., ::-1]]
    ),
)
def test_npy_is_what_numpy_saves(array, change):
    """In C's order or Fortran's, and a view of another array."""
    array = change(array) if array.ndim else array
    out = io.BytesIO()
    np.save(out, array)
    assert npy.encode(array) == out.getvalue()
