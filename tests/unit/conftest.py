"""Tiny models that compute exact numbers, so that tests can write out the expected values."""

from __future__ import annotations

import pytest


@pytest.fixture
def sums():
    """Build a Module of y = x0 + 2 x1 + 10, bound for ``bound`` rows; two outputs are y and 2 y."""
    import mxnet as mx

    def build(bound=1, outputs=1):
        y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")
        symbol = y if outputs == 1 else mx.sym.Group([y, y * 2])
        module = mx.mod.Module(symbol, data_names=["data"], label_names=None)
        module.bind(data_shapes=[("data", (bound, 2))], for_training=False)
        weights = {"fc_weight": mx.nd.array([[1, 2]]), "fc_bias": mx.nd.array([10])}
        module.set_params(weights, {})
        return module

    return build


@pytest.fixture
def sum_block():
    """A Block of the same y = x0 + 2 x1 + 10."""
    import mxnet as mx

    net = mx.gluon.nn.Dense(1, in_units=2)
    net.initialize()
    net.weight.set_data(mx.nd.array([[1, 2]]))
    net.bias.set_data(mx.nd.array([10]))
    return net
