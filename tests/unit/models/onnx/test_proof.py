"""prove: what is compared, what is reported, and what is refused."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from tiny_models import Function

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.onnx import convert, prove, rows_are_independent
from mms_handler.models.onnx.proof import made_up

nn, sym = mx.gluon.nn, mx.sym
data = sym.var("data")


def noise(*shape, seed=1):
    return np.random.RandomState(seed).normal(0, 1, shape).astype(np.float32)


def changed(converted, name, factor):
    """A converted model with a parameter multiplied."""
    model = type(converted.model)()
    model.CopyFrom(converted.model)
    (tensor,) = [each for each in model.graph.initializer if each.name == name]
    tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * np.float32(factor)).tobytes()
    return converted._replace(model=model)


@pytest.fixture
def linear(symbol_graph):
    return symbol_graph(sym.FullyConnected(data, num_hidden=3, name="fc"), data=(4, 5))


def test_a_proof_lists_the_largest_difference_of_each_output_and_all_inputs(linear):
    proof = prove(convert(linear, [(4, 5)]), linear, [noise(4, 5)])
    (difference,) = proof.differences
    assert difference.output == "fc_output"
    assert 0 <= difference.largest < 1e-6
    assert difference.data in proof.cases
    assert proof.cases[:2] == (
        "the sample",
        "1 row of random numbers like the sample's",
    )
    assert len(proof.cases) == 13
    assert proof.cases[-2:] == (
        "5 rows of random numbers a hundred times as large as the sample's",
        "5 rows of zeros",
    )


def test_a_model_that_differs_is_refused_with_input_output_and_difference(linear):
    wrong = changed(convert(linear, [(4, 5)]), "fc_weight", 1.001)
    with pytest.raises(ModelError) as caught:
        prove(wrong, linear, [noise(4, 5)])
    assert str(caught.value).startswith(
        "the ONNX model does not agree with MXNet: for the sample the output fc_output differs by "
    )
    assert str(caught.value).endswith(" of its largest value; at most 1e-05 is allowed")


def test_a_tolerance_may_be_larger(linear):
    wrong = changed(convert(linear, [(4, 5)]), "fc_weight", 1.001)
    (difference,) = prove(wrong, linear, [noise(4, 5)], tolerance=0.01).differences
    assert 1e-5 < difference.largest <= 0.002


def test_what_only_made_up_rows_show_is_found(linear):
    """A bias disappears beside a sample of zeros times anything; it does not beside zeros."""
    wrong = changed(convert(linear, [(4, 5)]), "fc_weight", 2)
    with pytest.raises(ModelError, match=r"for 1 row of random numbers like the sample's"):
        prove(wrong, linear, [np.zeros((4, 5), "f")])


def test_what_the_model_itself_answers_is_what_counts(linear):
    converted = convert(linear, [(4, 5)])
    with pytest.raises(ModelError, match="for the sample the output fc_output differs"):
        prove(converted, linear, [noise(4, 5)], [np.zeros((4, 3), "f")])


def test_an_answer_of_another_shape_is_refused(linear):
    converted = convert(linear, [(4, 5)])
    expected = [np.zeros((3, 4), "f")]
    with pytest.raises(ModelError, match=r"in shape \(4, 3\) instead of \(3, 4\), the output"):
        prove(converted, linear, [noise(4, 5)], expected)


def test_numbers_that_are_not_finite_must_be_the_same(symbol_graph):
    graph = symbol_graph(sym.log(data, name="log"), data=(2, 3))
    converted = convert(graph, [(2, 3)])
    (difference,) = prove(converted, graph, [noise(2, 3)]).differences  # log of negatives: NaN
    assert difference.largest < 1e-6
    others = symbol_graph(sym.log(sym.abs(data), name="log"), data=(2, 3))
    with pytest.raises(ModelError, match="differs by inf of its largest value"):
        prove(converted, others, [noise(2, 3)])


def test_whole_numbers_stay_whole(block_graph):
    graph = block_graph(nn.Embedding(20, 6), np.array([[1, 2], [3, 0]], "f"))
    proof = prove(convert(graph, [(2, 2)]), graph, [np.array([[1, 2], [3, 19]], "f")])
    assert [difference.largest for difference in proof.differences] == [0]


def test_numbers_without_a_meaningful_digit_may_differ_for_made_up_rows(symbol_graph):
    """Sines of large numbers: the next float32 has another sine."""
    symbol = sym.sin(sym.FullyConnected(data, num_hidden=64, no_bias=True, name="fc") * 1e5)
    graph = symbol_graph(symbol, data=(2, 64))
    sample = np.zeros((2, 64), "f")
    proof = prove(convert(graph, [(2, 64)]), graph, [sample])
    assert [each.data for each in proof.differences]
    with pytest.raises(ModelError, match="for the sample"):
        prove(convert(graph, [(2, 64)]), graph, [noise(2, 64)])


class Stateful(mx.gluon.HybridBlock):
    """A recurrent layer that is called with its states, each as (rows, directions, width)."""

    def __init__(self, layer):
        super().__init__()
        with self.name_scope():
            self.layer = layer
            self.out = nn.Dense(4, flatten=False)

    def hybrid_forward(self, F, x, *states):
        y, states = self.layer(x, [F.transpose(state, axes=(1, 0, 2)) for state in states])
        return (self.out(y), *states)


def test_states_of_recurrent_layers_are_not_made_larger():
    """No layer gives a state of hundreds, by which the engines' rounding would be multiplied."""
    mx.random.seed(0)
    net = Stateful(mx.gluon.rnn.GRU(64, 2, layout="NTC", bidirectional=True, input_size=6))
    net.initialize(mx.init.Xavier())
    arrays = [noise(1, 10, 6, seed=0), np.zeros((1, 4, 64), "f")]
    inputs = [mx.nd.array(array) for array in arrays]
    net(*inputs)
    graph = graph_of(net, inputs)
    converted = convert(graph, [array.shape for array in arrays])
    proof = prove(converted, graph, arrays)
    assert max(each.largest for each in proof.differences) < 2e-6
    assert proof.cases[2:4] == (
        "1 row of random numbers a thousandth as large as the sample's",
        "1 row of random numbers a hundred times as large as the sample's (states as large)",
    )
    large = [arrays for words, arrays in made_up(converted, arrays) if "(states as large)" in words]
    assert all(np.abs(x).max() > 100 and np.abs(state).max() < 5 for x, state in large)


def test_a_model_that_mxnet_itself_cannot_run_is_refused(symbol_graph):
    graph = symbol_graph(sym.FullyConnected(data, num_hidden=3, name="fc"), data=(4, 5))
    half = {name: array.astype("float16") for name, array in graph.parameters.items()}
    graph = graph._replace(dtypes=(np.float16,), parameters=half)
    with pytest.raises(ModelError, match="MXNet fails for the sample: float16 fully connected"):
        prove(convert(graph, [(4, 5)]), graph, [noise(4, 5)])


@pytest.mark.parametrize(
    ("function", "independent"),
    [
        (lambda F, x: F.tanh(x), True),
        (lambda F, x: F.broadcast_sub(x, F.mean(x, axis=0, keepdims=True)), False),
        (lambda F, x: F.transpose(x), False),
        (lambda F, x: F.sum(x), False),
        (lambda F, x: F.reshape(x, (-1, 1)), False),
    ],
    ids=["alone", "mean of rows", "moved", "no rows", "several for each"],
)
def test_rows_are_put_together_only_where_they_are_independent(function, independent, block_graph):
    graph = block_graph(Function(function), noise(2, 3))
    converted = convert(graph, [(2, 3)])
    assert rows_are_independent(converted, graph, [noise(2, 3)]) is independent
