"""Each layer that this package converts answers as MXNet does, for other rows than the sample's."""

from __future__ import annotations

import warnings

import mxnet as mx
import numpy as np
import pytest
from tiny_models import Function

from mms_handler.errors import ModelError
from mms_handler.models.onnx import convert

nn, rnn, sym = mx.gluon.nn, mx.gluon.rnn, mx.sym
data = sym.var("data")


def noise(*shape, seed=1):
    return np.random.RandomState(seed).normal(0, 1, shape).astype(np.float32)


def stack(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


class WithStates(mx.gluon.HybridBlock):
    """An LSTM whose states are inputs and outputs."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.lstm = rnn.LSTM(5, 2, layout="NTC")

    def hybrid_forward(self, F, x, hidden, cell):
        output, states = self.lstm(x, [hidden, cell])
        return (output, *states)


BLOCKS = {
    "Dense of one dimension": (lambda: nn.Dense(3, flatten=False), (2, 4, 6)),
    "Dense of all": (lambda: nn.Dense(3, use_bias=False), (2, 4, 6)),
    "Conv1D": (lambda: stack(nn.Conv1D(4, 3, padding=1), nn.MaxPool1D(2)), (2, 3, 9)),
    "Conv2D in groups": (lambda: nn.Conv2D(4, 3, 2, groups=2, dilation=2), (2, 4, 9, 9)),
    "Conv3D": (lambda: stack(nn.Conv3D(2, 3, padding=1), nn.AvgPool3D(2)), (2, 3, 4, 5, 6)),
    "Conv2DTranspose": (
        lambda: nn.Conv2DTranspose(4, 3, strides=2, padding=1, output_padding=1),
        (2, 3, 5, 5),
    ),
    "pooling of NWC": (
        lambda: stack(
            nn.MaxPool1D(2, layout="NWC"),
            nn.AvgPool1D(3, 2, 1, layout="NWC"),
            nn.GlobalAvgPool1D(layout="NWC"),
        ),
        (2, 12, 3),
    ),
    "pooling of NHWC": (lambda: nn.AvgPool2D(3, 2, 1, layout="NHWC"), (2, 9, 9, 3)),
    "MaxPool2D, full": (lambda: nn.MaxPool2D(3, 2, 1, ceil_mode=True), (2, 3, 8, 8)),
    "AvgPool2D, full": (lambda: nn.AvgPool2D(3, 2, 0, ceil_mode=True), (2, 3, 8, 8)),
    "AvgPool2D, full, padded": (lambda: nn.AvgPool2D(3, 2, 1, ceil_mode=True), (2, 3, 8, 8)),
    "AvgPool2D without padding": (
        lambda: nn.AvgPool2D(3, 2, 1, ceil_mode=True, count_include_pad=False),
        (2, 3, 8, 8),
    ),
    "BatchNorm of the last": (lambda: nn.BatchNorm(axis=-1), (2, 4, 6)),
    "BatchNorm": (lambda: nn.BatchNorm(), (2, 4, 6)),
    "LayerNorm": (lambda: nn.LayerNorm(), (2, 4, 6)),
    "LayerNorm of the second": (lambda: nn.LayerNorm(axis=1), (2, 4, 6)),
    "GroupNorm": (lambda: nn.GroupNorm(2), (2, 4, 6, 6)),
    "InstanceNorm": (lambda: nn.InstanceNorm(), (2, 4, 6, 6)),
    "PReLU": (lambda: nn.PReLU(in_channels=4), (2, 4, 3, 3)),
    "activations": (
        lambda: stack(
            *(nn.LeakyReLU(0.1), nn.ELU(), nn.SELU(), nn.GELU(), nn.Swish(), nn.Dropout(0.5)),
            *map(nn.Activation, ("softrelu", "softsign", "tanh", "sigmoid", "relu")),
        ),
        (2, 4),
    ),
    "LSTM": (lambda: stack(rnn.LSTM(5, 2, "NTC", bidirectional=True), nn.Dense(3)), (2, 4, 6)),
    "LSTM of three layers": (lambda: stack(rnn.LSTM(5, 3, "NTC")), (2, 4, 6)),
    "LSTM of TNC": (lambda: stack(rnn.LSTM(5, 1)), (4, 2, 6)),
    "GRU": (lambda: stack(rnn.GRU(5, 2, "NTC")), (2, 4, 6)),
    "GRU in both directions": (lambda: stack(rnn.GRU(5, 1, "NTC", bidirectional=True)), (2, 4, 6)),
    "RNN with relu": (lambda: stack(rnn.RNN(5, 2, "relu", "NTC", bidirectional=True)), (2, 4, 6)),
    "RNN with tanh": (lambda: stack(rnn.RNN(5, 1, "tanh", "NTC")), (2, 4, 6)),
    "numbers": (
        lambda: Function(
            lambda F, x: (
                F.maximum(F.minimum(1 / (1 + (2 - x * 3) ** 2) / 4 - 1, 0.5), -0.9)
                + 2 ** (-F.abs(x))
            )
        ),
        (2, 4),
    ),
    "shapes": (
        lambda: Function(
            lambda F, x: F.squeeze(
                F.expand_dims(
                    F.swapaxes(F.reshape(F.transpose(x, (0, 2, 1)), (0, -4, 2, -1, -2)), 1, -1), 1
                ),
                axis=1,
            )
        ),
        (2, 4, 6),
    ),
    "broadcasts": (
        lambda: Function(
            lambda F, x: (
                F.broadcast_like(F.sum(x, axis=1, keepdims=True), x)
                + F.zeros_like(x)
                + F.ones_like(x)
            )
        ),
        (2, 4),
    ),
    "operators of mxnet.onnx": (
        lambda: Function(
            lambda F, x: F.concat(
                F.slice_axis(x, axis=1, begin=1, end=3),
                F.split(x, 2, axis=1)[1],
                F.softmax(x, axis=1, temperature=2).slice_axis(axis=1, begin=0, end=2),
                dim=2,
            )
        ),
        (2, 4, 6),
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_answered_alike(name, block_graph, answers):
    make, shape = BLOCKS[name]
    net = make()
    graph = block_graph(net, noise(*shape))
    converted = convert(graph, [shape], ["x"], ["y"])
    array = noise(3, *shape[1:], seed=2)
    expected = net(mx.nd.array(array)).asnumpy()
    given = answers(converted, array)["y"]
    assert given.shape == expected.shape
    assert np.abs(expected - given).max() <= 2e-6 * np.abs(expected).max()


with warnings.catch_warnings():  # of the oldest cells, about the layout
    warnings.simplefilter("ignore")
    CELLS = [
        cell.unroll(4, data, layout="NTC", merge_outputs=True)[0]
        for cell in (mx.rnn.LSTMCell(5, "l_"), mx.rnn.FusedRNNCell(5, 2, "gru", prefix="g_"))
    ]

SYMBOLS = {
    "FullyConnected of four dimensions": (sym.FullyConnected(data, num_hidden=3), (2, 3, 4, 5)),
    "BatchNorm that ignores gamma": (sym.BatchNorm(data), (2, 5, 3, 3)),
    "LayerNorm with its own epsilon": (sym.LayerNorm(data), (2, 5, 3)),
    "Deconvolution without bias": (
        sym.Deconvolution(data, kernel=(2, 2), num_filter=3),
        (2, 4, 5, 5),
    ),
    "LRN": (sym.LRN(data, nsize=5, alpha=0.5), (2, 8, 3, 3)),
    "L2Normalization": (sym.L2Normalization(data), (2, 5, 3)),
    "L2Normalization of channels": (sym.L2Normalization(data, mode="channel"), (2, 5, 3)),
    "L2Normalization in space": (sym.L2Normalization(data, mode="spatial"), (2, 5, 3, 3)),
    "sums": (sym.Pooling(data, kernel=(3, 2), pool_type="sum", stride=(2, 2)), (2, 5, 8, 8)),
    "a sum of all": (sym.Pooling(data, global_pool=True, pool_type="sum"), (2, 5, 8, 8)),
    "FullyConnected of the last of four": (
        sym.FullyConnected(data, num_hidden=3, flatten=False),
        (2, 3, 4, 5),
    ),
    "FullyConnected of one number": (sym.FullyConnected(data, num_hidden=3), (2,)),
    "Convolution": (sym.Convolution(data, kernel=(2, 3), num_filter=3), (2, 4, 5, 5)),
    "Convolution without bias": (
        sym.Convolution(data, kernel=(2,), num_filter=3, no_bias=True, stride=(2,), dilate=(2,)),
        (2, 4, 9),
    ),
    "Deconvolution with bias": (
        sym.Deconvolution(
            data, kernel=(3, 2), num_filter=4, num_group=2, no_bias=False, pad=(1, 0), dilate=(2, 1)
        ),
        (2, 4, 5, 5),
    ),
    "BatchNorm with gamma": (sym.BatchNorm(data, fix_gamma=False, eps=0.5), (2, 5, 3, 3)),
    "BatchNorm of the last, without gamma": (sym.BatchNorm(data, axis=3, eps=0.5), (2, 5, 3, 4)),
    "BatchNorm of the last with gamma": (
        sym.BatchNorm(data, axis=-1, fix_gamma=False),
        (2, 5, 3, 4),
    ),
    "LayerNorm of the first side": (sym.LayerNorm(data, axis=1, eps=0.5), (2, 5, 3)),
    "GroupNorm of one group": (sym.GroupNorm(data, eps=0.5), (2, 4, 3)),
    "GroupNorm of each channel": (sym.GroupNorm(data, num_groups=4), (2, 4, 3, 3)),
    "L2Normalization with epsilon": (sym.L2Normalization(data, eps=0.5), (2, 5)),
    "LRN with its own numbers": (sym.LRN(data, nsize=3, beta=0.5, knorm=1), (2, 8, 3, 3)),
    "LRN with alpha": (sym.LRN(data * 100, nsize=3), (2, 8, 3, 3)),
    "LeakyReLU": (sym.LeakyReLU(data), (2, 5)),
    "LeakyReLU with a slope": (sym.LeakyReLU(data, slope=0.5), (2, 5)),
    "elu with a slope": (sym.LeakyReLU(data, act_type="elu", slope=0.5), (2, 5)),
    "gelu": (sym.LeakyReLU(data, act_type="gelu"), (2, 5)),
    "prelu of rows": (sym.LeakyReLU(data, act_type="prelu"), (2, 5)),
    "transpose of all": (sym.transpose(sym.transpose(data), axes=(2, 0, 1)), (2, 4, 6)),
    "SwapAxis": (sym.SwapAxis(data, dim1=-1, dim2=1), (2, 4, 6)),
    "maximum": (sym.broadcast_axis(sym.max(data, axis=1, keepdims=True), axis=1, size=4), (2, 4)),
    "a maximum of all": (sym.Pooling(data, global_pool=True), (2, 5, 8, 8)),
    "a maximum": (sym.Pooling(data, kernel=(3, 2), pad=(1, 1), stride=(2, 1)), (2, 5, 8, 8)),
    "a maximum of steps of one": (sym.Pooling(data, kernel=(2, 2)), (2, 5, 4, 4)),
    "sums with padding": (
        sym.Pooling(
            data, kernel=(3,), pad=(1,), stride=(2,), pool_type="sum", pooling_convention="full"
        ),
        (2, 5, 8),
    ),
    "a mean of all in space": (
        sym.Pooling(data, global_pool=True, pool_type="avg", layout="NHWC"),
        (2, 4, 5, 3),
    ),
    "means without padding": (
        sym.Pooling(data, kernel=(3,), pad=(1,), pool_type="avg", count_include_pad=False),
        (2, 5, 8),
    ),
    "numbers at the left": (5 - 2 / (data * data + 1), (2, 5)),
    "a power": (sym.exp(0.1 * data) ** 3 + 3**data, (2, 5)),
    "ones and zeros": (
        sym.broadcast_add(data, sym.broadcast_mul(sym.ones_like(data), sym.zeros((1, 5)) + 3)),
        (2, 5),
    ),
    "a type": (sym.cast(sym.cast(data, dtype="int32"), dtype="float32") + 0.5, (2, 5)),
    "cells": (CELLS[0], (2, 4, 6)),
    "fused cells": (CELLS[1], (2, 4, 6)),
}


@pytest.mark.parametrize("name", SYMBOLS)
def test_a_symbol_is_answered_alike(name, symbol_graph, answers, mxnet_answers):
    symbol, shape = SYMBOLS[name]
    graph = symbol_graph(symbol, data=shape)
    converted = convert(graph, [shape], outputs=["y"])
    array = noise(3, *shape[1:], seed=2)
    (expected,) = mxnet_answers(graph, array)
    given = answers(converted, array)["y"]
    assert given.shape == expected.shape
    assert np.abs(expected - given).max() <= 2e-6 * np.abs(expected).max()


def test_states_are_inputs_and_outputs(block_graph, answers):
    arrays = noise(2, 4, 6), noise(2, 2, 5), noise(2, 2, 5)
    net = WithStates()
    graph = block_graph(net, *arrays)
    converted = convert(graph, [a.shape for a in arrays], ["x", "h", "c"], ["y", "h2", "c2"])
    assert [str(tensor.shape[1]) for tensor in converted.inputs] == ["4", "N", "N"]
    others = noise(3, 4, 6, seed=2), noise(2, 3, 5, seed=3), noise(2, 3, 5, seed=4)
    expected = net(*map(mx.nd.array, others))
    given = answers(converted, *others)
    assert list(given) == ["y", "h2", "c2"]
    for array, output in zip(expected, given.values()):
        assert np.abs(array.asnumpy() - output).max() < 1e-6


def test_an_index_beyond_the_table_is_that_of_its_end(block_graph, answers):
    net = nn.Embedding(20, 6)
    graph = block_graph(net, np.array([[1, 2], [3, 0]], "f"))
    converted = convert(graph, [(2, 2)], ["x"], ["y"])
    array = np.array([[19, 20], [-1, 1e9], [3.7, 0]], "f")
    table = net.weight.data().asnumpy()
    expected = table[[[19, 19], [0, 19], [3, 0]]]
    assert np.array_equal(net(mx.nd.array(array)).asnumpy(), expected)
    assert np.array_equal(answers(converted, array)["y"], expected)


REFUSED = {
    "Convolution of NHWC": (
        sym.Convolution(data, kernel=(2, 2), num_filter=3, layout="NHWC"),
        "Convolution .* has the layout NHWC",
    ),
    "a target_shape": (
        sym.Deconvolution(data, kernel=(2, 2), num_filter=3, target_shape=(5, 5)),
        "Deconvolution .* has the layout NC or a target_shape",
    ),
    "means of BatchNorm": (
        sym.BatchNorm(data, output_mean_var=True)[0],
        "BatchNorm .* gives the mean and the variance, too",
    ),
    "means of LayerNorm": (
        sym.LayerNorm(data, output_mean_var=True)[0],
        "LayerNorm .* gives the mean and the deviation, too",
    ),
    "means of GroupNorm": (
        sym.GroupNorm(data, output_mean_var=True)[0],
        "GroupNorm .* gives the mean and the deviation, too",
    ),
    "a gamma that is computed": (
        sym.BatchNorm(data, gamma=sym.mean(data, axis=(0, 2, 3)), fix_gamma=False),
        "BatchNorm .* has parameters that depend on an input",
    ),
    "dropout": (sym.Dropout(data, mode="always"), "Dropout .* drops at each prediction, too"),
}


@pytest.mark.filterwarnings("ignore:Cannot decide shape")
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_converter_refuses(name, symbol_graph):
    symbol, reason = REFUSED[name]
    graph = symbol_graph(symbol, data=(2, 3, 4, 4))
    with pytest.raises(ModelError, match=reason):
        convert(graph, [(2, 3, 4, 4)])
