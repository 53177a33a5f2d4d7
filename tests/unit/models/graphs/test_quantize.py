"""quantizing: a model's graph in eight-bit numbers, and what is said of it."""

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


def net(*layers):
    mx.random.seed(0)
    built = nn.HybridSequential()
    built.add(*layers)
    built.initialize(mx.init.Xavier())
    return built


def data(*shape, count=6):
    noise = np.random.RandomState(0)
    return [[noise.uniform(-1, 1, shape).astype(np.float32)] for _ in range(count)]


def quantized(built, inputs):
    arrays = [mx.nd.array(one) for one in inputs[0]]
    built(*arrays)  # its parameters have their shapes then
    return quantize(graph_of(built, arrays), inputs)


# --- the graph ---


def test_a_block_in_eight_bits():
    """Every operator is, and what it gives is the Block's own but for a few hundredths."""
    built = net(nn.Conv2D(8, 3, activation="relu"), nn.BatchNorm(), nn.Flatten(), nn.Dense(5))
    inputs = data(1, 3, 12, 12)
    found = quantized(built, inputs)
    kinds = [node["op"] for node in quantizing._operators(found.symbol)]
    assert "_sg_mkldnn_conv" in kinds
    assert "Convolution" not in kinds
    assert 1 < found.operators <= found.of
    assert found.inputs == 6
    symbol = found.symbol
    values = {name: one.data() for name, one in built.collect_params().items()}
    values["mms_handler_input0"] = mx.nd.array(inputs[2][0])
    executor = symbol.bind(
        mx.cpu(),
        args=[values[name] for name in symbol.list_arguments()],
        aux_states=[values[name] for name in symbol.list_auxiliary_states()],
        grad_req="null",
    )
    wanted = built(mx.nd.array(inputs[2][0])).asnumpy()
    off = np.abs(executor.forward()[0].asnumpy() - wanted).max() / np.abs(wanted).max()
    assert 1e-6 < off < 0.05
    assert off <= found.agreement.largest + 1e-6


def test_a_module_in_eight_bits(module):
    """Its own parameters are the int8 graph's."""
    one = module()
    found = quantize(graph_of(one, []), [[np.array([[1, 2]], np.float32)]])
    assert (found.operators, found.of, found.inputs) == (1, 1, 1)
    assert set(found.symbol.list_arguments()) == {"data", "fc_weight", "fc_bias"}
    assert found.agreement.rows == 1
    assert found.agreement.largest < 0.02


def test_what_mxnet_cannot_quantize_stays_as_it_is():
    """A convolution over one dimension, and an Embedding; what comes behind them is quantized."""
    assert quantized(net(nn.Conv1D(4, 3), nn.Dense(3)), data(1, 3, 16)).operators == 1
    words = [[np.array([[1, 2, 3]], np.float32)]] * 3
    assert quantized(net(nn.Embedding(9, 8), nn.Dense(3)), words).operators == 1


def test_nothing_to_quantize():
    """The operators are named."""
    said = "^MXNet quantizes none of the graph's operators: Activation$"
    with pytest.raises(ModelError, match=said):
        quantized(net(nn.Activation("tanh")), data(1, 4))


def test_two_of_three_requests_say_what_comes(monkeypatch):
    """The third is kept for judging, which a value that never came before shows."""
    inputs = data(1, 8, count=3)
    near = quantized(net(nn.Dense(4)), inputs).agreement
    inputs[2][0] *= 1_000
    far = quantized(net(nn.Dense(4)), inputs).agreement
    assert near.largest < 0.05 < 0.5 < far.largest


class Python(mx.gluon.Block):
    def forward(self, array):
        return array


def test_python_has_no_graph():
    """A Block that is none of MXNet's hybrid ones, and one in which somebody listens."""
    with pytest.raises(ModelError, match="a Block in it has Python in its forward, or hooks"):
        graph_of(Python(), [mx.nd.zeros((1, 2))])
    listened = net(nn.Dense(2))
    listened[0].register_forward_hook(lambda *given: None)
    with pytest.raises(ModelError, match="a Block in it has Python in its forward, or hooks"):
        graph_of(listened, [mx.nd.zeros((1, 2))])


def test_a_graph_of_other_parameters(module):
    """It is not this model's."""
    other = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="other")
    with pytest.raises(ModelError, match="the int8 graph has a parameter 'other_weight'"):
        quantizing.with_symbol(graph_of(module(), []), other)


# --- judging ---


def test_scores_agree_where_their_largest_is():
    """Counted by rows; differences are in parts of each prediction's largest value."""
    wanted = np.array([[1, 2, 4], [4, 2, 1]], np.float32)
    found = np.array([[1, 2, 3], [2, 3, 1]], np.float32)
    told = judge([([wanted], [found]), ([wanted], [wanted])])
    assert told == (4, 3, pytest.approx((4 / 6 / 4) / 2, abs=1e-6), 0.5)
    assert told.part == 0.75


def test_what_is_no_score_agrees_as_its_values_do():
    """One column, or more dimensions than two."""
    wanted = np.full((2, 1), 10, np.float32)
    told = judge([([wanted], [wanted - 1])])
    assert told == (0, 0, pytest.approx(0.1), pytest.approx(0.1))
    assert told.part == pytest.approx(0.9)


def test_what_is_no_number_agrees_with_nothing():
    """Whatever the places of the largest scores."""
    wanted = np.array([[1, 2]], np.float32)
    assert math.isnan(judge([([wanted], [wanted * np.nan])]).part)
