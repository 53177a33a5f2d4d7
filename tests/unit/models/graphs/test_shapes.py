"""shapes: which shapes a graph takes, and one of them if nothing else is known."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from mms_handler.models.graphs import shapes
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.graphs.shapes import ShapeRules

nn, sym = mx.gluon.nn, mx.sym


def net(*layers):
    block = nn.HybridSequential()
    block.add(*layers)
    block.initialize()
    return block


def pictures(kernel, units, channels=3):
    """A convolution, pooling by two, and all of it to one number."""
    return net(
        nn.Conv2D(2, kernel, in_channels=channels), nn.MaxPool2D(), nn.Dense(1, in_units=units)
    )


BLOCKS = {
    "rows": (lambda: net(nn.Dense(3, in_units=7)), (1, 7), (None, 7)),
    "two layers": (
        lambda: net(nn.Dense(9, in_units=7), nn.Dense(3, in_units=9)), (1, 7), (None, 7)
    ),
    "any width": (lambda: net(nn.Activation("relu")), (1, 32), (None, None)),
    "pictures of any size": (
        lambda: net(nn.Conv2D(4, 3, in_channels=3), nn.GlobalAvgPool2D(), nn.Dense(2, in_units=4)),
        (1, 3, 32, 32), (None, 3, None, None),
    ),
    "pictures of a common size": (
        lambda: pictures(3, 2 * 15 * 15), (1, 3, 32, 32), (None, 3, 32, 32)
    ),
    "pictures of one channel": (
        lambda: pictures(5, 2 * 12 * 12, 1), (1, 1, 28, 28), (None, 1, 28, 28)
    ),
    "the roundest of two sizes": (
        lambda: pictures(2, 2 * 7 * 7), (1, 3, 16, 16), (None, 3, 16, 16)
    ),
    "sequences of any length": (
        lambda: net(nn.Conv1D(4, 3, in_channels=5)), (1, 5, 32), (None, 5, None)
    ),
    "sequences of features": (
        lambda: net(nn.Dense(4, in_units=6, flatten=False), nn.Dense(1, in_units=4 * 10)),
        (1, 10, 6), (None, 10, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_a_shape_is_found(name):
    """And which of its sides may be any."""
    build, shape, pattern = BLOCKS[name]
    rules = ShapeRules.of_block(build(), 1)
    assert rules.exact
    assert rules.search() == (shape, pattern)
    assert rules.take(shape)


def test_a_shape_that_is_not_taken_is_named():
    rules = ShapeRules.of_block(net(nn.Dense(3, in_units=7)), 1)
    assert rules.refusal([(5, 7)]) is None
    assert rules.take((5, 7))
    assert not rules.take((5, 8))
    assert "\n" not in rules.refusal([(5, 8)])
    assert "shape" in rules.refusal([(5, 8)]).lower()


def test_several_inputs_have_no_shape():
    class Sum(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x, y):
            return x + y

    rules = ShapeRules.of_block(Sum(), 2)
    assert rules.search() is None
    assert rules.take((2, 3), (2, 3))
    assert not rules.take((2, 3), (2, 4))


def test_a_block_without_a_graph():
    """Python code, or parameters that have no values yet."""

    class Code(mx.gluon.Block):
        def forward(self, x):
            return x if x.asnumpy().any() else -x

    assert ShapeRules.of_block(Code(), 1) is None
    unknown = nn.Dense(3)
    assert ShapeRules.of_block(unknown, 1) is None
    unknown.initialize()
    assert ShapeRules.of_block(unknown, 1) is None


def test_labels_and_first_states_have_values_for_any_number_of_rows():
    data = sym.var("data")
    head = sym.LinearRegressionOutput(
        sym.FullyConnected(data, num_hidden=1, name="fc") + sym.var("l_begin_state_0"),
        sym.var("out_label"),
    )
    arrays = {
        "fc_weight": np.zeros((1, 4)), "fc_bias": np.zeros(1), "out_label": np.zeros((2, 1)),
        "l_begin_state_0": np.zeros((2, 1)),
    }  # fmt: skip
    parameters = {name: mx.nd.array(array) for name, array in arrays.items()}
    rules = ShapeRules.of_graph(Graph.of_symbol(head, ["data"], parameters, mx.cpu()))
    assert set(rules.parameters) == {"fc_weight", "fc_bias"}
    assert rules.take((5, 4))
    assert not rules.take((5, 3))


@pytest.mark.parametrize(("seconds", "tried"), [(-1, 1), (60, None)], ids=["no time", "time"])
def test_looking_for_a_shape_ends(monkeypatch, seconds, tried):
    """After some time, or when all shapes have been tried."""
    monkeypatch.setattr(shapes, "SEARCH_S", seconds)
    monkeypatch.setattr(shapes, "_SIDES", (32, 8))
    data = sym.reshape(sym.var("data"), shape=(3, 5, 7))
    rules = ShapeRules(data, ["data"], {"weight": (4, 9)})
    asked = []
    monkeypatch.setattr(ShapeRules, "take", lambda self, *each: asked.extend(each) or False)
    assert rules.search() is None
    every = [
        *((1, side) for side in (9, 4)), *((1, side) for side in (32, 8)),
        *(
            shape
            for width in (9, 4)
            for side in (32, 8)
            for shape in ((1, width, side), (1, side, width))
        ),
        *(
            shape
            for width in (9, 4)
            for side in (32, 8)
            for shape in ((1, width, side, side), (1, side, side, width))
        ),
    ]  # fmt: skip
    assert asked == every[:tried]
