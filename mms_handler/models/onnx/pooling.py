"""Convert Pooling, in any layout and with any border.

Source: mxnet 1.9.1, src/operator/nn/pool.h.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Sequence

import numpy as np

from mms_handler.errors import ModelError
from mms_handler.models.onnx.builder import Builder
from mms_handler.models.onnx.nodes import Node


class _Window(NamedTuple):
    """The windows along one dimension."""

    size: int
    kernel: int
    stride: int
    pad: int
    outputs: int

    @property
    def end(self) -> int:
        """Padding behind the last number, so that ONNX finds as many windows."""
        return max(0, (self.outputs - 1) * self.stride + self.kernel - self.size - self.pad)

    def lengths(self) -> list[int]:
        """How many numbers MXNet counts in each window: as far as the padding reaches."""
        starts = [place * self.stride - self.pad for place in range(self.outputs)]
        return [min(start + self.kernel, self.size + self.pad) - start for start in starts]


def pooling(node: Node, graph: Builder) -> list[str]:
    """Pooling: max, avg or sum, of windows or of all."""
    kind = node.text("pool_type", "max")
    if kind not in ("max", "avg", "sum"):
        raise ModelError(f"{node} has pool_type {kind}")
    rank = node.inputs[0].rank
    layout = node.text("layout", "NC")
    last = layout.endswith("C") and layout != "NC"
    data = node.inputs[0].name
    if last:  # ONNX has the channels in front
        data = graph.op("Transpose", data, perm=[0, rank - 1, *range(1, rank - 1)])
    if node.flag("global_pool"):
        pooled = _all(kind, data, rank, graph)
    else:
        pooled = _windows(node, kind, data, slice(1, -1) if last else slice(2, None), graph)
    if last:
        pooled = graph.op("Transpose", pooled, perm=[0, *range(2, rank), 1])
    return [pooled]


def _all(kind: str, data: str, rank: int, graph: Builder) -> str:
    if kind == "sum":
        return graph.op("ReduceSum", data, graph.constant(list(range(2, rank))), keepdims=1)
    return graph.op("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", data)


def _windows(node: Node, kind: str, data: str, sides: slice, graph: Builder) -> str:
    windows = _along(node, sides)
    shape: Any = {
        "kernel_shape": [window.kernel for window in windows],
        "strides": [window.stride for window in windows],
        "pads": [*(window.pad for window in windows), *(window.end for window in windows)],
    }
    if kind == "max":
        return graph.op("MaxPool", data, **shape)
    with_padding = kind == "sum" or node.flag("count_include_pad", True)
    mean = graph.op("AveragePool", data, count_include_pad=int(with_padding), **shape)
    size = math.prod(window.kernel for window in windows)
    if not with_padding:
        return mean
    dtype = node.inputs[0].dtype
    if kind == "sum":
        return graph.op("Mul", mean, graph.constant(size, dtype))
    if all(window.end <= window.pad for window in windows):
        return mean
    counts = _outer([window.lengths() for window in windows])
    return graph.op("Mul", mean, graph.constant(size / counts, dtype))


def _along(node: Node, sides: slice) -> list[_Window]:
    sizes = [length.fixed for length in node.inputs[0].sides[sides]]
    counts = [length.fixed for length in node.outputs[0].sides[sides]]
    ones = (1,) * len(sizes)
    kernel, stride = node.wholes("kernel", ones), node.wholes("stride", ones)
    pad = node.wholes("pad", (0,) * len(sizes))
    return list(map(_Window, sizes, kernel, stride, pad, counts))


def _outer(lengths: Sequence[Sequence[int]]) -> Any:
    """How many numbers are in each window of several dimensions: (1, 1, *counts)."""
    product = np.ones((1, 1))
    for side in lengths:
        product = product[..., None] * np.array(side)
    return product


CONVERTERS = {"Pooling": pooling}
