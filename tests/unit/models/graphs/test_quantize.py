"""quantize: a model's graph in int8, and how it is judged."""

from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest

from mms_handler.errors import ModelError
from mms_handler.models.graphs import quantize as quantizing
from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.graphs.quantize import judge, quantize

nn = mx.gluon.nn


def build(*layers):
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(*layers)
    net.initialize(mx.init.Xavier())
    return net


def data(*shape, count=6):
    noise = np.random.RandomState(0)
    return [[noise.uniform(-1, 1, shape).astype(np.float32)] for _ in range(count)]


def quantized(net, inputs):
    arrays = [mx.nd.array(array) for array in inputs[0]]
    net(*arrays)  # gives its parameters their shapes
    return quantize(graph_of(net, arrays), inputs)


# --- the graph ---


def test_a_block_in_int8():
    """The graph computes in int8 and is off by no more than a few hundredths."""
    net = build(nn.Conv2D(8, 3, activation="relu"), nn.BatchNorm(), nn.Flatten(), nn.Dense(5))
    inputs = data(1, 3, 12, 12)
    int8_graph = quantized(net, inputs)
    kinds = [node["op"] for node in quantizing._operators(int8_graph.symbol)]
    assert "_sg_mkldnn_conv" in kinds
    assert "Convolution" not in kinds
    assert 1 < int8_graph.quantized_operators <= int8_graph.operators
    assert int8_graph.requests == 6
    assert " times as fast (" in int8_graph.speed
    symbol = int8_graph.symbol
    values = {name: parameter.data() for name, parameter in net.collect_params().items()}
    values["mms_handler_input0"] = mx.nd.array(inputs[2][0])
    executor = symbol.bind(
        mx.cpu(),
        args=[values[name] for name in symbol.list_arguments()],
        aux_states=[values[name] for name in symbol.list_auxiliary_states()],
        grad_req="null",
    )
    expected = net(mx.nd.array(inputs[2][0])).asnumpy()
    error = np.abs(executor.forward()[0].asnumpy() - expected).max()
    difference = error / np.abs(expected).max()
    assert 1e-6 < difference < 0.05
    assert difference <= int8_graph.agreement.largest + 1e-6


def test_a_module_in_int8(module):
    """The int8 graph has the Module's own parameters."""
    int8_graph = quantize(graph_of(module(), []), [[np.array([[1, 2]], np.float32)]])
    counts = (int8_graph.quantized_operators, int8_graph.operators, int8_graph.requests)
    assert counts == (1, 1, 1)
    assert set(int8_graph.symbol.list_arguments()) == {"data", "fc_weight", "fc_bias"}
    assert int8_graph.agreement.rows == 1
    assert int8_graph.agreement.largest < 0.02


def test_what_mxnet_cannot_quantize_stays_as_it_is():
    """A convolution over one dimension, and an Embedding; the Dense after them is quantized."""
    assert quantized(build(nn.Conv1D(4, 3), nn.Dense(3)), data(1, 3, 16)).quantized_operators == 1
    words = [[np.array([[1, 2, 3]], np.float32)]] * 3
    assert quantized(build(nn.Embedding(9, 8), nn.Dense(3)), words).quantized_operators == 1


def test_nothing_to_quantize():
    """The operators are named."""
    message = "^MXNet quantizes none of the graph's operators: Activation$"
    with pytest.raises(ModelError, match=message):
        quantized(build(nn.Activation("tanh")), data(1, 4))


def test_two_of_three_requests_give_the_ranges():
    """The third is for judging: a value of another range in it makes the agreement worse."""
    inputs = data(1, 8, count=3)
    near = quantized(build(nn.Dense(4)), inputs).agreement
    inputs[2][0] *= 1_000
    far = quantized(build(nn.Dense(4)), inputs).agreement
    assert near.largest < 0.05 < 0.5 < far.largest


def test_a_graph_of_other_parameters(module):
    """It is of another model."""
    other = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="other")
    with pytest.raises(
        ModelError, match="belongs to another model: this one has no parameter 'other_weight'"
    ):
        quantizing.with_symbol(graph_of(module(), []), other)


# --- judging ---


def test_scores_agree_where_their_largest_is():
    """Counted by rows.  Differences are relative to the largest value of each prediction."""
    expected = np.array([[1, 2, 4], [4, 2, 1]], np.float32)
    values = np.array([[1, 2, 3], [2, 3, 1]], np.float32)
    agreement = judge([([expected], [values]), ([expected], [expected])])
    assert agreement == (4, 3, pytest.approx((4 / 6 / 4) / 2, abs=1e-6), 0.5)
    assert agreement.part == 0.75


def test_other_predictions_agree_as_their_values_do():
    """Those of one column, or of more than two dimensions, are not scores."""
    expected = np.full((2, 1), 10, np.float32)
    agreement = judge([([expected], [expected - 1])])
    assert agreement == (0, 0, pytest.approx(0.1), pytest.approx(0.1))
    assert agreement.part == pytest.approx(0.9)


def test_nan_agrees_with_nothing():
    """Wherever the largest scores are."""
    expected = np.array([[1, 2]], np.float32)
    assert math.isnan(judge([([expected], [expected * np.nan])]).part)


def test_a_model_on_a_gpu():
    """MXNet has int8 operators for CPUs; nothing is computed to find that out."""
    net = build(nn.Dense(5, in_units=3))
    graph = graph_of(net, [mx.nd.ones((1, 3))])._replace(device=mx.gpu(0))
    with pytest.raises(
        ModelError, match=r"^the model is on gpu\(0\); int8 graphs are only for CPUs$"
    ):
        quantize(graph, data(1, 3))


def test_what_mxnet_says_when_it_fails():
    """Is the reason, without its stack trace."""
    with pytest.raises(
        ModelError, match="^its graph fails: Check failed: a$"
    ), quantizing._model_errors("its graph fails"):
        raise mx.base.MXNetError("[1] a.cc\nCheck failed: a\nStack trace:\n")
