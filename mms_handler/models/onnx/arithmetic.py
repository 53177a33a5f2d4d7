"""Convert what moves numbers or computes with one: the shapes are known, so each takes one node."""

from __future__ import annotations

import functools
import math
from typing import Any, Callable

import numpy as np
from onnx import helper

from mms_handler.models.onnx.builder import Builder
from mms_handler.models.onnx.nodes import Node
from mms_handler.models.onnx.shapes import ROWS, FixedRows

Converter = Callable[[Node, Builder], "list[str]"]


def reshape(node: Node, graph: Builder) -> list[str]:
    """Anything that only changes the shape.

    Raises:
        FixedRows: it takes one number of rows; MXNet infers a shape for any.
    """
    data, result = node.inputs[0].sides, node.outputs[0].sides
    for rows in ROWS:
        if math.prod(side.of(rows) for side in data) != math.prod(s.of(rows) for s in result):
            raise FixedRows(f"{node} takes one number of rows")
    return [graph.reshape(node.inputs[0].name, node.outputs[0].sides)]


def transpose(node: Node, graph: Builder) -> list[str]:
    axes = node.wholes("axes", range(node.inputs[0].rank)[::-1])
    return [graph.op("Transpose", node.inputs[0].name, perm=axes)]


def swap_axes(node: Node, graph: Builder) -> list[str]:
    rank = node.inputs[0].rank
    first, second = node.whole("dim1", 0) % rank, node.whole("dim2", 0) % rank
    axes = list(range(rank))
    axes[first], axes[second] = second, first
    return [graph.op("Transpose", node.inputs[0].name, perm=axes)]


def expand(node: Node, graph: Builder) -> list[str]:
    """Anything that repeats numbers along dimensions of length one."""
    return [graph.op("Expand", node.inputs[0].name, graph.shape(node.outputs[0].sides))]


def filled(number: float, node: Node, graph: Builder) -> list[str]:
    """An array of one number."""
    output = node.outputs[0]
    return [fill(output.sides, output.dtype, number, graph)]


def fill(sides: Any, dtype: Any, number: float, graph: Builder) -> str:
    """A tensor of one number, whose shape may follow the rows."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    value = helper.make_tensor("value", element, [1], [number])
    return graph.op("ConstantOfShape", graph.shape(sides), value=value)


def with_scalar(operator: str, scalar_first: bool, node: Node, graph: Builder) -> list[str]:
    """An operator of an array and a number."""
    data = node.inputs[0]
    names = [data.name, graph.constant(node.number("scalar", 1), data.dtype)]
    return [graph.op(operator, *(names[::-1] if scalar_first else names))]


def cast(node: Node, graph: Builder) -> list[str]:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(node.outputs[0].dtype))
    return [graph.op("Cast", node.inputs[0].name, to=element)]


_SCALARS = {
    "plus": ("Add", False),
    "minus": ("Sub", False),
    "rminus": ("Sub", True),
    "mul": ("Mul", False),
    "div": ("Div", False),
    "rdiv": ("Div", True),
    "power": ("Pow", False),
    "rpower": ("Pow", True),
    "maximum": ("Max", False),
    "minimum": ("Min", False),
}

CONVERTERS: dict[str, Converter] = {
    **dict.fromkeys(["Reshape", "Flatten", "expand_dims", "squeeze", "reshape_like"], reshape),
    "transpose": transpose,
    "SwapAxis": swap_axes,
    **dict.fromkeys(["broadcast_to", "broadcast_axis", "broadcast_like"], expand),
    **dict.fromkeys(["_zeros", "zeros_like"], functools.partial(filled, 0)),
    **dict.fromkeys(["_ones", "ones_like"], functools.partial(filled, 1)),
    **dict.fromkeys(["Cast", "amp_cast"], cast),
    **{
        f"_{name}_scalar": functools.partial(with_scalar, *operator)
        for name, operator in _SCALARS.items()
    },
}
