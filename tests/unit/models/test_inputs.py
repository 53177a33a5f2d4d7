"""inputs: N rows in are N rows out of a Module; arrays go to inputs by name."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from mms_handler import models
from mms_handler.errors import BadInput, UnsupportedShape
from mms_handler.models.inputs import UnboundModule
from mms_handler.models.rows import in_order

B = 4
ROWS = [[0, 0], [1, 0], [0, 1], [2, 3], [5, 5], [-1, 1], [10, 0], [0.5, 0.25], [100, -1]]
SUMS = [[10.0], [11.0], [12.0], [18.0], [25.0], [11.0], [20.0], [11.0], [108.0]]


@pytest.mark.parametrize("kind", [np.array, mx.nd.array], ids=["ndarray", "NDArray"])
@pytest.mark.parametrize("n", range(1, 2 * B + 2))
def test_as_many_rows_out_as_in(sums, n, kind):
    """N rows in, N rows out, each with its own value, for N in 1..2B+1; B is the bound size."""
    module = sums(bound=B)
    data = models.to_data(kind(ROWS[:n], dtype=np.float32), module)
    assert [batch.data[0].shape for batch in data] == [(B, 2)] * (1 + (n - 1) // B)
    data.reset()
    assert models.predict(module, data).asnumpy().tolist() == SUMS[:n]


@pytest.mark.parametrize("n", range(1, 2 * B + 2))
def test_as_many_rows_out_of_several_outputs(sums, n):
    """The same holds for each of several outputs."""
    module = sums(bound=B, outputs=2)
    data = models.to_data(np.array(ROWS[:n], np.float32), module)
    single, double = models.to_plain(models.predict(module, data))
    assert single.tolist() == SUMS[:n]
    assert double.tolist() == [[2 * y] for (y,) in SUMS[:n]]


def bound_to(*shape):
    module = mx.mod.Module(mx.sym.flatten(mx.sym.var("data")), label_names=None)
    module.bind(data_shapes=[("data", shape)], for_training=False)
    module.init_params()
    return module


@pytest.mark.parametrize(
    ("bound", "shape", "rows"),
    [
        pytest.param((2, 3), (5, 3), 5, id="rows"),
        pytest.param((2, 3), (3,), 1, id="one sample alone"),
        pytest.param((1, 1, 2, 2), (3, 4), 3, id="lines of CSV for images"),
        pytest.param((1, 1, 2, 2), (1, 2, 2), 1, id="one image alone"),
        pytest.param((1, 1, 2, 2), (2, 2), 1, id="one image without its channel"),
        pytest.param((1, 1, 2, 2), (3, 2, 2), 3, id="images without their channel"),
        pytest.param((4, 1), (6,), 6, id="a value a row"),
        pytest.param((4,), (6,), 6, id="samples without a dimension"),
    ],
)
def test_shapes_that_are_rows_of_samples(bound, shape, rows):
    """Rows may have another shape, as long as the values of two rows do not mix."""
    data = models.to_data(np.zeros(shape, np.float32), bound_to(*bound))
    assert data.num_data == rows
    assert data.provide_data[0].shape == bound


@pytest.mark.parametrize(
    ("bound", "shape", "message"),
    [
        pytest.param(
            (2, 3), (2, 2), "the model takes (N, 3), the body has (2, 2)", id="short rows"
        ),
        pytest.param(
            (2, 3), (3, 2), "the model takes (N, 3), the body has (3, 2)", id="mixed up rows"
        ),
        pytest.param(
            (2, 3), (6,), "the model takes (N, 3), the body has (6,)", id="rows run together"
        ),
        pytest.param((2, 3), (), "the model takes (N, 3), the body has ()", id="a number"),
        pytest.param((2, 3), (0, 3), "the model takes (N, 3), the body has (0, 3)", id="no rows"),
    ],
)
def test_shapes_that_are_not(bound, shape, message):
    """It is the client's fault; the message has what came and what was expected."""
    with pytest.raises(BadInput) as caught:
        models.to_data(np.zeros(shape, np.float32), bound_to(*bound))
    assert str(caught.value) == message


# --- names --------------------------------------------------------------------------------


def test_several_inputs_by_name():
    """A body may name the inputs in any order; a wrong name is the client's fault."""
    symbol = mx.sym.var("zeta") - mx.sym.var("alpha")
    module = mx.mod.Module(symbol, data_names=["zeta", "alpha"], label_names=None)
    module.bind(data_shapes=[("zeta", (2, 1)), ("alpha", (2, 1))], for_training=False)
    module.init_params()
    body = {"alpha": np.array([[1], [2], [3]]), "zeta": np.array([[10], [20], [30]])}
    data = models.to_data(body, module)
    assert models.predict(module, data).asnumpy().tolist() == [[9.0], [18.0], [27.0]]
    with pytest.raises(BadInput, match="inputs are zeta, alpha, the body's 'alpha', 'beta'"):
        models.to_data({"alpha": body["alpha"], "beta": body["alpha"]}, module)
    with pytest.raises(BadInput, match="different numbers of rows"):
        models.to_data({"alpha": body["alpha"], "zeta": np.array([[1]])}, module)


def test_the_only_input_of_a_module(sums):
    """A body may call it anything, but not have two of it: 1 + 2 * 2 + 10."""
    module, array = sums(), np.array([[1, 2]], np.float32)
    for body in (array, {"data": array}, {"x": array}):
        assert models.predict(module, models.to_data(body, module)).asnumpy().tolist() == [[15]]
    with pytest.raises(BadInput, match="^the model takes one array, the body has 'x', 'y'$"):
        models.to_data({"x": array, "y": array}, module)


def test_a_model_of_two_inputs_needs_a_script():
    """One array is not enough for two inputs; the message names both."""
    module = mx.mod.Module(
        mx.sym.var("left") + mx.sym.var("right"),
        data_names=["left", "right"],
        label_names=None,
    )
    module.bind(data_shapes=[("left", (1, 2)), ("right", (1, 2))], for_training=False)
    with pytest.raises(UnsupportedShape) as caught:
        models.to_data(np.zeros((1, 2), np.float32), module)
    assert str(caught.value) == "the model has 2 inputs (left, right), the body has one"


class Minus(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, left, right):
        return left - right


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_block_of_two_inputs_by_name(hybrid):
    """Arrays go to the parameters of a Block's forward by name."""
    block = Minus()
    if hybrid:
        block.hybridize()
    body = {"right": mx.nd.array([[1]]), "left": mx.nd.array([[5]])}
    assert models.predict(block, body).asnumpy().tolist() == [[4.0]]
    with pytest.raises(UnsupportedShape, match=r"has 2 inputs \(left, right\)"):
        models.predict(block, mx.nd.array([[1]]))


@pytest.mark.parametrize("shape", [(0, 2), ()])
def test_a_body_without_rows(shape):
    """Nothing could be answered, nor a Module bound that was saved without shapes."""
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")
    weights = {"fc_weight": mx.nd.ones((1, 2)), "fc_bias": mx.nd.ones((1,))}
    module = UnboundModule.of(symbol, ["data"], weights, {}, mx.cpu())
    with pytest.raises(BadInput, match="^the body has no rows; the model takes one or more$"):
        models.to_data(np.zeros(shape, np.float32), module)


def test_the_only_array_of_a_body():
    """It goes to a forward of one parameter, whatever either is called."""
    array, other = np.zeros((1, 2)), np.ones((1, 2))
    assert in_order(array, ["x"]) == [array]
    assert in_order({"data": array}, ["x"]) == [array]
    assert in_order({"data": array}, []) == [array]
    assert in_order({"b": array, "a": other}, ["a", "b"]) == [other, array]
    with pytest.raises(BadInput, match="data"):
        in_order({"data": array, "b": other}, ["a", "b"])
