"""arrays: between NumPy and MXNet, stacked and split again."""

from __future__ import annotations

import gc

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_handler import models
from mms_handler.models import arrays


def test_to_plain_reaches_every_ndarray():
    """NDArrays in lists of lists, tuples and dicts become ndarrays; other values stay."""
    array = mx.nd.array([1])
    plain = models.to_plain({"a": [[array], (array, "x")], "b": 3})
    assert type(plain["a"][0][0]) is type(plain["a"][1][0]) is np.ndarray
    assert plain == {"a": [[np.array([1])], [np.array([1]), "x"]], "b": 3}


def test_a_block_without_parameters_computes_on_the_device():
    """Without parameters there is no other device than the worker's."""
    array = models.to_ndarray(np.zeros((1, 3), np.float32), mx.gluon.nn.Flatten(), mx.cpu(0))
    assert array.context == mx.cpu(0)


def test_a_body_of_several_arrays_becomes_ndarrays():
    """By their names, on the device of the model's parameters."""
    net = mx.gluon.nn.Dense(1, in_units=3)
    net.initialize(ctx=mx.cpu(1))
    arrays_ = models.to_ndarray({"a": np.ones((1, 3)), "b": [[2]]}, net, mx.cpu(0))
    assert {name: array.asnumpy().tolist() for name, array in arrays_.items()} == {
        "a": [[1, 1, 1]],
        "b": [[2]],
    }
    assert {array.context for array in arrays_.values()} == {mx.cpu(1)}


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: (mx.nd.ones(1), x)])
def test_an_error_comes_before_the_reply(wrap):
    """MXNet raises what fails in a computation only when its result is needed."""
    outcome = wrap(mx.nd.ones(1))
    assert arrays.computed(outcome) is outcome
    assert arrays.computed("no array") == "no array"
    with pytest.raises(mx.base.MXNetError):
        arrays.computed(wrap(mx.nd.linalg.potrf(mx.nd.array([[-1.0]]))))


def test_what_arrays_take():
    """As float32, at any depth; other values take nothing."""
    double = np.zeros((2, 3), np.float64)
    sparse = mx.nd.zeros((2, 3)).tostype("csr")
    assert arrays.size_bytes(double) == 24
    assert arrays.size_bytes(mx.nd.zeros((2, 2, 5))) == 80
    assert arrays.size_bytes({"a": double, "b": [double, (double, "text")]}) == 72
    assert arrays.size_bytes([sparse, None, 3]) == 0


@pytest.mark.parametrize(
    ("value", "is_array", "is_cpu_ndarray"),
    [
        (mx.nd.ones((2,)), True, True),
        (mx.nd.ones((2, 2)).tostype("csr"), True, False),
        (np.ones(2), True, False),
        ({"a": np.ones(2), "b": mx.nd.ones(2)}, True, False),
        ({"a": np.ones(2), "b": 3}, False, False),
        ({}, False, False),
        ([np.ones(2)], False, False),
        ("text", False, False),
    ],
)
def test_what_is_an_array(value, is_array, is_cpu_ndarray):
    assert arrays.is_array(value) is is_array
    assert arrays.is_cpu_ndarray(value) is is_cpu_ndarray


def test_a_copy_of_a_scripts_array():
    """Float32 in row-major order, in memory of its own; what is no ndarray stays."""
    array = np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3))
    copy = arrays.copied(array)
    assert (copy.dtype, copy.flags.c_contiguous, copy.tolist()) == (
        np.float32,
        True,
        [[0, 1, 2], [3, 4, 5]],
    )
    assert not np.shares_memory(copy, array)
    assert arrays.copied(np.ones(1)).dtype == np.float32
    assert arrays.copied("text") == "text"


def test_ndarrays_for_a_script():
    """In lists, each of its own type; other values stay."""
    first, (second, text) = arrays.to_ndarrays([np.ones(2, np.int32), [np.ones(1), "text"]])
    assert (type(first), first.dtype, first.asnumpy().tolist()) == (mx.nd.NDArray, np.int32, [1, 1])
    assert (second.dtype, text) == (np.float64, "text")


# --- shared memory ------------------------------------------------------------------------


def test_a_shared_body_lives_as_long_as_mxnet_has_it():
    """Its buffer cannot be freed or resized while an NDArray shares it, and can be afterwards."""
    body = bytearray(np.arange(2**15, dtype=np.float32).tobytes())
    array = arrays.as_ndarray(np.frombuffer(body, np.float32).reshape(2, 2**14), mx.cpu())
    gc.collect()
    with pytest.raises(BufferError, match="cannot be re-sized"):
        body.clear()
    assert array.asnumpy()[:, -1].tolist() == [2**14 - 1, 2**15 - 1]
    del array
    gc.collect()
    mx.nd.waitall()
    body.clear()


def test_a_small_body_is_copied():
    """Copying takes less time, and the buffer is free at once."""
    body = bytearray(np.arange(6, dtype=np.float32).tobytes())
    array = arrays.as_ndarray(np.frombuffer(body, np.float32).reshape(3, 2), mx.cpu())
    gc.collect()
    body.clear()
    assert array.asnumpy().tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_freed_body_is_not_overwritten_under_a_forward():
    """A body that only MXNet holds is intact until the result is computed."""
    expected = np.arange(2**16, dtype=np.float32)
    for _ in range(10):
        array = arrays.as_ndarray(np.frombuffer(expected.tobytes(), np.float32), mx.cpu())
        result = mx.nd.broadcast_add(array, mx.nd.ones((1,)))
        del array
        gc.collect()
        junk = [np.full(2**16, -1, np.float32) for _ in range(4)]
        assert (result.asnumpy() == expected + 1).all()
        del junk


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.arange(4.0).reshape(2, 2), id="doubles"),
        pytest.param(np.arange(4, dtype=np.float32).reshape(2, 2).T.copy().T, id="by columns"),
        pytest.param(np.arange(4, dtype=">f4").reshape(2, 2), id="of another byte order"),
        pytest.param(np.arange(4, dtype=np.int8).reshape(2, 2), id="bytes"),
    ],
)
def test_an_array_that_cannot_be_shared_is_copied(value):
    """Any values become float32 in row-major order."""
    array = arrays.as_ndarray(value, mx.cpu())
    assert (array.dtype, array.asnumpy().tolist()) == (np.float32, [[0, 1], [2, 3]])


# --- structures ---------------------------------------------------------------------------


def two(*values):
    """Rows of two values, float32."""
    return np.array(values, np.float32).reshape(-1, 2)


@pytest.mark.parametrize(
    ("datum", "other"),
    [
        pytest.param(two(1, 2), two(1, 2, 3, 4), id="rows"),
        pytest.param([two(1, 2), two(3, 4)], [two(1, 2), two(3, 4)], id="lists"),
        pytest.param({"a": two(1, 2)}, {"a": two(3, 4)}, id="dicts"),
        pytest.param(mx.nd.ones((1, 2)), mx.nd.ones((5, 2)), id="NDArrays"),
    ],
)
def test_data_of_one_kind(datum, other):
    """Data that differ only in values and numbers of rows may be stacked."""
    assert arrays.kind(datum) == arrays.kind(other) is not None


@pytest.mark.parametrize(
    ("datum", "other"),
    [
        pytest.param(two(1, 2), np.ones((1, 3), np.float32), id="another width"),
        pytest.param(two(1, 2), two(1, 2).astype(np.int32), id="another type"),
        pytest.param(two(1, 2), np.ones((1, 1, 2), np.float32), id="another dimension"),
        pytest.param(two(1, 2), mx.nd.ones((1, 2)), id="an NDArray"),
        pytest.param({"a": two(1, 2)}, {"b": two(1, 2)}, id="another name"),
        pytest.param([two(1, 2)], [two(1, 2)] * 2, id="more inputs"),
    ],
)
def test_data_of_two_kinds(datum, other):
    """Data of another shape, type, structure or name are of another kind."""
    assert arrays.kind(datum) != arrays.kind(other)


@pytest.mark.parametrize(
    "datum",
    [
        pytest.param(np.float32(3), id="a number"),
        pytest.param(np.zeros((0, 2)), id="no rows"),
        pytest.param([], id="no arrays"),
        pytest.param("text", id="text"),
        pytest.param({"a": two(1, 2), "b": 3}, id="something beside an array"),
        pytest.param(mx.nd.ones((1, 2)).tostype("csr"), id="a sparse array"),
    ],
)
def test_data_without_a_kind(datum):
    """Values without rows are never stacked."""
    assert arrays.kind(datum) is None


@settings(max_examples=50)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=6), nd=st.booleans())
def test_split_rows_undoes_stack(counts, nd):
    """Each datum comes back with its rows, in order, in its structure."""
    ends = np.cumsum(counts)
    array = mx.nd.array if nd else np.array
    data = [
        {"x": [array(np.arange(end - count, end, dtype=np.float32).reshape(-1, 1))]}
        for end, count in zip(ends, counts)
    ]
    back = arrays.split_rows(arrays.stack(data), counts)
    assert [list(datum) for datum in back] == [["x"]] * len(counts)
    rows = [arrays.plain_leaves(datum)[0].ravel().tolist() for datum in back]
    assert rows == [arrays.plain_leaves(datum)[0].ravel().tolist() for datum in data]
    assert [type(datum["x"][0]) for datum in back] == [type(datum["x"][0]) for datum in data]


def test_a_prediction_of_other_rows_is_not_split():
    """A prediction with another number of rows, or with something other than rows."""
    with pytest.raises(ValueError, match="3 rows in, 1 rows out"):
        arrays.split_rows(two(1, 2), [1, 2])
    with pytest.raises(ValueError, match="not all values are arrays with rows"):
        arrays.split_rows([two(1, 2), "label"], [1])
    with pytest.raises(ValueError, match="^the arrays have different numbers of rows$"):
        arrays.split_rows([two(1, 2), two(1, 2, 3, 4)], [1])
    for nothing in ([], np.float32(1), two(1, 2).sum()):
        with pytest.raises(ValueError, match="^not all values are arrays with rows$"):
            arrays.row_count(nothing)


def test_split_ndarrays_are_copies():
    """One request's output_fn may write to its rows without changing another's."""
    whole = mx.nd.array([[1], [2]])
    first, other = arrays.split_rows(whole, [1, 1])
    first[:] = 9
    assert (whole.asnumpy().tolist(), other.asnumpy().tolist()) == ([[1], [2]], [[2]])
