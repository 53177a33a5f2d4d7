"""Convert a graph to ONNX: opset 13, any number of rows, the names kept.

symbol ──infer──▶ shapes, types ──▶ nodes, constants ──converters──▶ onnx.ModelProto
"""

from __future__ import annotations

from typing import Any, FrozenSet, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
import onnx
from onnx import helper

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.onnx.arithmetic import fill
from mms_handler.models.onnx.builder import Builder
from mms_handler.models.onnx.nodes import Value, nodes_of
from mms_handler.models.onnx.recurrent import states
from mms_handler.models.onnx.shapes import FixedRows, Inferred, Lengths, Rows, infer
from mms_handler.models.onnx.translations import IR_VERSION, OPSET, convert_node

#: Bytes beyond which protobuf writes no message.
MAX_BYTES = 2**31 - 1


class Tensor(NamedTuple):
    """An input or an output in ONNX."""

    name: str
    shape: Lengths
    dtype: Any


class Converted(NamedTuple):
    """A graph in ONNX.

    Fields:
        model: the ``onnx.ModelProto``.
        rows: where the rows are in the inputs.
        inputs, outputs: what it takes and gives.
        states: the names of the inputs that are states of recurrent layers.
    """

    model: Any
    rows: Rows
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    states: FrozenSet[str]


def convert(
    graph: Graph,
    shapes: Sequence[Sequence[int]],
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Converted:
    """Convert a graph; it is not proved.

    Args:
        graph: of a Module, or of a HybridBlock.
        shapes: of the inputs, in a call that works.  Their number of rows becomes free.
        inputs: names of the inputs in ONNX; (): the graph's.
        outputs: likewise.

    Raises:
        ModelError: an operator cannot be converted, which is named; or the model is too large.
    """
    mx.nd.waitall()  # a convolution under way changes its weights' layout, and may be read halfway
    inputs, outputs = inputs or graph.names, outputs or graph.symbol.list_outputs()
    try:
        return _converted(graph, infer(graph, shapes), inputs, outputs)
    except FixedRows:
        return _converted(graph, infer(graph, shapes, free=False), inputs, outputs)


def _converted(
    graph: Graph, inferred: Inferred, inputs: Sequence[str], outputs: Sequence[str]
) -> Converted:
    taken = {*inputs, *outputs}
    nodes = nodes_of(graph, inferred, inputs, taken)
    builder = Builder(taken)
    lengths = inferred.rows.lengths()
    if inferred.rows.free:
        place = next(i for i, axis in enumerate(inferred.rows.axes) if axis is not None)
        builder.count_rows(inputs[place], inferred.rows.axes[place] or 0)
    names = {value.name: value.name for value in nodes.inputs}
    _add_constants(nodes, builder)
    for value in nodes.zeros:
        if value.shape:
            builder.begin(value.name)
            names[value.name] = fill(value.shape, value.dtype, 0, builder)
    for node in nodes.nodes:
        known = node._replace(inputs=[_named(value, names) for value in node.inputs])
        tensors = convert_node(known, builder)
        names.update(zip((value.name for value in node.outputs), tensors))
    builder.begin("outputs")
    for value, name in zip(nodes.outputs, outputs):
        builder.nodes.append(helper.make_node("Identity", [_named(value, names).name], [name]))
    taking = tuple(map(Tensor, inputs, lengths, graph.dtypes))
    giving = tuple(
        Tensor(name, value.sides, value.dtype) for name, value in zip(outputs, nodes.outputs)
    )
    model = _model(builder, taking, giving)
    return Converted(
        model, inferred.rows, taking, giving, frozenset(states(nodes.nodes).intersection(inputs))
    )


def _named(value: Value, names: Any) -> Value:
    if value.constant is not None:
        return value
    if value.name not in names:
        raise ModelError(f"{value.name} has no values, and MXNet does not infer its shape")
    return value._replace(name=names[value.name])


def _add_constants(nodes: Any, builder: Builder) -> None:
    values = [value for node in nodes.nodes for value in node.inputs]
    for value in (*values, *nodes.outputs):
        if value.constant is not None:
            builder.keep(value.name, value.constant)


def _model(builder: Builder, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Any:
    nodes, constants = builder.finish([tensor.name for tensor in outputs])
    size = sum(tensor.ByteSize() for tensor in constants)
    if size > MAX_BYTES:
        raise ModelError(
            f"the model has {size / 2**30:.1f} GiB of parameters; ONNX's files end at 2"
        )
    graph = helper.make_graph(
        nodes, "model", list(map(_info, inputs)), list(map(_info, outputs)), constants
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="mms-handler")
    model.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as exc:  # its own, and those of shape inference
        raise ModelError(f"the ONNX graph is not valid: {exc}") from exc
    return model


def _info(tensor: Tensor) -> Any:
    sides = [str(side) if side.times else side.fixed for side in tensor.shape]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, element, sides)
