"""Convert RNN, MXNet's fused recurrent layers: an ONNX layer for each.

Source: mxnet 1.9.1, src/operator/rnn-inl.h, for the order of the parameters; ONNX's LSTM, GRU and
RNN, opset 13, for that of the gates.
"""

from __future__ import annotations

from typing import Any, Iterator, NamedTuple, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from mms_handler.errors import ModelError
from mms_handler.models.onnx.builder import Builder
from mms_handler.models.onnx.nodes import Node
from mms_handler.models.onnx.shapes import Length

Array = npt.NDArray[Any]


class _Mode(NamedTuple):
    """A kind of layer: ONNX's operator, MXNet's gates in ONNX's order, further attributes."""

    operator: str
    gates: Sequence[int]
    attributes: Sequence[Tuple[str, Any]] = ()


_MODES = {
    "lstm": _Mode("LSTM", (0, 3, 1, 2)),  # in, forget, cell, out -> in, out, forget, cell
    "gru": _Mode("GRU", (1, 0, 2), [("linear_before_reset", 1)]),  # reset, update -> update, reset
    "rnn_tanh": _Mode("RNN", (0,), [("activations", ["Tanh"])]),
    "rnn_relu": _Mode("RNN", (0,), [("activations", ["Relu"])]),
}

#: Operators that hand numbers on as they are, in another shape.
_RESHAPING = {
    "_copy",
    "Concat",
    "expand_dims",
    "Reshape",
    "slice",
    "slice_axis",
    "SliceChannel",
    "squeeze",
    "stack",
    "SwapAxis",
    "transpose",
}

_REFUSED = ("use_sequence_length", "projection_size", "lstm_state_clip_min", "lstm_state_clip_nan")


def rnn(node: Node, graph: Builder) -> list[str]:
    """RNN: one or more layers, in one direction or both."""
    for name in _REFUSED:
        if node.text(name, "False") != "False":
            raise ModelError(f"{node} has {name}")
    if node.inputs[1].constant is None:
        raise ModelError(f"{node} has weights that depend on an input")
    mode, layers = _MODES[node.text("mode")], node.whole("num_layers", 1)
    directions = 2 if node.flag("bidirectional") else 1
    hidden, data = node.whole("state_size", 0), node.inputs[0].name
    time, rows, width = node.inputs[0].sides
    weights = _weights(node.inputs[1].constant, mode, layers, directions, width.fixed, hidden)
    attributes: dict[str, Any] = dict(mode.attributes)
    if directions == 2:
        attributes["direction"] = "bidirectional"
        if "activations" in attributes:
            attributes["activations"] = attributes["activations"] * 2
    ends: list[list[str]] = []
    for layer, arrays in enumerate(weights):
        states = [
            _part(state.name, layer * directions, directions, graph) for state in node.inputs[2:]
        ]
        constants = [graph.constant(array, array.dtype) for array in arrays]
        data, *last = graph.ops(
            mode.operator,
            len(states) + 1,
            data,
            *constants,
            "",
            *states,
            hidden_size=hidden,
            **attributes,
        )
        ends.append(last)
        data = graph.op("Transpose", data, perm=[0, 2, 1, 3])  # (time, rows, directions, hidden)
        data = graph.reshape(data, [time, rows, Length(directions * hidden)])
    if len(node.outputs) == 1:
        return [data]
    return [data, *(_joined(parts, graph) for parts in zip(*ends))]


def states(nodes: Sequence[Node]) -> set[str]:
    """The names of what recurrent layers get as their states, perhaps in another shape."""
    names: set[str] = set()
    for node in reversed(nodes):
        if node.operator == "RNN":
            names.update(value.name for value in node.inputs[2:])
        elif node.operator in _RESHAPING and any(value.name in names for value in node.outputs):
            names.update(value.name for value in node.inputs)
    return names


def _weights(
    parameters: Array, mode: _Mode, layers: int, directions: int, width: int, hidden: int
) -> Iterator[tuple[Array, Array, Array]]:
    """For each layer ONNX's W, R and B, a part for each direction.

    MXNet has all weights in one vector, and all biases behind them.
    """
    gates = len(mode.gates)
    biases = parameters[-layers * directions * 2 * gates * hidden :]
    biases = biases.reshape(layers, directions, 2, gates, hidden)[:, :, :, list(mode.gates)]
    start = 0
    for layer in range(layers):
        parts = []
        for _ in range(directions):
            for columns in (width, hidden):
                size = gates * hidden * columns
                part = parameters[start : start + size].reshape(gates, hidden, columns)
                parts.append(part[list(mode.gates)].reshape(gates * hidden, columns))
                start += size
        width = directions * hidden
        yield np.stack(parts[::2]), np.stack(parts[1::2]), biases[layer].reshape(directions, -1)


def _part(state: str, start: int, count: int, graph: Builder) -> str:
    """The states of one layer."""
    ends = [graph.constant([start]), graph.constant([start + count]), graph.constant([0])]
    return graph.op("Slice", state, *ends)


def _joined(parts: Sequence[str], graph: Builder) -> str:
    return graph.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


CONVERTERS = {"RNN": rnn}
