"""A Block with random weights, and graphs that are used at any speed."""

from __future__ import annotations

import pytest

from mms_handler.models.graphs import faster


@pytest.fixture(autouse=True)
def any_speed(monkeypatch):
    """A graph that agrees is used, however fast it is: a test must not depend on times."""
    monkeypatch.setattr(faster, "GAIN", 0)
    monkeypatch.setattr(faster, "UNFUSED_S", 60)


@pytest.fixture
def convolutions():
    """A HybridSequential of convolution, batch norm, relu6 and Dense."""
    import mxnet as mx

    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Conv2D(8, 3),
        mx.gluon.nn.BatchNorm(),
        mx.gluon.nn.HybridLambda(lambda F, x: F.clip(x, 0, 6)),
        mx.gluon.nn.GlobalAvgPool2D(),
        mx.gluon.nn.Dense(3),
    )
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 8, 8)))
    return net
