"""convert: names, shapes, rows, training heads, and what is refused."""

from __future__ import annotations

import sys

import mxnet as mx
import numpy as np
import onnx
import pytest
from tiny_models import Function

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.onnx import convert, translations

nn, sym = mx.gluon.nn, mx.sym
data = sym.var("data")


def noise(*shape, seed=1):
    return np.random.RandomState(seed).normal(0, 1, shape).astype(np.float32)


def tensors(converted):
    """The names and shapes in the file itself."""
    graph = converted.model.graph
    return {
        each.name: [side.dim_param or side.dim_value for side in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.output)
    }


def close(expected, given):
    assert expected.shape == given.shape
    assert np.abs(expected - given).max() <= 1e-5 * np.abs(expected).max()


# --- names and formats ---


def test_names_shapes_and_parameters_are_kept(symbol_graph):
    graph = symbol_graph(sym.FullyConnected(data, num_hidden=3, name="fc"), data=(4, 5))
    converted = convert(graph, [(4, 5)])
    assert tensors(converted) == {"data": ["N", 5], "fc_output": ["N", 3]}
    assert {each.name for each in converted.model.graph.initializer} >= {"fc_weight", "fc_bias"}
    assert [each.version for each in converted.model.opset_import] == [13]
    assert converted.model.ir_version == 7
    onnx.checker.check_model(converted.model, full_check=True)


def test_inputs_and_outputs_get_the_names_that_they_are_given(block_graph, answers):
    graph = block_graph(nn.Dense(2), noise(2, 3))
    converted = convert(graph, [(2, 3)], ["picture"], ["scores"])
    assert tensors(converted) == {"picture": ["N", 3], "scores": ["N", 2]}
    assert list(answers(converted, noise(7, 3))) == ["scores"]


def test_a_name_that_a_node_has_too_is_not_taken_twice(symbol_graph, answers):
    hidden = sym.FullyConnected(data, num_hidden=3, name="scores")
    graph = symbol_graph(sym.tanh(hidden, name="data_"), data=(4, 5))
    converted = convert(graph, [(4, 5)], ["data_"], ["scores"])
    assert tensors(converted) == {"data_": ["N", 5], "scores": ["N", 3]}
    assert answers(converted, noise(2, 5))["scores"].shape == (2, 3)


def test_outputs_keep_their_order_and_may_be_an_input_or_a_constant(symbol_graph, answers):
    weight = sym.var("weight", shape=(2, 3))
    symbol = sym.Group([sym.tanh(data, name="b"), sym.exp(data, name="a"), data, weight * 2])
    graph = symbol_graph(symbol, data=(4, 5))
    converted = convert(graph, [(4, 5)], outputs=["first", "second", "third", "fourth"])
    array = noise(3, 5)
    outputs = answers(converted, array)
    assert list(outputs) == ["first", "second", "third", "fourth"]
    close(np.tanh(array), outputs["first"])
    close(np.exp(array), outputs["second"])
    close(array, outputs["third"])
    close(graph.parameters["weight"].asnumpy() * 2, outputs["fourth"])


# --- heads ---

FC = sym.FullyConnected(data, num_hidden=3, name="fc")


def linear(graph, array):
    weight, bias = (graph.parameters[name].asnumpy() for name in ("fc_weight", "fc_bias"))
    return array @ weight.T + bias


def softmax(scores, axis=-1):
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


HEADS = {
    "SoftmaxOutput": softmax,
    "LogisticRegressionOutput": lambda scores: 1 / (1 + np.exp(-scores)),
    "LinearRegressionOutput": lambda scores: scores,
    "MAERegressionOutput": lambda scores: scores,
    "SVMOutput": lambda scores: scores,
}


@pytest.mark.parametrize("head", HEADS)
def test_a_training_head_loses_its_label(head, symbol_graph, answers):
    graph = symbol_graph(getattr(sym, head)(FC, name="head"), data=(4, 5))
    converted = convert(graph, [(4, 5)])
    assert tensors(converted) == {"data": ["N", 5], "head_output": ["N", 3]}
    array = noise(6, 5)
    close(HEADS[head](linear(graph, array)), answers(converted, array)["head_output"])


@pytest.mark.parametrize("loss", ["MakeLoss", "make_loss"])
def test_a_loss_gives_its_value(loss, symbol_graph, answers):
    graph = symbol_graph(getattr(sym, loss)(sym.square(FC), name="loss"), data=(4, 5))
    array = noise(2, 5)
    (output,) = answers(convert(graph, [(4, 5)]), array).values()
    close(linear(graph, array) ** 2, output)


def test_softmax_output_is_of_all_but_the_rows_or_of_one_dimension(symbol_graph, answers):
    array = noise(2, 4, 6)
    expected = {
        "": softmax(array.reshape(2, 24)).reshape(2, 4, 6),
        "preserve_shape": softmax(array),
        "multi_output": softmax(array, 1),
    }
    for option, values in expected.items():
        options = {option: True} if option else {}
        graph = symbol_graph(sym.SoftmaxOutput(data, name="softmax", **options), data=(2, 4, 6))
        close(values, answers(convert(graph, [(2, 4, 6)]), array)["softmax_output"])


def test_softmax_activation(symbol_graph, answers):
    array = noise(2, 4, 3, 3)
    for mode, values in {
        "instance": softmax(array.reshape(2, 36)).reshape(array.shape),
        "channel": softmax(array, 1),
    }.items():
        symbol = sym.SoftmaxActivation(data, mode=mode, name="softmax")
        graph = symbol_graph(symbol, data=array.shape)
        close(values, answers(convert(graph, [array.shape]), array)["softmax_output"])


def test_a_label_that_something_else_takes_is_zeros_as_in_mxnet(symbol_graph, answers):
    label = sym.var("label")
    symbol = sym.LinearRegressionOutput(FC, label, name="head") + label
    graph = symbol_graph(symbol, data=(4, 5), label=(4, 3))
    graph = graph._replace(names=("data",), dtypes=graph.dtypes[:1])
    array = noise(2, 5)
    (output,) = answers(convert(graph, [(4, 5)]), array).values()
    close(linear(graph, array), output)


# --- rows ---


def test_rows_may_be_anywhere_in_the_inputs(block_graph, answers, mxnet_answers):
    net = Function(lambda F, x, y: F.broadcast_add(x, F.transpose(y)))
    graph = block_graph(net, noise(2, 5), noise(5, 2))
    converted = convert(graph, [(2, 5), (5, 2)], ["x", "y"], ["sum"])
    assert tensors(converted) == {"x": ["N", 5], "y": [5, "N"], "sum": ["N", 5]}
    arrays = noise(4, 5), noise(5, 4, seed=2)
    close(arrays[0] + arrays[1].T, answers(converted, *arrays)["sum"])


def test_a_graph_for_one_number_of_rows_stays_for_it(block_graph, answers):
    net = Function(lambda F, x: F.reshape(x, (4, 3)))
    graph = block_graph(net, noise(2, 6))
    converted = convert(graph, [(2, 6)], ["x"], ["y"])
    assert tensors(converted) == {"x": [2, 6], "y": [4, 3]}
    assert not converted.rows.free
    array = noise(2, 6)
    close(array.reshape(4, 3), answers(converted, array)["y"])


def test_rows_may_be_multiplied_and_joined(block_graph, answers):
    net = Function(lambda F, x: F.concat(F.reshape(x, (-3, 0)), F.ones((2, 6)), dim=0))
    graph = block_graph(net, noise(2, 4, 6))
    converted = convert(graph, [(2, 4, 6)], ["x"], ["y"])
    assert tensors(converted) == {"x": ["N", 4, 6], "y": ["4*N+2", 6]}
    array = noise(3, 4, 6)
    close(np.concatenate([array.reshape(12, 6), np.ones((2, 6))]), answers(converted, array)["y"])


def test_a_shape_may_follow_the_rows_in_any_way(block_graph, answers):
    """Four for each and two more, in an array that has nothing else of the input."""
    net = Function(
        lambda F, x: F.ones_like(F.concat(F.reshape(x, (-3, 0)), F.ones((2, 6)), dim=0)) * 3
    )
    graph = block_graph(net, noise(2, 4, 6))
    converted = convert(graph, [(2, 4, 6)], ["x"], ["y"])
    assert tensors(converted)["y"] == ["4*N+2", 6]
    for rows in (1, 3):
        given = answers(converted, noise(rows, 4, 6))["y"]
        assert given.tolist() == np.full((4 * rows + 2, 6), 3).tolist()


# --- constants ---


def test_what_depends_on_parameters_alone_becomes_a_constant(block_graph, answers):
    net = nn.HybridSequential()
    net.add(Function(lambda F, x: F.broadcast_mul(x, F.arange(1, 4).reshape((1, 3)))))
    graph = block_graph(net, noise(2, 3))
    converted = convert(graph, [(2, 3)], ["x"], ["y"])
    assert [node.op_type for node in converted.model.graph.node] == ["Mul", "Identity"]
    close(np.array([[1, 4, 9]], "f"), answers(converted, np.array([[1, 2, 3]], "f"))["y"])


# --- refused ---


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda F, x: F.erfinv(x), r"operator erfinv \(function\d+_erfinv0\) cannot be converted"),
        (lambda F, x: F.Dropout(x, mode="always"), "Dropout .* drops at each prediction, too"),
        (lambda F, x: x + F.random.uniform(shape=(2, 3)), "_random_uniform .* other values each"),
        (
            lambda F, x: F.Pooling(x.reshape((0, 1, 3)), kernel=(2,), pool_type="lp", p_value=2),
            "Pooling .* has pool_type lp",
        ),
        (
            lambda F, x: F.Crop(x.reshape((0, 3, 1, 1)), h_w=(1, 1), center_crop=True),
            "Crop .* cannot be converted to ONNX: ",
        ),
        (lambda F, x: F.LeakyReLU(x, act_type="rrelu"), "LeakyReLU .* has act_type rrelu"),
    ],
    ids=["unknown", "dropout", "random", "pooling", "mxnet.onnx", "rrelu"],
)
def test_what_cannot_be_converted_is_named(function, message, block_graph):
    graph = block_graph(Function(function), noise(2, 3))
    with pytest.raises(ModelError, match=message):
        convert(graph, [(2, 3)])


def test_a_converter_that_fails_is_named_by_its_operator(symbol_graph, monkeypatch):
    monkeypatch.setitem(translations.CONVERTERS, "tanh", lambda node, graph: {}["mode"])
    graph = symbol_graph(sym.tanh(data, name="squash"), data=(4, 5))
    with pytest.raises(ModelError, match=r"operator tanh \(squash\) cannot be .* ONNX: 'mode'"):
        convert(graph, [(4, 5)])


def test_an_int8_graph_is_refused_by_its_operator(block_graph):
    net = Function(
        lambda F, x: F.contrib.dequantize(*F.contrib.quantize_v2(x, out_type="int8")[:3])
    )
    graph = block_graph(net, noise(2, 3))
    with pytest.raises(ModelError, match="operator _contrib_quantize_v2 "):
        convert(graph, [(2, 3)])


def test_a_model_beyond_two_gibibytes_is_refused(symbol_graph, monkeypatch):
    module = sys.modules["mms_handler.models.onnx.convert"]  # convert itself is a function
    monkeypatch.setattr(module, "MAX_BYTES", 50)
    graph = symbol_graph(FC, data=(4, 5))
    with pytest.raises(ModelError, match="GiB of parameters; ONNX's files end at 2"):
        convert(graph, [(4, 5)])


def test_shapes_that_the_graph_does_not_take_are_refused(symbol_graph):
    graph = symbol_graph(FC, data=(4, 5))
    with pytest.raises(ModelError, match=r"infers no shapes from inputs of \(4, 7\)"):
        convert(graph, [(4, 7)])


@pytest.mark.filterwarnings("ignore:Cannot decide shape")
def test_an_argument_without_values_and_shape_is_named():
    graph = Graph(sym.broadcast_add(data, sym.var("other")), ("data",), (np.float32,), {}, mx.cpu())
    with pytest.raises(ModelError, match="other has no values, and MXNet does not infer its shape"):
        convert(graph, [(1, 2)])


def test_types_are_those_of_the_parameters(answers):
    """Not those of the input, which are places here; a parameter that is not used has no part."""
    table = np.array([[1.5, 2], [3, 1e-300]])
    parameters = {"table": mx.nd.array(table, dtype=np.float64), "more": mx.nd.ones(1)}
    graph = Graph(
        sym.take(sym.var("table", shape=(2, 2)), data),
        ("data",),
        (np.float32,),
        parameters,
        mx.cpu(),
    )
    converted = convert(graph, [(1,)], outputs=["y"])
    assert [output.dtype for output in converted.outputs] == [np.float64]
    given = answers(converted, np.array([1, 0, 1], "f"))["y"]
    assert given.dtype == np.float64
    assert given.tolist() == table[[1, 0, 1]].tolist()


def test_sparse_parameters_become_dense(answers):
    weight = mx.nd.array([[0, 0], [1, 2]]).tostype("row_sparse")
    symbol = sym.FullyConnected(data, num_hidden=2, no_bias=True, name="fc")
    graph = Graph(symbol, ("data",), (np.float32,), {"fc_weight": weight}, mx.cpu())
    outputs = answers(convert(graph, [(1, 2)]), np.array([[3, 4]], "f"))
    assert outputs["fc_output"].tolist() == [[0, 11]]
