"""Small networks of the model zoo's families are proved; make test-zoo proves the others."""

from __future__ import annotations

import mxnet as mx
import pytest

from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.onnx import convert, prove
from tests.zoo.networks import SMALL, network


@pytest.mark.parametrize("name", SMALL)
def test_a_network_is_proved(name):
    net, picture = network(name, SMALL[name])
    graph = graph_of(net, [mx.nd.array(picture)])
    converted = convert(graph, [picture.shape], ["data"], ["scores"])
    expected = [net(mx.nd.array(picture)).asnumpy()]
    (difference,) = prove(converted, graph, [picture], expected).differences
    assert difference.output == "scores"
    assert difference.largest <= 1e-5
