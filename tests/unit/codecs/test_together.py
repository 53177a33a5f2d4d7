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
from mms_handler.codecs import compiled, content_types, npy, parsers, together
from mms_handler.codecs import json as json_codec
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


@settings(max_examples=300)
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


def test_two_are_written_together(monkeypatch):
    monkeypatch.setattr(content_types, "encode", None)  # which writes one
    written = codecs.encode_each([ROW, ROW], JSON, JSON)
    assert written == [(b"[[1.0, 1.0]]", JSON)] * 2


@pytest.mark.parametrize(
    ("others", "are_alike"),
    [
        pytest.param([ROW * 2, np.ones((3, 2), np.float32)], True, id="other rows"),
        pytest.param([ROW.astype(np.float64)], False, id="another type"),
        pytest.param([np.ones((1, 3), np.float32)], False, id="wider rows"),
        pytest.param([ROW[0]], False, id="no second dimension"),
        pytest.param([[ROW]], False, id="several outputs"),
    ],
)
def test_what_is_alike(others, are_alike):
    values = [ROW, *others]
    assert together.alike(values) is are_alike
    assert codecs.encode_each(values, JSON, JSON) == encoded(values, JSON)


@pytest.mark.parametrize(("rows", "are_alike"), [(2**15, True), (2**15 + 1, False)])
def test_large_arrays_are_not_alike(rows, are_alike):
    """They would be copied, only to be written one by one after all."""
    assert together.alike([np.ones((2**15, 1)), np.ones((rows, 1))]) is are_alike


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.float32(1), id="no rows"),
        pytest.param(np.zeros((0, 2)), id="0 rows"),
        pytest.param(np.zeros((1, 0)), id="empty rows"),
        pytest.param(np.array([["], ["]]), id="text could hold what is between rows"),
        pytest.param(np.zeros((2, 2**15)), id="large"),
        pytest.param([[1.5]], id="lists"),
        pytest.param({"a": ROW}, id="named"),
        pytest.param("text", id="text"),
    ],
)
def test_other_values_are_written_one_by_one(value):
    assert codecs.encode_each([value, value], JSON, JSON) == encoded([value, value], JSON)
    if isinstance(value, np.ndarray):
        rows = np.concatenate([np.atleast_2d(value)] * 2)
        counts = [len(np.atleast_2d(value))] * 2
        if value.ndim:
            assert codecs.encode_rows(rows, counts, JSON, JSON) is None


def test_rows_in_another_order_are_written_one_by_one():
    """NPY would tell."""
    assert together.encode(np.asfortranarray(np.ones((2, 2))), [1, 1], NPY) is None


def test_what_cannot_be_written():
    """The error is the one of a value alone."""
    with pytest.raises(NotAcceptable, match="^cannot write 'image/png'"):
        codecs.encode_each([ROW, ROW], "image/png", JSON)
    with pytest.raises(ScriptError, match="the type object"):
        codecs.encode_each([ROW, object()], JSON, JSON)


# --- reading ---------------------------------------------------------------------------------


def texts_of(numbers):
    """How clients spell numbers, and some things that are none."""
    return st.one_of(
        numbers.map(repr),
        st.integers(-(2**60), 2**60).map(str),
        st.sampled_from(
            ["-0", "-0.0", "0", "1e3", "1E-8", "1e400", "null", "NaN", "true", '"1"', ""]
        ),
    )


SPELLED = texts_of(st.floats(allow_nan=False, allow_infinity=False))
PLAIN = st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr)


@st.composite
def tables(draw):
    """Rows of texts: mostly of one length, and mostly of numbers."""
    columns = draw(st.integers(1, 3))
    cells = draw(st.sampled_from([PLAIN, PLAIN, SPELLED]))
    length = draw(st.sampled_from([st.just(columns)] * 4 + [st.integers(0, 4)]))
    row = length.flatmap(lambda size: st.lists(cells, min_size=size, max_size=size))
    return draw(st.lists(row, min_size=draw(st.integers(0, 1)), max_size=3))


def as_json_text(rows):
    return ("[" + ", ".join("[" + ", ".join(row) + "]" for row in rows) + "]").encode()


def as_csv_text(rows):
    return "".join(",".join(row) + "\n" for row in rows).encode()


JSON_BODIES = st.one_of(
    *[tables().map(as_json_text)] * 4,
    st.sampled_from(
        [
            *(b"", b"[", b"]", b"[]", b"[[]]", b"[1]", b"1", b"[[[1]]]", b"[[1]],[[2]]", b"[[1]"),
            *(b"[1],[2]]", b"[[1, 2], 3]", b"[1, [2]]", b'{"a": [[1]]}', b'[{"a": [1]}]'),
            *(b'[["["]]', b"[[1]] x", b"\xef\xbb\xbf[[1]]", b" [\n[1]\t] ", b"[[1],[[2]]]"),
            *(b"[[1, 2], [3], [4, 5, 6]]", b"[[9007199254740993]]", b"[[1,]]", b"[[\xff]]"),
        ]
    ),
)
CSV_BODIES = st.one_of(
    *[tables().map(as_csv_text)] * 4,
    st.sampled_from(
        [
            *(b"", b"\n", b"1,2", b"1,2\r\n", b"\n1\n\n2\n", b"1\r2", b'"1",2', b"1],[2", b"-0"),
            *(b"1,-0\n", b"1e5,-0.0", b" 1, 2 ", b"inf", b"nan", b"\xef\xbb\xbf1", b"1;2", b"1,"),
        ]
    ),
)


def npy_of(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@st.composite
def npy_bodies(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64, np.int16, np.bool_, ">f4", np.float16]))
    shape = draw(st.sampled_from([(1, 3), (2, 3), (1, 2, 2), (3,), (), (0, 3), (2, 0)]))
    body = npy_of(draw(arrays.arrays(dtype, shape)))
    order = draw(st.sampled_from([np.ascontiguousarray] * 3 + [np.asfortranarray]))
    return draw(
        st.sampled_from([body] * 5 + [npy_of(order(np.ones((2, 3)))), body[:-1], body + b"x", b""])
    )


def alike_or_not(bodies):
    """Some bodies; often all have the same source."""
    return st.one_of(
        st.lists(bodies, min_size=1, max_size=5),
        bodies.flatmap(lambda body: st.lists(st.just(body), min_size=1, max_size=4)),
    )


def bits(array):
    return array.dtype, array.shape, array.tobytes()


@settings(max_examples=1500)
@given(
    st.one_of(
        st.tuples(
            alike_or_not(JSON_BODIES), st.sampled_from([JSON, "application/JSON; charset=utf-8"])
        ),
        st.tuples(alike_or_not(CSV_BODIES), st.just(CSV)),
        st.tuples(alike_or_not(npy_bodies()), st.just(NPY)),
    )
)
def test_rows_are_what_each_body_holds(case):
    """To the last bit; and nothing is read together if one of them cannot be read."""
    bodies, content_type = case
    rows = together.decode(bodies, content_type, 2**20)
    if rows is None:
        return
    alone = [codecs.decode(body, content_type) for body in bodies]
    assert [len(array) for array in alone] == rows.counts
    assert bits(np.concatenate(alone)) == bits(rows.array)


@pytest.mark.parametrize(
    ("bodies", "content_type"),
    [
        ([b"[[1, 2.5]]", b"[[3, -4], [5, 1e-8]]"], JSON),
        ([b"1,2.5\n", b"3,-4\r\n5,1e-8"], CSV),
        ([npy_of(np.float64([[1, 2.5]])), npy_of(np.float64([[3, -4]]))], NPY),
    ],
)
def test_plain_bodies_are_read_together(bodies, content_type):
    if compiled.core is None and parsers.simdjson is None and content_type != NPY:
        pytest.skip("without both, as on Python 3.8, they are read one by one")
    rows = together.decode(bodies, content_type, 2**20)
    expected = np.float32([[1, 2.5], [3, -4], [5, 1e-8]])
    assert bits(rows.array) == bits(expected[: sum(rows.counts)])
    assert rows.counts in ([1, 2], [1, 1])
    assert together.decode(bodies, content_type, 15) is None, "more than the limit"
    assert together.decode(bodies, f"{content_type}; charset=utf-16", 2**20) is None or (
        content_type == NPY
    )
    assert together.decode(bodies, "application/jsonlines", 2**20) is None


def test_large_texts_are_read_one_by_one(monkeypatch):
    """By Python; the core reads them together as well."""
    monkeypatch.setattr(compiled, "core", None)
    body = b"[[" + b",".join([b"1.25"] * 20_000) + b"]]"
    assert together.decode([body], JSON, 2**30) is None
    assert together.decode([b"[[1.25]]", body], JSON, 2**30) is None


# --- few values ------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_few_floats_are_spelled_as_json_spells_them(values):
    """null stands for what is not finite."""
    doubles = [value if np.isfinite(value) else None for value in values]
    assert json_codec.encode(np.float32(values)) == json.dumps(doubles).encode()


@settings(max_examples=200)
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
