"""graph: which models have a graph."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import Graph, graph_of


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


def test_a_parameter_whose_type_is_open():
    """A symbol that casts a parameter leaves its type open: it stays as it was saved."""
    data, weight = mx.sym.var("data"), mx.sym.var("weight")
    symbol = mx.sym.broadcast_add(data, mx.sym.cast(weight, dtype="float32"))
    saved = mx.nd.array([1.5], dtype="float16")
    graph = Graph.of_symbol(symbol, ["data"], {"weight": saved}, mx.cpu())
    assert graph.dtypes == (np.float32,)
    assert graph.parameters["weight"].dtype == np.float16


def test_a_parameter_of_another_type_than_the_symbols():
    """It is cast to the type that the symbol computes in; what is not the symbol's is left out."""
    symbol = mx.sym.var("data") + mx.sym.var("weight")
    parameters = {"weight": mx.nd.array([1.5], dtype="float16"), "other": mx.nd.array([1])}
    graph = Graph.of_symbol(symbol, ["data"], parameters, mx.cpu())
    assert {name: array.dtype for name, array in graph.parameters.items()} == {"weight": np.float32}
