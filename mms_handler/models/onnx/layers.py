"""Convert the layers that mxnet.onnx refuses, or gets wrong."""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

from mms_handler.errors import ModelError
from mms_handler.models.onnx.builder import Builder
from mms_handler.models.onnx.heads import unchanged
from mms_handler.models.onnx.nodes import Node, Value
from mms_handler.models.onnx.shapes import Length


def dense(node: Node, graph: Builder) -> list[str]:
    """FullyConnected: of all but the first dimension, which is the default, or of the last."""
    data, weight, *bias = node.inputs
    name, sides = data.name, node.outputs[0].sides
    if data.rank != 2:
        columns = weight.sides[1]
        rows = data.sides[0] if node.flag("flatten", True) else _product(data.sides[:-1])
        name = graph.reshape(name, [rows, columns])
    product = graph.op("Gemm", name, weight.name, *_names(bias), transB=1)
    return [product if len(sides) == 2 else graph.reshape(product, sides)]


def _product(lengths: Sequence[Length]) -> Length:
    fixed = math.prod(length.fixed or length.times for length in lengths)
    free = [length for length in lengths if length.times]
    if not free:
        return Length(fixed)
    if len(free) > 1 or free[0].fixed:
        raise ModelError("a product of dimensions does not follow the number of rows")
    return Length(0, fixed)


def convolution(node: Node, graph: Builder) -> list[str]:
    """Convolution of one to three dimensions, with the channels in front."""
    layout = node.text("layout", "NC")
    if not layout.startswith("NC"):
        raise ModelError(f"{node} has the layout {layout}")
    return [graph.op("Conv", *_names(node.inputs), **_windows(node))]


def deconvolution(node: Node, graph: Builder) -> list[str]:
    """Deconvolution, with the channels in front."""
    layout = node.text("layout", "NC")
    if not layout.startswith("NC") or node.wholes("target_shape"):
        raise ModelError(f"{node} has the layout {layout} or a target_shape")
    windows = _windows(node)
    adjusted = node.wholes("adj", (0,) * len(windows["strides"]))
    return [graph.op("ConvTranspose", *_names(node.inputs), output_padding=adjusted, **windows)]


def _windows(node: Node) -> Any:
    kernel = node.wholes("kernel")
    pad = node.wholes("pad", (0,) * len(kernel))
    return {
        "kernel_shape": kernel,
        "strides": node.wholes("stride", (1,) * len(kernel)),
        "dilations": node.wholes("dilate", (1,) * len(kernel)),
        "pads": pad * 2,
        "group": node.whole("num_group", 1),
    }


def _names(values: Sequence[Value]) -> list[str]:
    return [value.name for value in values]


def embedding(node: Node, graph: Builder) -> list[str]:
    """Embedding: an index beyond the table is that of its end, as in MXNet."""
    indices, table = node.inputs
    last = table.sides[0].fixed - 1
    name = graph.op("Floor", indices.name) if indices.dtype.kind == "f" else indices.name
    name = graph.op("Cast", name, to=_INT64)
    name = graph.op("Clip", name, graph.constant(0), graph.constant(last))
    return [graph.op("Gather", table.name, name, axis=0)]


_INT64 = 7  # TensorProto.INT64


# --- normalization ---------------------------------------------------------------------------


def batch_norm(node: Node, graph: Builder) -> list[str]:
    """BatchNorm with the means of the training; ``fix_gamma``, the default, ignores gamma."""
    if len(node.outputs) > 1:
        raise ModelError(f"{node} gives the mean and the variance, too")
    data, *parameters = node.inputs
    arrays = [value.constant for value in parameters]
    if any(array is None for array in arrays):
        raise ModelError(f"{node} has parameters that depend on an input")
    gamma, beta, mean, variance = map(np.asarray, arrays)
    names = _names(parameters)
    if node.flag("fix_gamma", True):
        gamma = np.ones_like(gamma)
        names[0] = graph.constant(gamma, gamma.dtype)
    epsilon = node.number("eps", 1e-3)
    axis = node.whole("axis", 1) % data.rank
    if axis == 1:
        return [graph.op("BatchNormalization", data.name, *names, epsilon=epsilon)]
    scale = gamma / np.sqrt(variance.astype(np.float64) + epsilon)
    name = graph.op("Sub", data.name, _along(mean, axis, data, graph))
    name = graph.op("Mul", name, _along(scale, axis, data, graph))
    return [graph.op("Add", name, _along(beta, axis, data, graph))]


def _along(array: Any, axis: int, data: Value, graph: Builder) -> str:
    """A constant with a number for each place along a dimension of ``data``."""
    shape = [1] * data.rank
    shape[axis] = -1
    return graph.constant(array.reshape(shape), data.dtype)


def layer_norm(node: Node, graph: Builder) -> list[str]:
    """LayerNorm along one dimension."""
    if len(node.outputs) > 1:
        raise ModelError(f"{node} gives the mean and the deviation, too")
    data, gamma, beta = node.inputs
    axis = node.whole("axis", -1) % data.rank
    normal = _normalized(data.name, [axis], node.number("eps", 1e-5), data, graph)
    sides = [Length(1)] * data.rank
    sides[axis] = data.sides[axis]
    scaled = graph.op("Mul", normal, graph.reshape(gamma.name, sides))
    return [graph.op("Add", scaled, graph.reshape(beta.name, sides))]


def group_norm(node: Node, graph: Builder) -> list[str]:
    """GroupNorm: the channels of a group are normalized together."""
    if len(node.outputs) > 1:
        raise ModelError(f"{node} gives the mean and the deviation, too")
    data, gamma, beta = node.inputs
    rows, channels, *others = data.sides
    groups = node.whole("num_groups", 1)
    size = channels.fixed // groups
    parts = graph.reshape(data.name, [rows, Length(groups), Length(size), *others])
    axes = list(range(2, data.rank + 1))
    normal = _normalized(parts, axes, node.number("eps", 1e-5), data, graph)
    of_groups = gamma.sides[0].fixed == groups and groups != channels.fixed
    if not of_groups:
        normal = graph.reshape(normal, data.sides)
    ones = [Length(1)] * len(others)
    sides = [Length(1), gamma.sides[0], *([Length(1)] if of_groups else []), *ones]
    scaled = graph.op("Mul", normal, graph.reshape(gamma.name, sides))
    sum_ = graph.op("Add", scaled, graph.reshape(beta.name, sides))
    return [graph.reshape(sum_, data.sides) if of_groups else sum_]


def _normalized(name: str, axes: Sequence[int], epsilon: float, data: Value, graph: Builder) -> str:
    """Less the mean, by the deviation."""
    centred = graph.op("Sub", name, graph.op("ReduceMean", name, axes=list(axes)))
    variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes=list(axes))
    deviation = graph.op("Sqrt", graph.op("Add", variance, graph.constant(epsilon, data.dtype)))
    return graph.op("Div", centred, deviation)


def l2_normalization(node: Node, graph: Builder) -> list[str]:
    """L2Normalization: of each row, of the channels, or of each channel."""
    data = node.inputs[0]
    axes = {
        "instance": list(range(1, data.rank)),
        "channel": [1],
        "spatial": list(range(2, data.rank)),
    }[node.text("mode", "instance")]
    squares = graph.op("Mul", data.name, data.name)
    total = graph.op("ReduceSum", squares, graph.constant(axes), keepdims=1)
    epsilon = graph.constant(node.number("eps", 1e-10), data.dtype)
    return [graph.op("Div", data.name, graph.op("Sqrt", graph.op("Add", total, epsilon)))]


def local_response_norm(node: Node, graph: Builder) -> list[str]:
    """LRN: each number by its neighbours' in other channels."""
    options = {
        "size": node.whole("nsize", 0),
        "alpha": node.number("alpha", 1e-4),
        "beta": node.number("beta", 0.75),
        "bias": node.number("knorm", 2),
    }
    return [graph.op("LRN", node.inputs[0].name, **options)]


# --- activations -----------------------------------------------------------------------------


def leaky_relu(node: Node, graph: Builder) -> list[str]:
    """LeakyReLU: leaky, elu, selu, gelu, and prelu with its slopes."""
    data, kind = node.inputs[0], node.text("act_type", "leaky")
    slope = node.number("slope", 0.25)
    if kind == "prelu":
        return [graph.op("PRelu", data.name, _slopes(node.inputs[1], data, graph))]
    if kind == "gelu":
        ratio = graph.op("Div", data.name, graph.constant(math.sqrt(2), data.dtype))
        doubled = graph.op("Add", graph.op("Erf", ratio), graph.constant(1, data.dtype))
        half = graph.op("Mul", data.name, graph.constant(0.5, data.dtype))
        return [graph.op("Mul", half, doubled)]
    if kind == "selu":
        return [graph.op("Selu", data.name)]
    if kind not in ("elu", "leaky"):
        raise ModelError(f"{node} has act_type {kind}")
    return [graph.op("Elu" if kind == "elu" else "LeakyRelu", data.name, alpha=slope)]


def _slopes(slopes: Value, data: Value, graph: Builder) -> str:
    """A slope for each channel, or one for all."""
    return graph.reshape(slopes.name, [slopes.sides[0], *[Length(1)] * (data.rank - 2)])


def dropout(node: Node, graph: Builder) -> list[str]:
    """Dropout, which only training has."""
    if node.text("mode", "training") != "training":
        raise ModelError(f"{node} drops at each prediction, too")
    return unchanged(node, graph)


CONVERTERS = {
    "FullyConnected": dense,
    "Convolution": convolution,
    "Deconvolution": deconvolution,
    "Embedding": embedding,
    "BatchNorm": batch_norm,
    "LayerNorm": layer_norm,
    "GroupNorm": group_norm,
    "L2Normalization": l2_normalization,
    "LRN": local_response_norm,
    "LeakyReLU": leaky_relu,
    "Dropout": dropout,
}
