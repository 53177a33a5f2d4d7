"""bound: an executor gives what MXNet's own methods give, and raises what they raise."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from mms_handler.models.graphs.bound import Bound

X, Y = mx.sym.var("x"), mx.sym.var("y")


def bind(symbol, **shapes):
    """An executor of zeros; float32 unless a shape comes with a type."""
    arrays = {
        name: mx.nd.zeros(*(shape if isinstance(shape[0], tuple) else (shape,)))
        for name, shape in shapes.items()
    }
    return symbol.bind(mx.cpu(), args=arrays, grad_req="null")


def by_mxnet(executor, **arrays):
    """The outputs by the methods of MXNet's Python."""
    for name, array in arrays.items():
        executor.arg_dict[name][:] = array
    return [output.asnumpy() for output in executor.forward()]


def test_inputs_and_outputs_keep_their_order():
    bound = Bound(bind(mx.sym.Group([X - Y, X * 2]), x=(1, 2), y=(1, 2)), ["y", "x"])
    difference, double = bound([np.float32([[1, 2]]), np.float32([[10, 30]])])
    assert difference.tolist() == [[9, 28]]
    assert double.tolist() == [[20, 60]]


def test_the_outputs_are_the_caller_s():
    """Another call does not change them."""
    bound = Bound(bind(X + 1, x=(1, 1)), ["x"])
    (first,) = bound([np.float32([[1]])])
    (second,) = bound([np.float32([[5]])])
    assert (first.tolist(), second.tolist()) == ([[2]], [[6]])
    first[:] = 7
    assert second.tolist() == [[6]]


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.frombuffer(np.float32([[1, 2], [3, 4]]), np.float32), id="read-only"),
        pytest.param(np.float64([[1, 2], [3, 4]]), id="doubles"),
        pytest.param(np.int8([[1, 2], [3, 4]]), id="integers"),
        pytest.param(np.float32([[1, 3], [2, 4]]).T, id="column by column"),
        pytest.param(np.float32([[1, 0, 2], [3, 0, 4]])[:, ::2], id="strides"),
    ],
)
def test_any_array_is_read(array):
    bound = Bound(bind(X * 10, x=(2, 2)), ["x"])
    assert bound([array.reshape(2, 2)])[0].tolist() == [[10, 20], [30, 40]]


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8", "int8", "int64"])
def test_types_are_those_of_the_arrays(dtype):
    (output,) = Bound(bind(X + X, x=((3,), mx.cpu(), dtype)), ["x"])([np.array([1, 2, 3])])
    assert output.dtype == dtype
    assert output.tolist() == [2, 4, 6]


def test_convolutions_are_those_of_mxnet():
    """Their outputs may be in a layout of oneDNN's."""
    y = mx.sym.Convolution(X, kernel=(3, 3), num_filter=8, name="conv")
    shapes, outputs, _ = y.infer_shape(x=(2, 3, 9, 9))
    random = np.random.RandomState(0)
    args = {
        name: mx.nd.array(random.randn(*shape)) for name, shape in zip(y.list_arguments(), shapes)
    }
    executor = y.bind(mx.cpu(), args=args, grad_req="null")
    bound = Bound(executor, ["x"])
    for _ in range(3):
        x = random.randn(2, 3, 9, 9).astype(np.float32)
        (output,) = bound([x])
        assert output.shape == outputs[0]
        assert output.tolist() == by_mxnet(executor, x=x)[0].tolist()


@pytest.mark.parametrize("chosen", [[1, 0, 1], [0, 1, 0]])
def test_a_shape_that_depends_on_values(chosen):
    """The output's shape is only known afterwards.  MXNet keeps it from then on."""
    symbol = mx.sym.contrib.boolean_mask(X, Y)
    bound = Bound(bind(symbol, x=(3, 1), y=(3,)), ["x", "y"])
    rows, mask = np.float32([[1], [2], [3]]), np.float32(chosen)
    assert bound([rows, mask])[0].tolist() == rows[mask > 0].tolist()


def test_a_failing_operator_is_an_mxnet_error():
    """With the text of the operator; the next call is answered."""
    bound = Bound(bind(mx.sym.take(X, Y, mode="raise"), x=(2, 1), y=(1,)), ["x", "y"])
    rows = np.float32([[5], [6]])
    assert bound([rows, np.float32([1])])[0].tolist() == [[6]]
    with pytest.raises(mx.base.MXNetError, match="out of bound"):
        bound([rows, np.float32([7])])
    assert bound([rows, np.float32([0])])[0].tolist() == [[5]]


def test_an_array_of_another_size_is_an_mxnet_error():
    """Nothing is read beyond it."""
    bound = Bound(bind(X + 1, x=(2, 2)), ["x"])
    bound([np.ones((2, 2), np.float32)])
    with pytest.raises(mx.base.MXNetError):
        bound([np.ones((1, 2), np.float32)])
