"""Convert an operator by the function for it: one of this package, else that of mxnet.onnx.

The functions of mxnet.onnx are called as its own loop calls them.  Nothing is added to its table,
and its table's newest opset that they were written for is 13.
"""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any, NamedTuple, Sequence

import numpy as np
import onnx

from mms_handler.errors import ModelError
from mms_handler.models.onnx import arithmetic, heads, layers, pooling, recurrent
from mms_handler.models.onnx.builder import Builder
from mms_handler.models.onnx.nodes import Node

#: The newest opset for which mxnet 1.9.1 has functions, and the version of ONNX's format with it.
OPSET, IR_VERSION = 13, 7

CONVERTERS = {
    **arithmetic.CONVERTERS,
    **heads.CONVERTERS,
    **layers.CONVERTERS,
    **pooling.CONVERTERS,
    **recurrent.CONVERTERS,
}


def convert_node(node: Node, graph: Builder) -> Sequence[str]:
    """Add the ONNX nodes of an operator to a graph.

    Returns:
        The names of the outputs.

    Raises:
        ModelError: the operator cannot be converted; names it.
    """
    graph.begin(node.name)
    converter: Any = CONVERTERS.get(node.operator, _translated)
    try:
        names: Sequence[str] = converter(node, graph)
    except ModelError:
        raise
    except Exception as exc:  # an attribute that it does not know, for example
        text = re.sub(r"\s+", " ", str(exc)) or type(exc).__name__
        raise ModelError(f"{node} cannot be converted to ONNX: {text}") from exc
    if len(names) != len(node.outputs):
        raise ModelError(
            f"{node} cannot be converted to ONNX: it has {len(node.outputs)} outputs, the "
            f"converter makes {len(names)}"
        )
    return names


class _Known(NamedTuple):
    """What the functions of mxnet.onnx ask about an input."""

    name: str
    dtype: Any


def _translated(node: Node, graph: Builder) -> Sequence[str]:
    """Add what mxnet.onnx makes of an operator."""
    with warnings.catch_warnings():  # they use onnx.mapping, which is to be removed
        warnings.simplefilter("ignore")
        function = _function(node)
        initializers: list[Any] = []
        inputs = [[_Known(value.name, np.dtype(value.dtype))] for value in node.inputs]
        raw = {
            "op": node.operator,
            "name": node.name,
            "attrs": dict(node.attributes),
            "inputs": [[place, 0, 0] for place in range(len(inputs))],
        }
        result = function(
            raw,
            is_input=False,
            initializer=initializers,
            outputs_lookup=inputs,
            idx=node.place,
            opset_version=OPSET,
        )
    protos = result[0] if isinstance(result, tuple) else result
    nodes = [each for each in protos if isinstance(each, onnx.NodeProto)]
    for tensor in initializers:
        graph.add_tensor(tensor)
    graph.nodes.extend(nodes)
    outputs = [name for each in nodes for name in each.output]
    graph.taken.update(outputs, (tensor.name for tensor in initializers))
    places = [node.name, *(f"{node.name}{place}" for place in range(len(node.outputs)))]
    return [name for name in places if name in outputs]


def _function(node: Node) -> Any:
    """The function of mxnet.onnx for an operator.

    Raises:
        ModelError: it has none.
    """
    importlib.import_module("mxnet.onnx")  # fills the table
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    for opset in (OPSET, 12):
        function = MXNetGraph.registry_.get(opset, {}).get(node.operator)
        if function:
            return function
    raise ModelError(f"{node} cannot be converted to ONNX: there is no converter for it")
