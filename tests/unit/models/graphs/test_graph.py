"""graph: which models have a graph."""

from __future__ import annotations

import mxnet as mx
import pytest

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import graph_of


class Python(mx.gluon.Block):
    def forward(self, array):
        return array


def test_python_has_no_graph():
    """Neither has a Block that is not hybrid, nor one with a hook inside."""
    with pytest.raises(ModelError, match="a Block in it has Python in its forward, or hooks"):
        graph_of(Python(), [mx.nd.zeros((1, 2))])
    hooked = mx.gluon.nn.HybridSequential()
    hooked.add(mx.gluon.nn.Dense(2))
    hooked.initialize(mx.init.Xavier())
    hooked[0].register_forward_hook(lambda *args: None)
    with pytest.raises(ModelError, match="a Block in it has Python in its forward, or hooks"):
        graph_of(hooked, [mx.nd.zeros((1, 2))])
