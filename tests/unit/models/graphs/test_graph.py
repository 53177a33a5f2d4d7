"""graph: which models have a graph."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import (
    Graph,
    any_child_has_hooks,
    graph_of,
    has_graph,
    of_module,
)
from mms_handler.models.inputs import UnboundModule


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


class Traced(mx.gluon.HybridBlock):
    """Its Python fails for a symbol."""

    def hybrid_forward(self, F, x):
        return x * x.shape[0]


def test_a_block_that_cannot_be_traced():
    """The reason is what its Python, or MXNet, says."""
    with pytest.raises(ModelError, match="^the Block has no graph: .*shape"):
        graph_of(Traced(), [mx.nd.zeros((1, 2))])


@pytest.mark.filterwarnings("ignore:Cannot decide shape")
def test_shapes_that_leave_others_open():
    """MXNet returns nothing for them, and would bind nothing: the first such output is named."""
    symbol = mx.sym.broadcast_add(mx.sym.var("a"), mx.sym.var("b"))
    graph = Graph(symbol, ("a",), (np.float32,), {}, mx.cpu())
    reason = r"^the shapes {'a': \(1, 2\)} leave that of b undefined$"
    with pytest.raises(mx.base.MXNetError, match=reason):
        graph.infer([(1, 2)])


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


def test_parameters_are_not_copied():
    """They take the model's memory, and no more."""
    weight = mx.nd.array([1.5])
    symbol = mx.sym.var("data") + mx.sym.var("weight")
    assert Graph.of_symbol(symbol, ["data"], {"weight": weight}, mx.cpu()).parameters == {
        "weight": weight
    }


# --- Modules ---------------------------------------------------------------------------------

SYMBOL = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")


def module_of(shape=("data", (2, 3)), training=False, **options):
    module = mx.mod.Module(SYMBOL, data_names=["data"], label_names=None, **options)
    module.bind(data_shapes=[shape], for_training=training)
    module.init_params(mx.init.One())
    return module


def test_the_graph_of_a_module():
    """With its own parameters; the inputs are no parameters."""
    graph = of_module(module_of())
    assert (graph.names, graph.dtypes, graph.device) == (("data",), (np.float32,), mx.cpu())
    assert sorted(graph.parameters) == ["fc_bias", "fc_weight"]
    assert graph.parameters["fc_weight"].asnumpy().tolist() == [[1, 1, 1]]


def test_how_many_rows_fit_into_a_forward():
    """As many as fit into a CPU's cache; a GPU has more memory, and gains from more."""
    graph = of_module(module_of())
    cpu = graph.max_rows([(1, 3)])
    assert 1 < cpu < 2**23
    assert graph._replace(device=mx.gpu(0)).max_rows([(1, 3)]) // cpu == 32
    assert graph.max_rows([(7, 3)]) == cpu


def test_the_graph_of_a_module_without_shapes():
    """It has parameters, and is bound to none."""
    weights = {"fc_weight": mx.nd.ones((1, 3)), "fc_bias": mx.nd.ones((1,))}
    module = UnboundModule.of(SYMBOL, ["data"], weights, {}, mx.cpu())
    graph = of_module(module)
    assert (graph.names, graph.dtypes) == (("data",), (np.float32,))
    assert sorted(graph.parameters) == ["fc_bias", "fc_weight"]
    module.params_initialized = False
    assert of_module(module) is None


class Other(mx.mod.Module):
    """A script's own Module."""


def changed(module):
    module.predict = lambda data: data
    return module


BOTH = mx.sym.var("data") + mx.sym.var("other")


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: changed(module_of()), id="a method of its own"),
        pytest.param(lambda: module_of(training=True), id="in training"),
        pytest.param(lambda: module_of(context=[mx.cpu(0), mx.cpu(1)]), id="two devices"),
        pytest.param(
            lambda: module_of(mx.io.DataDesc("data", (2, 3), layout="TN")),
            id="rows that are not the first dimension",
        ),
    ],
)
def test_modules_that_do_not_just_compute_their_symbol(build):
    module = build()
    assert of_module(module) is None
    with pytest.raises(ModelError, match="^the Module does not just compute its symbol: "):
        graph_of(module, [])


def test_inputs_of_other_numbers_of_rows():
    """MXNet itself refuses them, so no graph needs to."""
    module = mx.mod.Module(BOTH, data_names=["data", "other"], label_names=None)
    with pytest.raises(AssertionError, match="^all data must have the same batch size"):
        module.bind(data_shapes=[("data", (2, 3)), ("other", (1, 3))], for_training=False)


def test_a_subclass_and_states():
    other = Other(SYMBOL, data_names=["data"], label_names=None)
    other.bind(data_shapes=[("data", (2, 3))], for_training=False)
    assert of_module(other) is None
    states = mx.mod.Module(BOTH, data_names=["data"], label_names=None, state_names=["other"])
    assert of_module(states) is None


# --- Blocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks(depth, register):
    """Those of a Block itself are called around its graph; those inside would not be."""
    top = block = mx.gluon.nn.HybridSequential()
    for _ in range(2):
        inner = mx.gluon.nn.HybridSequential()
        block.add(inner)
        block = inner
    blocks = [top, top[0], top[0][0]]
    assert has_graph(top, [mx.nd.ones((1,))])
    assert not any_child_has_hooks(top)
    getattr(blocks[depth], register)(lambda *arguments: None)
    assert any_child_has_hooks(top) == (depth > 0)
    assert has_graph(top, [mx.nd.ones((1,))]) == (depth == 0)


@pytest.mark.parametrize(
    "arguments",
    [[], [np.ones(1)], [mx.nd.ones((1,)), "x"], [mx.nd.ones((1,))[0:0]], [mx.sym.var("x")]],
    ids=["none", "an ndarray", "a text", "an empty array", "a symbol"],
)
def test_what_a_graph_does_not_take(arguments):
    assert not has_graph(mx.gluon.nn.HybridSequential(), arguments)
