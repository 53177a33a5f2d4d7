"""Every family of MXNet's model zoo is exported and proved: `make test-zoo`."""

from __future__ import annotations

import mxnet as mx
import pytest

from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.onnx import convert, prove
from tests.zoo.networks import LARGE, network

pytestmark = pytest.mark.zoo


@pytest.mark.parametrize("name", LARGE)
def test_a_network_is_proved(name):
    net, picture = network(name, LARGE[name], classes=1000)
    graph = graph_of(net, [mx.nd.array(picture)])
    converted = convert(graph, [picture.shape], ["data"], ["scores"])
    expected = [net(mx.nd.array(picture)).asnumpy()]
    (difference,) = prove(converted, graph, [picture], expected).differences
    assert difference.output == "scores"
    assert difference.largest <= 1e-5
