"""recurrent: which inputs of a graph are states of its recurrent layers."""

from __future__ import annotations

import pytest

from mms_handler.models.onnx.nodes import Node, Value
from mms_handler.models.onnx.recurrent import states


def node(operator, inputs, outputs):
    some = [[Value(name, (), "f") for name in names.split()] for names in (inputs, outputs)]
    return Node(0, operator, operator, {}, *some)


RESHAPING = [
    *("_copy", "Concat", "expand_dims", "Reshape", "slice", "slice_axis", "SliceChannel"),
    *("squeeze", "stack", "SwapAxis", "transpose"),
]


def test_what_a_layer_gets_beside_its_data_and_weights():
    assert states([node("RNN", "data weights h c", "y")]) == {"h", "c"}
    assert states([node("Dense", "data weights h c", "y")]) == set()


@pytest.mark.parametrize("operator", RESHAPING)
def test_a_state_may_come_in_another_shape(operator):
    nodes = [node(operator, "a b", "h other"), node("RNN", "data weights h", "y")]
    assert states(nodes) == {"h", "a", "b"}


@pytest.mark.parametrize("operator", ["FullyConnected", "broadcast_add", "Activation"])
def test_what_is_computed_is_a_state_alone(operator):
    nodes = [node(operator, "a", "h"), node("RNN", "data weights h", "y")]
    assert states(nodes) == {"h"}


def test_through_several_operators_and_for_several_layers():
    nodes = [
        node("transpose", "a", "b"),
        node("transpose", "data", "turned"),
        node("Reshape", "b", "h"),
        node("RNN", "turned weights h", "y"),
        node("RNN", "y weights k", "z"),
    ]
    assert states(nodes) == {"a", "b", "h", "k"}
